"""Scored cases of a test set, which metrics, figures and tables read: classified images, or segmented volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from medloop.documents.evaluation import OperatingPoint
from medloop.documents.split import Task
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.intervals.estimate import Floats, Sample, subset
from medloop.evaluation.label_maps import Packed
from medloop.evaluation.operating_points import called
from medloop.imaging.metrics import ClassScores

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]
Unit = Literal["mm", "voxels"]


@dataclass(frozen=True)
class ScoredImages:
    """A classifier's answers to N images of C classes."""

    task: ClassVar[Task] = "classification"
    units: ClassVar[Mapping[str, Literal[""]]] = {"": ""}
    cases: Sequence[HeldOut]
    classes: Sequence[str]
    truth: Integers
    """[N] class indices."""
    probabilities: Floats
    """[N, C]."""
    patients: Sequence[str]
    """The patient of each case; empty where patients are not known."""
    points: Sequence[OperatingPoint]
    """C thresholds."""

    @property
    def predicted(self) -> NDArray[np.intp]:
        """[N] indices of the most probable class."""
        predicted: NDArray[np.intp] = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def called(self) -> Mask:
        """[N, C]: the probability reaches the class's operating point."""
        return called(self.probabilities, self.points)

    @property
    def confusion(self) -> Integers:
        """Counts [C, C]: rows are the true class, columns the predicted one."""
        counts: Integers = confusion_matrix(self.truth, self.predicted, labels=range(len(self.classes)))
        return counts

    def subset(self, mask: Mask) -> ScoredImages:
        """The images that a mask [N] names."""
        return replace(
            self,
            cases=[case for case, inside in zip(self.cases, mask, strict=True) if inside],
            truth=self.truth[mask],
            probabilities=self.probabilities[mask],
            patients=subset(self.patients, mask),
        )


@dataclass(frozen=True)
class ScoredVolumes:
    """A segmentation model's answers to N volumes of K structures."""

    task: ClassVar[Task] = "segmentation"
    cases: Sequence[HeldOut]
    classes: Sequence[str]
    """Foreground classes."""
    unit: Unit
    """Of lengths: mm where every header says mm, voxels otherwise; of volumes then ml, else voxels."""
    tolerance: float
    """Of the surface Dice, in `unit`."""
    scores: Sequence[Sequence[ClassScores]]
    """N cases of K classes."""
    predictions: Sequence[Packed]
    patients: Sequence[str]
    """The patient of each case; empty where patients are not known."""

    def table(self, name: str) -> Floats:
        """One of the scores' numbers, [N, K]; NaN where it is defined for neither truth nor prediction."""
        values = [[float(getattr(scores, name)) for scores in case] for case in self.scores]
        return np.array(values, dtype=np.float64).reshape(len(self.cases), len(self.classes))

    def lesion_counts(self, name: str, k: int) -> NDArray[np.int64]:
        """A structure's lesions [N]: `num_true`, `num_missed`, `num_predicted` or `num_false`."""
        return np.array([getattr(case[k].lesions, name) for case in self.scores], dtype=np.int64)

    def sample(self, values: Floats, k: int) -> Sample:
        """Values [N] of a structure, NaN where neither truth nor prediction has it, with the failures' number."""
        return Sample(values, self.patients, int(np.isnan(values).sum()), int(self.failed[:, k].sum()))

    def subset(self, mask: Mask) -> ScoredVolumes:
        """The volumes that a mask [N] names."""
        kept = np.flatnonzero(mask).tolist()
        return replace(
            self,
            cases=[self.cases[i] for i in kept],
            scores=[self.scores[i] for i in kept],
            predictions=[self.predictions[i] for i in kept],
            patients=subset(self.patients, mask),
        )

    @property
    def units(self) -> Mapping[str, Literal["", "mm", "voxels", "ml"]]:
        """The unit of a metric without dimension, of a length and of a volume."""
        return {"": "", "length": self.unit, "volume": self.volume_unit}

    @property
    def volume_unit(self) -> Literal["ml", "voxels"]:
        """Of volumes."""
        return "ml" if self.unit == "mm" else "voxels"

    @property
    def dice(self) -> Floats:
        """[N, K]; NaN where the class is in neither truth nor prediction, 0 where it is in one alone."""
        return self.table("dice")

    @property
    def hd95(self) -> Floats:
        """[N, K] in `unit`; NaN as `dice`, the image's diagonal where the class is in one of the two alone."""
        return self.table("hd95")

    @property
    def present(self) -> Mask:
        """[N, K]: the truth holds the class."""
        return self.table("volume_truth") > 0

    @property
    def failed(self) -> Mask:
        """[N, K]: the class is in truth or prediction alone."""
        return self.table("failed") > 0


Scored = ScoredImages | ScoredVolumes

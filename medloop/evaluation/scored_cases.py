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
    """A classifier's predictions of N images of C classes."""

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
        """Index of the most probable class [N]."""
        predicted: NDArray[np.intp] = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def called(self) -> Mask:
        """True [N, C] if the probability reaches the class's operating point."""
        return called(self.probabilities, self.points)

    @property
    def confusion(self) -> Integers:
        """Counts [C, C]: rows are the true class, columns the predicted one."""
        counts: Integers = confusion_matrix(self.truth, self.predicted, labels=range(len(self.classes)))
        return counts

    def subset(self, mask: Mask) -> ScoredImages:
        """Return the images that a mask [N] selects."""
        return replace(
            self,
            cases=[case for case, inside in zip(self.cases, mask, strict=True) if inside],
            truth=self.truth[mask],
            probabilities=self.probabilities[mask],
            patients=subset(self.patients, mask),
        )


@dataclass(frozen=True)
class ScoredVolumes:
    """A segmentation model's predictions of N volumes with K structures."""

    task: ClassVar[Task] = "segmentation"
    cases: Sequence[HeldOut]
    classes: Sequence[str]
    """Foreground classes."""
    unit: Unit
    """Unit of lengths: mm if every header states mm, else voxels; volumes are in ml or voxels."""
    tolerance: float
    """Tolerance of the surface Dice in mm; NaN if `unit` is voxels: it isn't computed."""
    scores: Sequence[Sequence[ClassScores]]
    """N cases of K classes."""
    predictions: Sequence[Packed]
    patients: Sequence[str]
    """The patient of each case; empty where patients are not known."""

    def table(self, name: str) -> Floats:
        """Return a field of the scores as [N, K]; NaN if the structure is in neither truth nor prediction."""
        values = [[float(getattr(scores, name)) for scores in case] for case in self.scores]
        return np.array(values, dtype=np.float64).reshape(len(self.cases), len(self.classes))

    def lesion_counts(self, name: str, k: int) -> NDArray[np.int64]:
        """Return a structure's lesion counts [N]: `num_true`, `num_missed`, `num_predicted` or `num_false`."""
        return np.array([getattr(case[k].lesions, name) for case in self.scores], dtype=np.int64)

    def sample(self, values: Floats, k: int) -> Sample:
        """Make a sample of a structure's values [N], NaN if it is in neither truth nor prediction; count failures."""
        return Sample(values, self.patients, int(np.isnan(values).sum()), int(self.failed[:, k].sum()))

    def subset(self, mask: Mask) -> ScoredVolumes:
        """Return the volumes that a mask [N] selects."""
        selected = np.flatnonzero(mask).tolist()
        return replace(
            self,
            cases=[self.cases[i] for i in selected],
            scores=[self.scores[i] for i in selected],
            predictions=[self.predictions[i] for i in selected],
            patients=subset(self.patients, mask),
        )

    @property
    def units(self) -> Mapping[str, Literal["", "mm", "voxels", "ml"]]:
        """The unit of a metric without dimension, of a length and of a volume."""
        return {"": "", "length": self.unit, "volume": self.volume_unit}

    @property
    def volume_unit(self) -> Literal["ml", "voxels"]:
        """Unit of volumes."""
        return "ml" if self.unit == "mm" else "voxels"

    @property
    def dice(self) -> Floats:
        """Dice [N, K]; NaN if the class is in neither truth nor prediction, 0 if it is in only one of them."""
        return self.table("dice")

    @property
    def failed(self) -> Mask:
        """True [N, K] if the class is in only one of truth and prediction."""
        return self.table("failed") > 0


Scored = ScoredImages | ScoredVolumes

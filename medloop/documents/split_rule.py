"""The rule that divides patients: settings of the split step, arguments of the split job."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from medloop.documents.quantities import Positive
from medloop.documents.split import Split

MIN_PATIENTS = 10
"""Minimum number of test patients with which a score gets an interval."""
MIN_CALIBRATION_CASES = 10
"""Minimum of validation images; with fewer a classifier is not calibrated."""
MIN_CALIBRATION_PATIENTS = 5
"""Minimum of validation patients, if they are known; with fewer no thresholds are fitted: thresholds of one patient's
slices don't apply to others (docs/measurements.md)."""
SplitFraction = Annotated[float, Field(gt=0, lt=1)]


class Resampling(BaseModel, frozen=True, defer_build=True):
    """The voxel size on which a segmentation network is trained: what no volume may be too large for."""

    resample: bool = True
    """False: training resizes every volume to one shape."""
    spacing: tuple[Positive, Positive, Positive] | None = None
    """Voxel size in RAS; None: the median of the training volumes."""


MEDIAN = Resampling()
"""To the median of the training volumes: the default of training."""


class SplitRule(BaseModel, defer_build=True):
    """Fractions of the patients by split, and the treatment of files that can't be used."""

    train: SplitFraction = 0.7
    val: SplitFraction = 0.2
    test: SplitFraction = 0.1
    seed: int = Field(default=0, ge=0)
    on_invalid: Literal["fail", "quarantine"] = "fail"
    """A file that can't be used fails the step, or is left out and named in split.json."""
    layout: Literal["copy", "manifest"] = "copy"
    """Write pseudonymised copies; or manifests alone, which name the raw files."""

    @property
    def fractions(self) -> dict[Split, float]:
        """Share of the patients by split."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @model_validator(mode="after")
    def _shares_make_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, val and test must sum to 1, not {total:g}")
        return self

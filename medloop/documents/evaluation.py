"""evaluation.json: results of an evaluation, for the gate, the registry and Studio. Torch-free.

`multiclass_classification_metrics` and `segmentation_metrics` stand at the top, as SageMaker's model quality reports
have them (https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-model-quality-metrics.html), so that Studio
draws the first. Every number is finite; what isn't defined is left out, or null where the field says so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medloop.documents.file_names import EVALUATION_FILE
from medloop.documents.leakage import Leakage
from medloop.documents.reading import DocumentFile, Record

SCHEMA_FILE = Path(__file__).with_name("evaluation.schema.json")
DEFAULT_TOLERANCE = 2.0
"""Of the surface Dice, in mm: about what two people who outline an organ differ by (arXiv:1809.04430, 1 to 3 mm)."""


class _Record(Record):
    model_config = ConfigDict(allow_inf_nan=False)


class Interval(_Record):
    """A confidence interval over patients."""

    lower: float
    upper: float
    level: float = Field(description="0.95: the interval covers the truth in 95 of 100 test sets")
    method: str


class Score(_Record):
    """The main score."""

    name: str
    value: float = Field(ge=0, le=1, description="0 where the test set leaves it undefined; `notes` says so")
    interval: Interval | None = Field(description="null with fewer than 10 test patients, or patients not known")


class Gate(_Record):
    """Values that the pipeline's condition step compares; always finite."""

    score: float = Field(ge=0, le=1)
    margin: float = Field(ge=0, description="How much worse than the champion is still not worse, set in advance")
    margin_left: float = Field(description="What is left above -margin in the comparison; 0 with no champion")
    sufficient: Literal[0, 1] = Field(description="1: enough test patients (20) for a comparison of two models")
    num_patients: int = Field(
        ge=0, description="Test patients compared, or scored where no champion is; 0 where patients are not known"
    )
    champion: str = Field(description="ARN of the newest approved version, or empty")
    floor_left: float = Field(
        default=0.0, description="The least that a class is above its floor; negative: below it; 0 where none is set"
    )
    verdict: str = Field(default="", max_length=500, description="The comparison with the champion in one line")


class Comparison(_Record):
    """The candidate and an approved version, on test patients that neither was trained on."""

    role: Literal["champion", "first"] = Field(description="The newest approved version, or the oldest")
    model: str = Field(description="ARN")
    score_candidate: float | None = Field(default=None, description="null where nothing was compared; `note` says why")
    score_model: float | None = None
    difference: float | None = Field(default=None, description="Candidate minus model; Dice: mean over patients")
    lower_bound: float | None = Field(default=None, description="One-sided, 95 %, over patients")
    num_patients: int = Field(ge=0, description="Patients compared")
    num_cases: int = Field(ge=0, description="Their cases")
    classes: dict[str, float] = Field(default={}, description="Difference by class, where it is defined")
    power: float | None = Field(
        default=None, ge=0, le=1, description="Chance that a model just as good passes the margin with so many patients"
    )
    num_patients_needed: int | None = Field(default=None, description="For a power of 0.8, at the spread found here")
    note: str = Field(default="", description="Why nothing was compared")


class MetricValue(_Record):
    """One number in SageMaker's shape."""

    value: float
    standard_deviation: float = Field(ge=0, description="By bootstrap over patients; 0 where not estimated")


class ClassificationMetrics(BaseModel):
    """SageMaker's `multiclass_classification_metrics`: metrics by name, and the confusion matrix."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, MetricValue] = Field(init=False)

    confusion_matrix: dict[str, dict[str, int]] = Field(description="True class, then predicted class, to cases")


class Statistic(_Record):
    """One statistic of the test set, over all classes or for one."""

    name: str = Field(description="Such as auroc, sensitivity, dice, hd95; docs/evaluation.md defines each")
    class_name: str = Field(default="", description="Empty: over all classes")
    value: float | None = Field(description="null where it isn't defined; `note` says why")
    interval: Interval | None = None
    unit: Literal["", "mm", "voxels", "ml"] = ""
    num_patients: int | None = Field(description="Patients behind the value; null where patients are not known")
    num_cases: int = Field(ge=0, description="Cases (lesions for those of lesions) behind the value")
    num_excluded: int = Field(default=0, ge=0, description="Cases left out: nothing to score in truth or prediction")
    num_failures: int = Field(default=0, ge=0, description="Cases with truth or prediction alone, counted as worst")
    note: str = Field(default="", description="Why there is no value or interval, or how the value was found")


class ReliabilityBin(_Record):
    """Cases whose highest probability lies between two bounds."""

    lower: float
    upper: float
    mean_probability: float
    frequency: float = Field(description="Share of them whose most probable class is the true one")
    num_cases: int = Field(ge=1)


class CalibrationCurve(_Record):
    """Bins of predicted probability with the observed frequency of each, and the fitted temperature."""

    temperature: float | None = Field(description="Fitted on val; null: none was")
    bins: list[ReliabilityBin]


class OperatingPoint(_Record):
    """The probability from which a class is called, against the rest."""

    class_name: str
    threshold: float = Field(ge=0, le=1)
    source: Literal["val", "default"] = Field(description="Fitted on val and frozen, or 0.5")


class VolumeAgreement(_Record):
    """Bland and Altman's: volume predicted minus true, over cases."""

    class_name: str
    unit: Literal["ml", "voxels"]
    bias: float
    interval: Interval | None = Field(description="Of the bias, over patients")
    lower_limit: float = Field(description="95 % limits of agreement: bias minus 1.96 standard deviations")
    upper_limit: float
    mean_truth: float
    num_cases: int = Field(ge=1)


class LesionCounts(_Record):
    """Connected components of a class, found and not."""

    class_name: str
    num_true: int = Field(ge=0)
    num_missed: int = Field(ge=0, description="True ones that no predicted voxel touches")
    num_predicted: int = Field(ge=0)
    num_false: int = Field(ge=0, description="Predicted ones that touch no true voxel")


class Floor(_Record):
    """The minimum that a class must reach, set in advance."""

    class_name: str
    metric: str
    floor: float = Field(ge=0, le=1)
    value: float | None = Field(description="null where undefined, which is below any floor")


class Subgroup(_Record):
    """The score among patients who share an attribute's value."""

    attribute: str
    value: str
    score: float | None = Field(description="null where the subgroup leaves it undefined, or where it is hidden")
    interval: Interval | None = None
    num_patients: int
    num_cases: int
    hidden: bool = Field(
        default=False, description="Under 5 patients: no score is shown, so that no patient is singled out"
    )
    ranked: bool = Field(default=False, description="20 patients or more: enough to compare groups by")


class Data(_Record):
    """Data that was scored."""

    split_digest: str = Field(description="split.json's digest of the data")
    training_digest: str = Field(description="The digest of the data that the model was trained on")
    code_digest: str
    artefact_digest: str = Field(default="", description="SHA-256 of model.tar.gz; empty: its files were scored")
    model_digest: str = Field(default="", description="SHA-256 over the files of the model that are served")
    num_patients: int | None = Field(description="null where patients are not known")
    num_cases: int
    classes: dict[str, int] = Field(description="Test cases by true class; segmentation: cases that hold the class")
    num_quarantined: int
    leakage: Leakage


class Evaluation(_Record, DocumentFile):
    """The whole of evaluation.json."""

    FILE = EVALUATION_FILE
    FIX = "run the evaluate step again"

    version: int = 2
    task: Literal["classification", "segmentation"]
    score: Score
    gate: Gate
    multiclass_classification_metrics: ClassificationMetrics | None = None
    segmentation_metrics: dict[str, MetricValue] | None = None
    statistics: list[Statistic] = Field(default=[], description="All statistics with intervals and counts")
    calibration: CalibrationCurve | None = Field(default=None, description="Of a classifier")
    operating_points: list[OperatingPoint] = Field(default=[], description="Of a classifier, by class")
    volumes: list[VolumeAgreement] = Field(default=[], description="Of a segmentation model, by class")
    lesions: list[LesionCounts] = Field(default=[], description="Of a segmentation model, by class")
    floors: list[Floor] = Field(default=[], description="Those that were set")
    subgroups: list[Subgroup]
    data: Data
    comparisons: list[Comparison] = Field(default=[], description="With the champion, and with the first version")
    test_uses: int = Field(default=1, ge=1, description="Candidates scored on this test set, this one included")
    notes: list[str] = Field(description="What a reader must know to judge the numbers")

    def metrics(self) -> dict[str, MetricValue]:
        """Metrics in SageMaker's shape that are one number each, by name."""
        classification = self.multiclass_classification_metrics
        return self.segmentation_metrics or (classification.__pydantic_extra__ if classification else {})

    def content(self) -> dict[str, Any]:
        """The file's content; the other task's metrics are absent."""
        absent = {"multiclass_classification_metrics", "segmentation_metrics"}
        return self.model_dump(mode="json", exclude={name for name in absent if getattr(self, name) is None})

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(self.content(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

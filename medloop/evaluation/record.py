"""evaluation.json: what the gate, the registry and Studio read of an evaluation. Torch-free.

`multiclass_classification_metrics` and `segmentation_metrics` stand at the top, as SageMaker's model quality reports
have them (https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-model-quality-metrics.html), so that Studio
draws the first. Every number is finite; what isn't defined is left out, or null where the field says so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medloop.records import read_record

VERSION = 1
RECORD_FILE = "evaluation.json"
CASES_FILE = "cases.csv"
REPORT_FILE = "report.html"
SCHEMA_FILE = Path(__file__).with_name("evaluation.schema.json")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Interval(_Record):
    """A confidence interval over patients."""

    lower: float
    upper: float
    level: float = Field(description="0.95: the interval covers the truth in 95 of 100 test sets")
    method: str


class Score(_Record):
    """The main score."""

    name: Literal["macro_auroc", "mean_foreground_dice"]
    value: float = Field(ge=0, le=1, description="0 where the test set leaves it undefined; `notes` says so")
    interval: Interval | None = Field(description="null with fewer than 10 test patients, or patients not known")


class Gate(_Record):
    """What the pipeline's condition step compares; always finite."""

    score: float = Field(ge=0, le=1)
    margin: float = Field(ge=0, description="How much worse than the champion is still not worse, set beforehand")
    margin_left: float = Field(description="What is left above -margin in the comparison; 0 with no champion")
    sufficient: Literal[0, 1] = Field(description="1: enough test patients (20) for a comparison of two models")
    num_patients: int = Field(
        ge=0, description="Test patients compared, or scored where no champion is; 0 where patients are not known"
    )
    champion: str = Field(description="ARN of the newest approved version, or empty")
    verdict: str = Field(default="", max_length=500, description="The comparison with the champion in one line")


class Comparison(_Record):
    """The candidate beside an approved version, on test patients that neither was trained on."""

    role: Literal["champion", "first"] = Field(description="The newest approved version, or the oldest")
    model: str = Field(description="ARN")
    score_candidate: float | None = Field(default=None, description="null where nothing was compared; `note` says why")
    score_model: float | None = None
    difference: float | None = Field(default=None, description="Candidate less model; Dice: mean over patients")
    lower_bound: float | None = Field(default=None, description="One-sided, 95 %, over patients")
    num_patients: int = Field(ge=0, description="Patients compared")
    num_cases: int = Field(ge=0, description="Their cases")
    classes: dict[str, float] = Field(default={}, description="Difference by class, where it is defined")
    note: str = Field(default="", description="Why nothing was compared")


class Metric(_Record):
    """One number in SageMaker's shape."""

    value: float
    standard_deviation: float = Field(ge=0, description="By bootstrap over patients; 0 where not estimated")


class ClassificationMetrics(BaseModel):
    """SageMaker's `multiclass_classification_metrics`: metrics by name, and the confusion matrix."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Metric] = Field(init=False)

    confusion_matrix: dict[str, dict[str, int]] = Field(description="True class, then predicted class, to cases")


class Subgroup(_Record):
    """The score among patients who share an attribute's value."""

    attribute: str
    value: str
    score: float | None = Field(description="null where the subgroup leaves it undefined")
    num_patients: int
    num_cases: int


class Leakage(_Record):
    """Test patients that the model has seen; their cases were left out of every score."""

    status: Literal["none", "found", "unknown"]
    num_patients: int | None = Field(description="null where patients are not known")
    num_cases: int
    note: str


class Data(_Record):
    """What was scored."""

    split_digest: str = Field(description="split.json's digest of the data")
    training_digest: str = Field(description="The digest of the data that the model was trained on")
    code_digest: str
    num_patients: int | None = Field(description="null where patients are not known")
    num_cases: int
    classes: dict[str, int] = Field(description="Test cases by true class; segmentation: cases that hold the class")
    num_quarantined: int
    leakage: Leakage


class Evaluation(_Record):
    """The whole of evaluation.json."""

    version: int = VERSION
    task: Literal["classification", "segmentation"]
    score: Score
    gate: Gate
    multiclass_classification_metrics: ClassificationMetrics | None = None
    segmentation_metrics: dict[str, Metric] | None = None
    subgroups: list[Subgroup]
    data: Data
    comparisons: list[Comparison] = Field(default=[], description="With the champion, and with the first version")
    test_uses: int = Field(default=1, ge=1, description="Candidates scored on this test set, this one included")
    notes: list[str] = Field(description="What a reader must know to judge the numbers")

    def to_json(self) -> str:
        """The file's text; the other task's metrics are absent."""
        absent = {"multiclass_classification_metrics", "segmentation_metrics"}
        content = self.model_dump(mode="json", exclude={name for name in absent if getattr(self, name) is None})
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_evaluation(path: Path) -> Evaluation:
    """Read evaluation.json.

    Raises:
        DataError: The file is absent, malformed, or of a newer version than this code knows.
    """
    return read_record(Evaluation, path, version=VERSION, mend="run the evaluate step again")


def json_schema() -> dict[str, Any]:
    """The JSON schema of evaluation.json, of which evaluation.schema.json is the stored copy."""
    schema = Evaluation.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":  # python -m medloop.evaluation.record, after a change of the models
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")

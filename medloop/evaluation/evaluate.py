"""The evaluate job: score a model on the test set, and write evaluation.json, cases.csv and report.html."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medloop.container.metrics import report
from medloop.documents.champion import DEFAULT_MARGIN, NO_VERSION
from medloop.documents.evaluation import (
    ClassificationMetrics,
    Comparison,
    Data,
    Evaluation,
    Score,
)
from medloop.documents.file_names import CASES_FILE, EVALUATION_FILE, REGISTRATION_FILE, REPORT_FILE, SPLIT_FILE
from medloop.documents.leakage import Leakage
from medloop.documents.model import ModelRecord
from medloop.documents.split import SplitRecord
from medloop.documents.split_rule import MIN_PATIENTS
from medloop.errors import DataError, TargetError
from medloop.evaluation.cases import leave_out_seen, list_cases
from medloop.evaluation.champion_comparison import Candidate, ComparedVersion, compare, comparison_notes, make_gate
from medloop.evaluation.classification import score_images
from medloop.evaluation.csv_table import to_csv
from medloop.evaluation.floors import find_floors, floor_left, floors_of_classes, read_floors
from medloop.evaluation.model_scores import ModelScores
from medloop.evaluation.predictors import Loader, digests_of_model, load_predictor, require_task
from medloop.evaluation.registration import registration
from medloop.evaluation.report.page import render
from medloop.evaluation.report.training_curves import read_history
from medloop.evaluation.segmentation import score_volumes
from medloop.evaluation.subgroups import make_subgroups
from medloop.imaging.manifest import channel_folder
from medloop.imaging.patients import PATIENTS_FILE


class EvaluateArguments(BaseModel):
    """The job's arguments."""

    model_config = ConfigDict(extra="forbid")

    task: Literal["classification", "segmentation"]
    margin: float = Field(default=DEFAULT_MARGIN, ge=0, le=1, allow_inf_nan=False)
    """The difference from the champion that still counts as not worse."""
    deploy_mode: Literal["approval", "pipeline"] = "approval"
    """An approver decides about the deployment, or the pipeline deploys what passes the gate."""
    champion_arn: str = NO_VERSION
    """The newest Approved version; its files are in the input `champion`."""
    first_arn: str = NO_VERSION
    """The oldest Approved version, if it is another one; its files are in the input `first`."""
    test_uses: int | None = Field(default=None, ge=1)
    """Number of candidates that were scored on this test set, this one included."""
    surface_tolerance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Tolerance of the surface Dice of volumes, in mm; default 2, and no surface Dice where the unit is unknown."""
    length_unit: Literal["mm", "micron", "meter"] | None = None
    """Unit of lengths of volumes whose header states none; default: unknown, so lengths are in voxels."""
    floors: dict[str, Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]] = {}
    """The minimum AUROC or Dice by class; as arguments `--floor-1 CLASS=VALUE`, `--floor-2 CLASS=VALUE`, ..."""
    note: str = ""
    """A note to show with the score everywhere, such as the origin of the data."""

    @model_validator(mode="before")
    @classmethod
    def _read_floors(cls, values: dict[str, Any]) -> dict[str, Any]:
        return read_floors(values)


@dataclass(frozen=True)
class Assessment:
    """A scored model: the record, and the inputs of the table and the page."""

    evaluation: Evaluation
    scores: ModelScores
    model: ModelRecord
    split: SplitRecord


def evaluate(
    model: Path,
    test: Path,
    split: Path,
    output: Path,
    arguments: EvaluateArguments,
    *,
    champion: Path | None = None,
    first: Path | None = None,
    load: Loader = load_predictor,
) -> Evaluation:
    """Score a model and write evaluation.json, cases.csv and report.html; none is written unless all are ready.

    Args:
        model: Folder with model.tar.gz, or with its files.
        test: The split step's test folder.
        split: Folder with split.json.
        output: Where the three files go.
        arguments: The job's arguments.
        champion: Folder of the version `champion_arn`.
        first: Folder of the version `first_arn`.
        load: Makes a predictor of a model folder.

    Returns:
        The record of evaluation.json.

    Raises:
        DataError: A folder or file can't be used; the message names it.
        TargetError: `output` can't be written.
    """
    assessment = assess(model, test, split, arguments, champion=champion, first=first, load=load)
    page = render(assessment.evaluation, assessment.scores, assessment.model, assessment.split, read_history(model))
    record = assessment.evaluation.to_json()
    texts = registration(
        assessment.evaluation,
        assessment.split,
        assessment.model,
        record=record,
        report=page,
        test_uses=arguments.test_uses,
    )
    files = {CASES_FILE: to_csv(assessment.scores.cases), REPORT_FILE: page, EVALUATION_FILE: record}
    _write(output, files | {REGISTRATION_FILE: json.dumps(texts, indent=2) + "\n"})
    report(**{name: metric.value for name, metric in assessment.scores.metrics.items()})
    return assessment.evaluation


def assess(
    model: Path,
    test: Path,
    split: Path,
    arguments: EvaluateArguments,
    *,
    champion: Path | None = None,
    first: Path | None = None,
    load: Loader = load_predictor,
) -> Assessment:
    """Score a model and compare it with approved versions; write nothing. Arguments and errors: see `evaluate`."""
    record = SplitRecord.read(split)
    if record.task != arguments.task:
        raise DataError(f"{SPLIT_FILE}: task is {record.task}, not {arguments.task}; give the split of this task")
    predictor = load(model, arguments.task)
    require_task(predictor.record, arguments.task)
    floors = floors_of_classes(arguments.floors, predictor.record.classes, arguments.task)
    arguments = arguments.model_copy(update={"floors": floors})
    cases = list_cases(channel_folder(test, split, "test"), record, predictor.record.classes)
    unseen, leakage = leave_out_seen(cases, record, predictor.record)
    volumes = partial(score_volumes, tolerance=arguments.surface_tolerance, length_unit=arguments.length_unit)
    score = score_images if arguments.task == "classification" else volumes
    scores = score(unseen, predictor, patients_known=record.identifiers != "none")
    scored = Candidate(unseen, scores, predictor.record.classes, record, arguments.margin)
    candidate = predictor.record
    del predictor  # two networks at once are not needed
    comparisons = [compare(version, scored, load) for version in _approved_versions(arguments, champion, first)]
    evaluation = _summarise(scored, leakage, candidate, arguments, comparisons)
    data = evaluation.data.model_copy(update=digests_of_model(model))
    return Assessment(evaluation.model_copy(update={"data": data}), scores, candidate, record)


def _approved_versions(
    arguments: EvaluateArguments, champion: Path | None, first: Path | None
) -> list[ComparedVersion]:
    """List the approved versions to compare with."""
    versions = [
        ComparedVersion("champion", arguments.champion_arn, champion),
        ComparedVersion("first", arguments.first_arn, first),
    ]
    return [version for version in versions if version.arn != NO_VERSION]


def exit_message(evaluation: Evaluation) -> str:
    """Write one line for the log and the job's ExitMessage: score, interval, numbers of cases and patients, leakage."""
    num_cases, num_patients = evaluation.data.num_cases, evaluation.data.num_patients
    patients = "unknown patients" if num_patients is None else f"{num_patients} test patients"
    interval = evaluation.score.interval
    spread = f" ({interval.lower:.3f} to {interval.upper:.3f})" if interval else ""
    line = f"{evaluation.score.name} {evaluation.score.value:.4f}{spread} on {num_cases} cases of {patients}"
    return f"{line}; leakage: {evaluation.data.leakage.note}"


def _summarise(
    scored: Candidate,
    leakage: Leakage,
    model: ModelRecord,
    arguments: EvaluateArguments,
    comparisons: list[Comparison],
) -> Evaluation:
    scores, cases, split = scored.scores, scored.cases, scored.split
    score, known = scores.score, split.identifiers != "none"
    num_patients = len({case.patient for case in cases}) if known else 0
    metrics, confusion = scores.metrics, None
    if scores.confusion is not None:
        confusion = ClassificationMetrics.model_validate({"confusion_matrix": scores.confusion, **metrics})
    champion = next((comparison for comparison in comparisons if comparison.role == "champion"), None)
    floors = find_floors(arguments.floors, scores.statistics, split.task)
    test_uses = arguments.test_uses or 1
    caveats = ([arguments.note] if arguments.note else []) + comparison_notes(comparisons, test_uses)
    return Evaluation(
        task=split.task,
        score=Score(name=score.name, value=score.value or 0.0, interval=score.interval),
        gate=make_gate(score, arguments.margin, arguments.deploy_mode, champion, num_patients).model_copy(
            update={"floor_left": floor_left(floors)}
        ),
        multiclass_classification_metrics=confusion,
        segmentation_metrics=metrics if confusion is None else None,
        statistics=list(scores.statistics),
        volumes=list(scores.volumes),
        lesions=list(scores.lesions),
        calibration=scores.calibration,
        operating_points=list(scores.operating_points),
        floors=floors,
        subgroups=make_subgroups(scores, cases, split),
        data=Data(
            split_digest=split.data_digest,
            training_digest=model.data_digest,
            code_digest=model.code_digest,
            num_patients=num_patients if known else None,
            num_cases=len(cases),
            classes=scores.class_counts,
            num_quarantined=len(split.quarantined),
            leakage=leakage,
        ),
        comparisons=comparisons,
        test_uses=test_uses,
        notes=_notes(scores, num_patients, split, model, caveats),
    )


def _notes(
    scores: ModelScores, num_patients: int, split: SplitRecord, model: ModelRecord, caveats: list[str]
) -> list[str]:
    notes = [*caveats, *(f"{PATIENTS_FILE}: {warning}" for warning in split.warnings)]
    if split.identifiers == "none":
        notes.append("The number of patients is not known, so no interval is given: add patients.csv to the data.")
    elif num_patients < MIN_PATIENTS:
        number = "1 test patient" if num_patients == 1 else f"{num_patients} test patients"
        notes.append(
            f"Only {number}: too few to generalise to other patients. No interval is given "
            f"with fewer than {MIN_PATIENTS}."
        )
    elif scores.score.interval is None:
        notes.append(f"The score has no interval. {scores.score.note}".strip())
    if model.data_digest != split.data_digest:
        notes.append("The model was trained on other data than this split's: the data digests differ.")
    return notes + scores.notes


def _write(output: Path, files: dict[str, str]) -> None:
    """Write all files under temporary names, then rename them, so that no reader gets half a file."""
    parts = {output / f".{name}.part": output / name for name in files}
    try:
        output.mkdir(parents=True, exist_ok=True)
        for part, text in zip(parts, files.values(), strict=True):
            part.write_text(text, encoding="utf-8", newline="")
        for part, path in parts.items():
            os.replace(part, path)
    except OSError as error:
        for part in parts:
            if part.is_file():
                part.unlink()
        raise TargetError(f"{output}: can't be written ({error.strerror}); give another folder") from None

"""Provenance of model and data, and the limits of the evaluation."""

from __future__ import annotations

from collections import Counter

from medloop.documents.csv_text import Cell
from medloop.documents.evaluation import Evaluation
from medloop.documents.model import ModelRecord
from medloop.documents.split import SPLITS, SplitRecord
from medloop.evaluation.csv_table import CsvTable
from medloop.evaluation.report.statistics_tables import title_of
from medloop.evaluation.subgroups import MIN_RANKED, MIN_SHOWN, NOT_GIVEN, group_order, group_values

MAX_QUARANTINED = 200
FEW = f"under {MIN_SHOWN}"
"""Shown instead of the number of patients of a small group."""


def data_table(split: SplitRecord) -> CsvTable:
    """Count patients and cases by split and class."""
    known = split.identifiers != "none"
    shown = split.classes if split.task == "classification" else split.classes[1:]
    rows: list[list[Cell]] = []
    for name in SPLITS:
        counts = split.counts.get(name)
        if counts is not None:
            per_class = [counts.classes.get(label, 0) for label in shown]
            rows.append([name, counts.num_patients if known else None, counts.num_cases, *per_class])
    caption = "The data set was already split." if split.presplit else ""
    return CsvTable(["split", "patients", "cases", *shown], rows, caption)


def attribute_table(split: SplitRecord) -> CsvTable:
    """Count patients by each value of each attribute and split, in the same groups as the subgroups."""
    members = {name: split.pseudonyms(name) for name in SPLITS}
    rows: list[list[Cell]] = []
    for attribute in sorted({name for patient in split.patients.values() for name in patient.attributes}):
        groups = group_values({name: patient.attributes.get(attribute, "") for name, patient in split.patients.items()})
        counts = {name: Counter(groups[patient] for patient in patients) for name, patients in members.items()}
        rows += [
            [attribute, group, *(_count(counts[name][group]) for name in SPLITS)]
            for group in sorted(set(groups.values()), key=group_order)
        ]
    return CsvTable(["attribute", "value", *(f"{name} patients" for name in SPLITS)], rows)


def quarantine_table(split: SplitRecord) -> CsvTable:
    """List the quarantined files with their reasons."""
    rows = [[entry.path, entry.reason] for entry in split.quarantined[:MAX_QUARANTINED]]
    more = len(split.quarantined) - len(rows)
    return CsvTable(["file", "reason"], rows, f"And {more} more, in split.json." if more else "")


def origin_table(evaluation: Evaluation, model: ModelRecord) -> CsvTable:
    """Name network, data and code."""
    rows: list[list[Cell]] = [
        ["network", model.network.name],
        ["network's arguments", _settings(model.network.arguments)],
        ["patients trained on", len(model.patients.train)],
        ["patients validated on", len(model.patients.val)],
        ["checkpoint kept", f"epoch {model.best.epoch}, {model.best.metric} {model.best.value:.4f}"],
        ["data that was split", evaluation.data.split_digest],
        ["data trained on", evaluation.data.training_digest],
        ["training code", evaluation.data.code_digest or "not known"],
        ["preprocessing", _settings(model.preprocessing.model_dump(exclude_none=True))],
    ]
    if model.inference is not None:
        rows.append(["inference", _settings(model.inference.model_dump(exclude_none=True))])
    rows += [[f"run on {run.tracker}", f"{run.experiment}, {run.run_id}"] for run in model.tracking]
    return CsvTable(["", ""], rows)


def settings_table(model: ModelRecord) -> CsvTable:
    """Hyperparameters and versions."""
    rows: list[list[Cell]] = [[name, _text(value)] for name, value in model.hyperparameters.items()]
    rows += [[f"{name} (version)", version] for name, version in model.versions.items()]
    return CsvTable(["", ""], rows)


def limits(evaluation: Evaluation, split: SplitRecord) -> list[str]:
    """List the limits that this evaluation shows; its notes are above."""
    texts = [
        f"{title_of(statistic.name)}{f' of {statistic.class_name}' if statistic.class_name else ''} is "
        f"undefined: {statistic.note or 'no case to measure it on'}"
        for statistic in evaluation.statistics
        if statistic.value is None
    ][:12]
    subgroups = [group for group in evaluation.subgroups if group.value != NOT_GIVEN]
    hidden = sum(group.hidden for group in subgroups)
    unranked = sum(not group.hidden and not group.ranked for group in subgroups)
    if hidden:
        texts.append(f"{hidden} subgroups have under {MIN_SHOWN} patients and are not shown: their scores are unknown.")
    if unranked:
        texts.append(f"{unranked} subgroups have under {MIN_RANKED} patients: differences between them may be chance.")
    if not subgroups:
        texts.append("No subgroups: it is unknown if the model does worse on some patients.")
    if split.quarantined:
        texts.append(
            f"{len(split.quarantined)} files were quarantined; if they have something in common, the score does not "
            "apply to patients with it."
        )
    texts.append(
        "The test set comes from the same collection as the training data: other sites, scanners and protocols may "
        "give other scores."
    )
    return texts


def _count(number: int) -> Cell:
    return number if number == 0 or number >= MIN_SHOWN else FEW


def _settings(values: dict[str, object]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in values.items()) or "none"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return f"({_settings(value)})"
    if isinstance(value, list | tuple):
        return " x ".join(_text(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)

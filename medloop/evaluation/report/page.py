"""report.html: the evaluation as one self-contained page; pictures are inlined, nothing is loaded from a network."""

from __future__ import annotations

import math

from jinja2 import Environment, PackageLoader, StrictUndefined

from medloop.evaluation.outcome import Cell, Outcome, ScoredImages, Table
from medloop.evaluation.record import Evaluation
from medloop.evaluation.report.contents import Section
from medloop.evaluation.report.image_sections import image_sections
from medloop.evaluation.report.volume_sections import volume_sections
from medloop.evaluation.statistics import MIN_PATIENTS
from medloop.imaging.split_record import SplitRecord
from medloop.training.model_record import ModelRecord

TEMPLATE = "report.html.jinja"
SCORE_TITLES = {"macro_auroc": "Macro AUROC", "mean_foreground_dice": "Mean foreground Dice"}


def render(evaluation: Evaluation, outcome: Outcome, model: ModelRecord, split: SplitRecord) -> str:
    """Draw the page.

    Args:
        evaluation: What evaluation.json holds.
        outcome: The task's tables and pictures.
        model: model.json.
        split: split.json.

    Returns:
        HTML.
    """
    # autoescape is unconditional: class names and patients' attributes come from the user's files.
    environment = Environment(
        loader=PackageLoader("medloop.evaluation.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = show_cell
    environment.tests["numeric"] = lambda cell: isinstance(cell, int | float)
    return environment.get_template(TEMPLATE).render(
        evaluation=evaluation,
        score_title=SCORE_TITLES[evaluation.score.name],
        min_patients=MIN_PATIENTS,
        sections=task_sections(outcome),
        comparisons=_comparison_table(evaluation),
        subgroups=_subgroup_table(evaluation),
        data=_data_table(evaluation, split),
        origin=_origin_table(evaluation, model),
    )


def task_sections(outcome: Outcome) -> list[Section]:
    """The task's own part of the page."""
    if isinstance(outcome.scored, ScoredImages):
        return image_sections(outcome.scored, outcome.metrics)
    return volume_sections(outcome.scored)


def show_cell(cell: Cell) -> str:
    """A table's cell as text: three decimals, a dash where undefined."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "\N{EN DASH}"
    if isinstance(cell, float):
        return "\N{INFINITY}" if math.isinf(cell) else f"{cell:.3f}"
    return str(cell)


def _comparison_table(evaluation: Evaluation) -> Table:
    classes = sorted({name for found in evaluation.comparisons for name in found.classes})
    rows: list[list[Cell]] = []
    for found in evaluation.comparisons:
        numbers = [found.score_candidate, found.score_model, found.difference, found.lower_bound, found.num_patients]
        rows.append([f"{found.role} {found.model}", *numbers, *(found.classes.get(name) for name in classes)])
    columns = ["version", "this model", "that version", "difference", "lower bound", "patients"]
    return Table([*columns, *(f"difference, {name}" for name in classes)], rows)


def _subgroup_table(evaluation: Evaluation) -> Table:
    rows: list[list[Cell]] = [
        [group.attribute, group.value, group.score, group.num_patients, group.num_cases]
        for group in evaluation.subgroups
    ]
    return Table(["attribute", "value", SCORE_TITLES[evaluation.score.name], "patients", "cases"], rows)


def _data_table(evaluation: Evaluation, split: SplitRecord) -> Table:
    """Who is where: patients and cases by split and class."""
    known = split.identifiers != "none"
    shown = split.classes if split.task == "classification" else split.classes[1:]
    rows: list[list[Cell]] = []
    for name in ("train", "val", "test"):
        counts = split.counts.get(name)
        if counts is not None:
            per_class = [counts.classes.get(label, 0) for label in shown]
            rows.append([name, counts.num_patients if known else None, counts.num_cases, *per_class])
    caption = f"{evaluation.data.num_quarantined} cases were quarantined as unusable. " if split.quarantined else ""
    if split.presplit:
        caption += "The data came already split."
    return Table(["split", "patients", "cases", *shown], rows, caption)


def _origin_table(evaluation: Evaluation, model: ModelRecord) -> Table:
    rows: list[list[Cell]] = [
        ["network", model.network.name],
        ["patients trained on", len(model.patients.train)],
        ["patients validated on", len(model.patients.val)],
        ["checkpoint kept", f"epoch {model.best.epoch}, {model.best.metric} {model.best.value:.4f}"],
        ["data that was split", evaluation.data.split_digest],
        ["data trained on", evaluation.data.training_digest],
        ["training code", evaluation.data.code_digest],
    ]
    rows += [[name, version] for name, version in sorted(model.versions.items())]
    return Table(["", ""], rows)

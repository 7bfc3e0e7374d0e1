"""A segmentation model's part of the page."""

from __future__ import annotations

import numpy as np

from medloop.documents.csv_text import Cell
from medloop.documents.evaluation import Evaluation
from medloop.evaluation.case_columns import case_columns
from medloop.evaluation.csv_table import CsvTable
from medloop.evaluation.report import volume_plots
from medloop.evaluation.report.cropped_volume import CroppedVolume, crop_case
from medloop.evaluation.report.embedded_volumes import BUDGET, Embedded, embed, legend, shows_a_face
from medloop.evaluation.report.page_parts import Drawn, TaskPart, Viewer
from medloop.evaluation.report.statistics_tables import show_interval
from medloop.evaluation.report.volume_overlays import draw_overlays
from medloop.evaluation.scored_cases import ScoredVolumes
from medloop.imaging.metrics import nan_mean

NEXT_WORST = {1: "Second", 2: "Third"}
"""Cases that are drawn after the worst."""
MAX_COLUMNS = 12
"""Numbers in the table of cases; cases.csv has the rest."""
MAX_AGREEMENTS = 8
"""Structures with a plot of their volumes; the table has all."""


def volume_part(scored: ScoredVolumes, evaluation: Evaluation) -> TaskPart:
    """Draw strips, agreement of volumes and some cases, and embed volumes for the viewer.

    Raises:
        DataError: A case's files can't be read.
    """
    ranks = _ranks(scored)
    volumes = {i: crop_case(scored.cases[i], scored.predictions[i].unpack()) for i in ranks}
    return TaskPart(
        curves=[
            volume_plots.dice_strips(scored.dice, scored.classes),
            volume_plots.distance_strips(scored),
            *(volume_plots.agreement_plot(scored, agreement) for agreement in evaluation.volumes[:MAX_AGREEMENTS]),
        ],
        tables=_tables(evaluation),
        drawn_title="Worst cases first",
        drawn=[_drawn(scored, i, ranks[i], volumes[i]) for i in sorted(ranks, key=lambda i: _means(scored)[i])],
        cases=_cases(scored),
        viewer=_viewer(scored, ranks, volumes),
    )


def _means(scored: ScoredVolumes) -> list[float]:
    return [float(mean) for mean in nan_mean(scored.dice)]


def _ranks(scored: ScoredVolumes) -> dict[int, str]:
    """Name the worst cases, the median and the best, each once, in the order in which they are embedded."""
    means = np.array(_means(scored))
    order = [int(i) for i in np.argsort(means, kind="stable") if np.isfinite(means[i])]
    if not order:
        return {}
    positions = {"Worst case": 0, "Median case": (len(order) - 1) // 2, "Best case": len(order) - 1}
    taken = set(positions.values())
    positions |= {f"{ordinal} worst case": k for k, ordinal in NEXT_WORST.items() if k < len(order) and k not in taken}
    names: dict[int, list[str]] = {}
    for title, position in positions.items():
        names.setdefault(order[position], []).append(title)
    return {i: titles[0] + "".join(f" and {t[0].lower()}{t[1:]}" for t in titles[1:]) for i, titles in names.items()}


def _drawn(scored: ScoredVolumes, index: int, title: str, volume: CroppedVolume) -> Drawn:
    case, mean = scored.cases[index], _means(scored)[index]
    scores = ", ".join(
        f"{name} Dice {value:.3f}" if np.isfinite(value) else f"{name} in neither truth nor prediction"
        for name, value in zip(scored.classes, scored.dice[index], strict=True)
    )
    figure = draw_overlays(volume, scored.classes, case.patient)
    return Drawn(f"{title}: mean Dice {mean:.3f}", f"Patient {case.patient}. {scores}.", [figure])


def _viewer(scored: ScoredVolumes, ranks: dict[int, str], volumes: dict[int, CroppedVolume]) -> Viewer | None:
    if not ranks:
        return None
    if shows_a_face(scored.classes):
        return Viewer([], [], "No volumes: one structure is the outside of a head, which would show a face.")
    embedded: list[Embedded] = []
    means, num_bytes = _means(scored), BUDGET
    for index, rank in ranks.items():
        title = f"{rank}: patient {scored.cases[index].patient}, mean Dice {means[index]:.3f}"
        volume = embed(volumes[index], title, min(num_bytes, BUDGET // 3))
        if volume is not None:
            embedded.append(volume)
            num_bytes -= volume.size
    remark = f"{len(embedded)} of {len(scored.cases)} cases are in this page."
    if any(volume.step > 1 for volume in embedded):
        remark += " Large volumes have a lower resolution, which their titles state."
    return Viewer(legend(scored.classes), embedded, remark)


def _tables(evaluation: Evaluation) -> list[tuple[str, CsvTable]]:
    volumes: list[list[Cell]] = [
        [
            row.class_name,
            row.bias,
            show_interval(row.interval, 2) or None,
            row.lower_limit,
            row.upper_limit,
            row.mean_truth,
            row.unit,
            row.num_cases,
        ]
        for row in evaluation.volumes
    ]
    lesions: list[list[Cell]] = [
        [row.class_name, row.num_true, row.num_missed, row.num_predicted, row.num_false] for row in evaluation.lesions
    ]
    limits = ["structure", "bias", "95 % interval", "lower limit", "upper limit", "mean truth", "unit", "cases"]
    counts = ["structure", "true lesions", "missed", "predicted lesions", "false-positive"]
    tables = {
        "Volumes, prediction minus truth": CsvTable(limits, volumes, "95 % of cases are expected between the limits."),
        "Lesions (connected parts)": CsvTable(counts, lesions),
    }
    return [(title, table) for title, table in tables.items() if table.rows]


def _cases(scored: ScoredVolumes) -> CsvTable:
    """Make the table of overlaps and distances, the worst case first."""
    columns = [column for column in case_columns(scored) if column.label][:MAX_COLUMNS]
    order = np.argsort(np.nan_to_num(_means(scored), nan=2.0), kind="stable").tolist()
    rows = [[scored.cases[i].patient, scored.cases[i].name, *(column.values[i] for column in columns)] for i in order]
    return CsvTable(["patient", "case", *(column.label for column in columns)], rows)

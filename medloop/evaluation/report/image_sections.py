"""A classifier's part of the page."""

from __future__ import annotations

import numpy as np

from medloop.documents.csv_text import Cell
from medloop.documents.evaluation import Evaluation
from medloop.evaluation.case_columns import case_columns
from medloop.evaluation.csv_table import CsvTable
from medloop.evaluation.report import image_figures
from medloop.evaluation.report.page_parts import Drawn, Figure, TaskPart
from medloop.evaluation.scored_cases import Integers, ScoredImages

MAX_MISTAKES = 12
MAX_COLUMNS = 6
"""Metrics in the table of cases; cases.csv has the rest."""


def image_part(scored: ScoredImages, evaluation: Evaluation) -> TaskPart:
    """Draw curves and the most confident mistakes.

    Raises:
        DataError: An image can't be read.
    """
    return TaskPart(
        curves=_curves(scored, evaluation),
        tables=_tables(evaluation),
        drawn_title="Most confident mistakes",
        drawn=[_mistakes(scored)],
        cases=_cases(scored),
    )


def _curves(scored: ScoredImages, evaluation: Evaluation) -> list[Figure]:
    truth, probabilities, classes = scored.truth, scored.probabilities, scored.classes
    points = {point.class_name: point.threshold for point in evaluation.operating_points}
    figures = [
        image_figures.confusion_matrix(scored.confusion, classes),
        image_figures.roc_curves(truth, probabilities, classes, points),
        image_figures.precision_recall_curves(truth, probabilities, classes),
    ]
    if evaluation.calibration is not None and evaluation.calibration.bins:
        figures.append(image_figures.reliability(evaluation.calibration.bins))
    return figures


def _tables(evaluation: Evaluation) -> list[tuple[str, CsvTable]]:
    sources = {"val": "fitted on the validation split and frozen", "default": "not fitted: 0.5"}
    rows: list[list[Cell]] = [[p.class_name, p.threshold, sources[p.source]] for p in evaluation.operating_points]
    if not rows:
        return []
    temperature = evaluation.calibration.temperature if evaluation.calibration else None
    caption = f"Probabilities were divided by a temperature of {temperature:.3f}, fitted on val." if temperature else ""
    return [("Operating points", CsvTable(["class", "threshold", "source"], rows, caption))]


def _order(scored: ScoredImages) -> Integers:
    """Order the cases: the most confident mistakes first, then correct predictions, the least confident first."""
    predicted = scored.predicted
    confidence = scored.probabilities.max(axis=1)
    wrong = predicted != scored.truth
    order: Integers = np.lexsort((np.where(wrong, -confidence, confidence), ~wrong))
    return order


def _mistakes(scored: ScoredImages) -> Drawn:
    """Draw the wrong predictions of the highest probability."""
    truth, probabilities, classes = scored.truth, scored.probabilities, scored.classes
    predicted = scored.predicted
    num_wrong, num_cases = int((predicted != truth).sum()), len(scored.cases)
    if not num_wrong:
        return Drawn("", "None: every test case is classified correctly.")
    worst = [int(i) for i in _order(scored)[: min(num_wrong, MAX_MISTAKES)]]
    shown = f"The {len(worst)} of the highest probability are shown." if num_wrong > len(worst) else ""
    figures = [
        image_figures.thumbnail(
            scored.cases[i].path,
            f"{classes[truth[i]]} predicted as {classes[predicted[i]]} ({probabilities[i, predicted[i]]:.0%})",
            f"patient {scored.cases[i].patient}",
        )
        for i in worst
    ]
    return Drawn("", f"{num_wrong} of {num_cases} test cases are misclassified. {shown}", figures)


def _cases(scored: ScoredImages) -> CsvTable:
    truth, probabilities, classes = scored.truth, scored.probabilities, scored.classes
    predicted, measured = scored.predicted, [column for column in case_columns(scored) if column.label][:MAX_COLUMNS]
    rows: list[list[Cell]] = [
        [
            scored.cases[i].patient,
            scored.cases[i].name,
            "correct" if predicted[i] == truth[i] else "wrong",
            classes[truth[i]],
            classes[predicted[i]],
            float(probabilities[i, predicted[i]]),
            float(probabilities[i, truth[i]]),
            *(column.values[i] for column in measured),
        ]
        for i in _order(scored)
    ]
    columns = ["patient", "case", "result", "truth", "predicted", "probability of the prediction", "of the truth"]
    return CsvTable([*columns, *(column.label for column in measured)], rows)

"""A classifier's part of the page."""

from __future__ import annotations

import numpy as np

from medloop.evaluation.outcome import Cell, ScoredImages, Table
from medloop.evaluation.report import image_figures
from medloop.evaluation.report.contents import Section
from medloop.evaluation.scores import OVERALL, Metrics, confusion

MAX_MISTAKES = 12


def image_sections(scored: ScoredImages, metrics: Metrics) -> list[Section]:
    """The classifier's own part of the page."""
    truth, probabilities, classes = scored.truth, scored.probabilities, scored.classes
    counts = confusion(truth, probabilities.argmax(axis=1), len(classes))
    kinds = ("precision", "recall", "f1", "auroc")
    per_class: list[list[Cell]] = [
        [name, int(counts[i].sum()), *(metrics[f"{kind}_{name}"] for kind in kinds)] for i, name in enumerate(classes)
    ]
    overall: list[list[Cell]] = [[_title(name), metrics[name]] for name in OVERALL]
    return [
        Section(
            "Which class is taken for which",
            tables=[Table(["class", "cases", "precision", "recall", "F1", "AUROC"], per_class)],
            figures=[image_figures.confusion_matrix(counts, classes)],
        ),
        Section(
            "All classes together, and each against the rest",
            tables=[Table(["metric", "value"], overall)],
            figures=[image_figures.roc_curves(truth, probabilities, classes)],
        ),
        _mistakes(scored),
    ]


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize().replace("auroc", "AUROC").replace("f1", "F1")


def _mistakes(scored: ScoredImages) -> Section:
    """The wrong answers that the model was surest of."""
    cases, truth, probabilities, classes = scored.cases, scored.truth, scored.probabilities, scored.classes
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:MAX_MISTAKES]
    if not len(wrong):
        return Section("Mistakes", "None: every test case got its class.")
    shown = f"The {len(worst)} that the model was surest of." if len(wrong) > len(worst) else ""
    text = f"{len(wrong)} of {len(cases)} test cases got another class than their own. {shown}"
    figures = [
        image_figures.thumbnail(
            cases[i].path,
            f"{classes[truth[i]]} taken for {classes[predicted[i]]} ({probabilities[i, predicted[i]]:.0%})",
            f"patient {cases[i].patient}",
        )
        for i in worst
    ]
    return Section("Mistakes", text, figures=figures)

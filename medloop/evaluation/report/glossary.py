"""Definitions on the page: one or two sentences for each term."""

from __future__ import annotations

from medloop.documents.evaluation import Evaluation
from medloop.evaluation.metrics import metrics_of

_COMMON = {
    "Interval": "The range of the value on other patients like these: 95 of 100 such intervals contain the true value. "
    "The sampled unit is the patient, not the image; with fewer than 10 patients no interval is given.",
    "Lower bound and margin": "Both models are scored on the same patients, which neither was trained on. The true "
    "difference (this model minus the other) is above the bound in 95 of 100 test sets. Not worse: the bound is at "
    "least minus the margin, which is set in advance.",
    "Power": "How often a model that is as good as the champion would be found not worse, with as many patients. "
    "With a low power, a failed comparison is weak evidence.",
    "Leakage": "Test patients that the model has seen in training. They are excluded from every score.",
    "Patients": "Named by pseudonyms only. Of a volume, only voxels near truth or prediction are shown, so that "
    "no face can be recognised.",
}
_SEGMENTATION = {
    "Bias and limits of agreement": "The mean of predicted minus true volume, and the two values between which 95 % of "
    "such differences are expected.",
    "Lesions": "Connected parts of a structure. Missed: no predicted voxel touches the lesion. False-positive: the "
    "predicted lesion touches no true voxel.",
    "R and L": "Slices are shown as radiologists look at them: the patient's right is at the left.",
}
_BEST = {"highest": "Higher is better.", "lowest": "Lower is better.", "zero": "0 is best."}


def explain_terms(evaluation: Evaluation) -> dict[str, str]:
    """Explain the terms of this task: its metrics, then the page's other terms."""
    metrics = [metric for metric in metrics_of(evaluation.task) if metric.shown]
    explanations = {metric.label: f"{metric.definition} {_BEST[metric.best]}".strip() for metric in metrics}
    return explanations | (_SEGMENTATION if evaluation.task == "segmentation" else {}) | _COMMON

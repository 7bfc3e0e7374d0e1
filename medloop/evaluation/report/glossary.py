"""How to read the page: a sentence for each word that stands on it."""

from __future__ import annotations

from medloop.documents.evaluation import Evaluation
from medloop.evaluation.metrics import metrics_of

_COMMON = {
    "Interval": "What the score would be on other patients like these: 95 of 100 such intervals hold the true value. "
    "Patients are what is drawn by chance, not their images; with fewer than 10 of them no interval is given.",
    "Lower bound and margin": "Both models answer for the same patients, which neither was trained on. The true "
    "difference (this model less the other) lies above the bound in 95 of 100 test sets. Not worse: the bound is at "
    "least minus the margin, which was set beforehand.",
    "Power": "How often a model that is just as good as the champion would be found not worse, with so many patients. "
    "A low power means that a refusal says little.",
    "Leakage": "Test patients that the model has seen in training. They are left out of every score.",
    "Patients": "Known here by pseudonyms only. Of a volume, only what lies near truth or prediction is shown, so that "
    "no face can be recognised.",
}
_SEGMENTATION = {
    "Bias and limits of agreement": "The mean of predicted less true volume; and the two values between which 95 % of "
    "such differences are expected.",
    "Lesions": "Connected parts of a structure. Missed: no predicted voxel touches it. False: it touches no true one.",
    "R and L": "Slices are shown as radiologists look at them: the patient's right is at the left.",
}
_BEST = {"highest": "Higher is better.", "lowest": "Lower is better.", "zero": "0 is best."}


def words_for(evaluation: Evaluation) -> dict[str, str]:
    """Word to explanation, for this task: its metrics, then the page's other words."""
    metrics = [metric for metric in metrics_of(evaluation.task) if metric.shown]
    words = {metric.label: f"{metric.definition} {_BEST[metric.best]}".strip() for metric in metrics}
    return words | (_SEGMENTATION if evaluation.task == "segmentation" else {}) | _COMMON

"""How to read the page: a sentence for each word that stands on it."""

from __future__ import annotations

from medloop.documents.evaluation import Evaluation

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
_CLASSIFICATION = {
    "AUROC": "The chance that a case of the class gets a higher probability of it than a case of another class. 0.5 is "
    "guessing, 1 is perfect. Macro: the mean over classes.",
    "Average precision": "The area under the precision-recall curve. Guessing gives the class's share of the cases, so "
    "it tells more than AUROC where a class is rare.",
    "Sensitivity, specificity": "Of those that are of the class, how many are called so; of those that are not, how "
    "many are not called so: at the operating point, a probability that was fixed before the test.",
    "Balanced accuracy": "The mean of the classes' sensitivities, so that large classes count no more than small ones.",
    "Calibration error (ECE)": "How far, on average, the probabilities are from how often they are right; 0 is best.",
}
_SEGMENTATION = {
    "Dice": "Twice the overlap of truth and prediction over the sum of their sizes, on the image's own grid; 1 is "
    "perfect. The score is the mean over cases of each case's mean over structures. A structure in neither is left "
    "out; in one of the two alone, Dice is 0 and the case counts as a failure.",
    "HD95": "95 % of each surface lies nearer than this to the other: how far off the worst parts of the outline are.",
    "Surface distance, surface Dice": "The mean distance between the outlines; and the share of the outlines that lie "
    "within a tolerance of each other.",
    "Bias and limits of agreement": "The mean of predicted less true volume; and the two values between which 95 % of "
    "such differences are expected.",
    "Lesions": "Connected parts of a structure. Missed: no predicted voxel touches it. False: it touches no true one.",
    "R and L": "Slices are shown as radiologists look at them: the patient's right is at the left.",
}


def words_for(evaluation: Evaluation) -> dict[str, str]:
    """Word to explanation, for this task."""
    own = _CLASSIFICATION if evaluation.task == "classification" else _SEGMENTATION
    return own | _COMMON

"""The metrics of both tasks, one row each: evaluation.json and its schema, report.html, model card and gate read it.

To add one: its function in `image_metrics` or `volume_metrics`, and its row here; docs/extending.md shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from medloop.documents.split import Task
from medloop.evaluation import image_metrics, volume_metrics
from medloop.evaluation.intervals.aurocs import mean_auroc
from medloop.evaluation.intervals.bootstrap import bca_bootstrap
from medloop.evaluation.intervals.means import mean, mean_of_shares
from medloop.evaluation.intervals.proportions import median, proportion
from medloop.evaluation.paired_difference import Paired, pair_auroc, pair_dice
from medloop.evaluation.scored_cases import Scored

MetricScope = Literal["overall", "class", "both"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of a test set.

    `function` takes the scored cases and a class's index (None: over all classes). What it returns depends on
    `interval`, the method of the 95 % interval over patients:

    - `proportion`: a `Sample` of 0 and 1; `mean`, `mean_of_shares` (of values from 0 to 1), `median`: of numbers;
      `mean_auroc`: of classes against the rest;
    - `bca_bootstrap`: values [B]; the function takes `WeightedImages`. The bootstrap of what no other method is for;
    - None: an `Estimate`, which has no interval.
    """

    name: str
    """Name in evaluation.json's statistics."""
    task: Task
    label: str
    """Heading on the page."""
    function: Callable[[Any, Any], Any]
    interval: Callable[..., Any] | None
    scope: MetricScope = "class"
    """Over all classes, by class, or both."""
    definition: str = ""
    """One or two sentences on the page; the exact definition is in docs/evaluation.md."""
    best: Literal["highest", "lowest", "zero"] = "highest"
    unit: Literal["", "length", "volume"] = ""
    digits: int = 3
    shown: bool = True
    """True: in evaluation.json's statistics, on the page and in the model card; False: in SageMaker's metrics only."""
    key: str = ""
    """Name in SageMaker's metrics and cases.csv, before unit and class; empty: `name`."""
    note: Callable[[Any, Any], str] | str = ""
    """Note in evaluation.json on the value, about these cases and this class."""
    per_case: bool = False
    """True if the `Sample` has one value for each case: a column of cases.csv and of the page's table of cases."""
    case_parts: tuple[tuple[str, str], ...] = ()
    """Further columns of cases.csv, for volumes only: heading (`{unit}` is the metric's) and field of `ClassScores`."""
    is_floor: bool = False
    """True for the metric of `evaluate.floors`: one a task, by class, highest is best."""
    pair: Callable[[Any, Any], Paired | None] | None = None
    """The comparison with another model's probabilities or Dice of the same cases, for the gate's score: one a task."""

    def make_note(self, scored: Scored, k: int | None) -> str:
        """Return the note on these cases and this class."""
        return self.note if isinstance(self.note, str) else self.note(scored, k)

    def make_key(self, scored: Scored, k: int | None) -> str:
        """Return the name in SageMaker's metrics, and the heading in cases.csv: `hd95_mm_CLASS`."""
        class_name = "" if k is None else scored.classes[k]
        return "_".join(part for part in (self.key or self.name, scored.units[self.unit], class_name) if part)

    def class_indices(self, scored: Scored) -> list[int | None]:
        """Return the classes that the metric has a value for; None: over all classes."""
        by_class = [] if self.scope == "overall" else range(len(scored.classes))
        return [*([] if self.scope == "class" else [None]), *by_class]


def _sagemaker(name: str, function: Callable[[Any, Any], Any], scope: MetricScope = "class") -> Metric:
    """Make a metric of SageMaker's model quality reports, which the page leaves out."""
    return Metric(
        name=name,
        task="classification",
        label=name,
        function=function,
        interval=bca_bootstrap,
        scope=scope,
        shown=False,
    )


METRICS = (
    Metric(
        name="macro_auroc", task="classification", label="Macro AUROC", function=image_metrics.auroc,
        interval=mean_auroc, scope="overall", note=image_metrics.classes_left_out,
        pair=lambda scored, probabilities: pair_auroc(
            scored.truth, scored.probabilities, probabilities, scored.patients, scored.classes
        ),
        definition="The mean over classes of their AUROC.",
    ),
    Metric(
        name="auroc", task="classification", label="AUROC", function=image_metrics.auroc, interval=mean_auroc,
        is_floor=True,
        definition="The chance that a case of the class gets a higher probability of it than a case of another class. "
        "0.5 is guessing, 1 is perfect.",
    ),
    Metric(
        name="average_precision", task="classification", label="Average precision",
        function=image_metrics.by_class("average_precisions"), interval=bca_bootstrap, scope="both",
        note=image_metrics.classes_left_out,
        definition="The area under the precision-recall curve. Guessing gives the class's share of the cases, so it "
        "tells more than AUROC where a class is rare.",
    ),
    Metric(
        name="accuracy", task="classification", label="Accuracy", function=image_metrics.accuracy, interval=proportion,
        scope="overall",
        definition="The share of cases whose most probable class is their own.",
    ),
    Metric(
        name="sensitivity", task="classification", label="Sensitivity", function=image_metrics.sensitivity,
        interval=proportion, note=image_metrics.operating_point,
        definition="The share of the cases of the class that are predicted to be of it at the operating point, a "
        "probability that is fixed before the test.",
    ),
    Metric(
        name="specificity", task="classification", label="Specificity", function=image_metrics.specificity,
        interval=proportion, note=image_metrics.operating_point,
        definition="The share of the cases of other classes that are not predicted to be of it at the operating point.",
    ),
    Metric(
        name="balanced_accuracy", task="classification", label="Balanced accuracy",
        function=image_metrics.by_class("recalls"), interval=bca_bootstrap, scope="overall",
        definition="The mean over classes of the share of their cases whose most probable class is their own, so that "
        "large classes count no more than small ones.",
    ),
    Metric(
        name="macro_f1", task="classification", label="Macro F1", function=image_metrics.by_class("f1s"),
        interval=bca_bootstrap, scope="overall",
        definition="The mean over classes of the harmonic mean of precision and sensitivity, each by the most probable "
        "class.",
    ),
    Metric(
        name="ece", task="classification", label="Calibration error (ECE)",
        function=image_metrics.expected_calibration_error, interval=None, scope="overall", best="lowest",
        definition="How far, on average, the probabilities are from how often they are right.",
    ),
    _sagemaker("weighted_precision", image_metrics.weighted("precisions"), "overall"),
    _sagemaker("weighted_recall", image_metrics.weighted("recalls"), "overall"),
    _sagemaker("weighted_f1", image_metrics.weighted("f1s"), "overall"),
    _sagemaker("precision", image_metrics.by_class("precisions")),
    _sagemaker("recall", image_metrics.by_class("recalls")),
    _sagemaker("f1", image_metrics.by_class("f1s")),
    Metric(
        name="mean_foreground_dice", task="segmentation", label="Mean foreground Dice",
        function=volume_metrics.mean_foreground_dice, interval=mean_of_shares, scope="overall",
        per_case=True,
        pair=lambda scored, dice: pair_dice(scored.dice, dice, scored.patients, scored.classes),
        definition="The mean over cases of each case's mean Dice over structures.",
    ),
    Metric(
        name="hd95", task="segmentation", label="HD95", function=volume_metrics.by_case("hd95"), interval=median,
        best="lowest", unit="length", digits=2, note="Median over cases.", per_case=True,
        definition="The distance within which 95 % of each surface is from the other. The median over cases.",
    ),
    Metric(
        name="average_surface_distance", task="segmentation", label="Surface distance",
        function=volume_metrics.by_case("average_surface_distance"), interval=median, best="lowest", unit="length",
        digits=2, key="asd", note="Median over cases.", per_case=True,
        definition="The mean distance between the surfaces of truth and prediction. The median over cases.",
    ),
    Metric(
        name="dice", task="segmentation", label="Dice", function=volume_metrics.by_case("dice"),
        interval=mean_of_shares, is_floor=True, per_case=True,
        definition="Twice the overlap of truth and prediction over the sum of their sizes, on the image's own grid; 1 "
        "is perfect. A case with the structure in neither is excluded; with the structure in only one of them, Dice is "
        "0 and the case is a failure.",
    ),
    Metric(
        name="surface_dice", task="segmentation", label="Surface Dice", function=volume_metrics.by_case("surface_dice"),
        interval=mean_of_shares, note=lambda scored, _: volume_metrics.tolerance_note(scored), per_case=True,
        definition="The share of the surfaces of truth and prediction within a tolerance of each other.",
    ),
    Metric(
        name="volume_error", task="segmentation", label="Volume error", function=volume_metrics.volume_error,
        interval=mean, best="zero", unit="volume", digits=2, note="Prediction minus truth, mean over cases.",
        case_parts=(("volume_{unit}_truth", "volume_truth"), ("volume_{unit}_predicted", "volume_predicted")),
        definition="The predicted minus the true volume, the mean over cases.",
    ),
    Metric(
        name="lesion_sensitivity", task="segmentation", label="Lesion sensitivity",
        function=volume_metrics.lesion_sensitivity, interval=proportion, note="Over lesions.",
        case_parts=(("lesions_true", "lesions.num_true"), ("lesions_missed", "lesions.num_missed")),
        definition="The share of all true lesions that a predicted voxel touches.",
    ),
    Metric(
        name="false_lesions_per_case", task="segmentation", label="False-positive lesions per case",
        function=volume_metrics.false_lesions, interval=mean, best="lowest", key="false_lesions",
        note="Mean over cases.",
        case_parts=(("lesions_predicted", "lesions.num_predicted"), ("lesions_false", "lesions.num_false")),
        definition="Predicted lesions that touch no true voxel, the mean over cases.",
    ),
    Metric(
        name="hd95_failures", task="segmentation", label="HD95 failures", function=volume_metrics.failures,
        interval=None, best="lowest", digits=0, shown=False,
    ),
)  # fmt: skip


def metrics_of(task: Task) -> Iterator[Metric]:
    """Return the rows of a task."""
    return (metric for metric in METRICS if metric.task == task)


def score_of(task: Task) -> Metric:
    """Return the gate's score."""
    return next(metric for metric in metrics_of(task) if metric.pair)


def pair_of(task: Task) -> Callable[[Any, Any], Paired | None]:
    """Return the comparison of two models by the gate's score."""
    return next(metric.pair for metric in metrics_of(task) if metric.pair)


def floor_of(task: Task) -> Metric:
    """Return the metric of floors by class."""
    return next(metric for metric in metrics_of(task) if metric.is_floor)


def find_metric(name: str) -> Metric | None:
    """Find the row of a statistic, by its name or its key in SageMaker's metrics; None for a name that no row has."""
    return next((metric for metric in METRICS if name in (metric.name, metric.key)), None)

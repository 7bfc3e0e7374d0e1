"""docs/extending.md, "A metric": a function and a row put a metric into the record, on the page and in the registry."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from medloop.documents.evaluation import Evaluation, Statistic
from tests.containers.test_evaluate import stage
from tests.extending.checkout import Checkout
from tests.unit.evaluation.worlds import image_world

FUNCTION = '''
def brier_score(scored: ScoredImages, k: int) -> Sample:
    """Squared difference of each case's probability of the class from 1 or 0."""
    return Sample((scored.probabilities[:, k] - (scored.truth == k)) ** 2, scored.patients)


'''
ROW = """    Metric(
        name="brier_score",
        task="classification",
        label="Brier score",
        function=image_metrics.brier_score,
        interval=mean_of_shares,
        scope="class",
        best="lowest",
        definition="The mean squared error of the probabilities of a class; 0.25 is a coin's.",
    ),
"""
NUM_PATIENTS = 12


@pytest.mark.slow
def test_a_metric_is_a_function_and_a_row(checkout: Checkout, tmp_path: Path) -> None:
    """The evaluate job reports it with its interval, explains it on the page, and adds it to the model card."""
    checkout.insert("medloop/evaluation/image_metrics.py", FUNCTION, before="@dataclass")
    checkout.insert("medloop/evaluation/metrics.py", ROW, before='    _sagemaker("weighted_precision"')
    assert len(checkout.touched) == 2  # and the metric's line in docs/evaluation.md

    names = ("cat", "dog")
    world = image_world(
        tmp_path / "world", {f"{name}/p{i}_{name}.png": () for name in names for i in range(NUM_PATIENTS)}
    )
    stage(world, tmp_path / "ml", archive=False)
    inputs, output = tmp_path / "ml" / "processing" / "input", tmp_path / "evaluation"
    words = [word for name in ("model", "test", "split") for word in (f"--input-{name}", str(inputs / name))]
    main = "containers/evaluate/main.py"
    done = checkout.python(main, "--task", "classification", *words, "--output-evaluation", str(output))
    assert done == 0, checkout.err

    evaluation = Evaluation.read(output)
    statistics = {found.class_name: found for found in evaluation.statistics if found.name == "brier_score"}
    assert set(statistics) == set(names)
    assert evaluation.multiclass_classification_metrics is not None
    assert "brier_score_cat" in evaluation.multiclass_classification_metrics.model_dump()
    schema = json.loads((checkout.root / "medloop/documents/evaluation.schema.json").read_text())
    jsonschema.validate(json.loads((output / "evaluation.json").read_text()), schema)

    page = (output / "report.html").read_text()
    assert ">Brier score</th>" in page
    assert "0.25 is a coin&#39;s. Lower is better." in page
    assert all(_interval(found) in page for found in statistics.values())

    groups = json.loads(json.loads((output / "registration.json").read_text())["metric_groups"])
    charts = [chart for group in groups if group["name"] == "by class" for chart in group["metric_data"]]
    (chart,) = [chart for chart in charts if chart["name"] == "brier_score"]
    assert chart["value"] == [statistics[name].value for name in names]


def _interval(statistic: Statistic) -> str:
    """A statistic's value and interval as cells of the page's table by class have them."""
    assert statistic.interval is not None
    lower, upper = statistic.interval.lower, statistic.interval.upper
    return f'{statistic.value:.3f}<span class="under-value">{lower:.3f} to {upper:.3f}</span>'

"""docs/extending.md, "A metric": a function and a row put a metric into the record, on the page and in the registry."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from medloop.documents.evaluation import Evaluation, Statistic
from tests.containers.test_evaluate import stage
from tests.extending.checkout import Checkout
from tests.programs import Programs
from tests.unit.evaluation.worlds import World, ball, image_world, volume_world

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
        per_case=True,
        definition="The mean squared error of the probabilities of a class; 0.25 is a coin's.",
    ),
"""
NUM_PATIENTS = 12


@pytest.mark.slow
def test_a_metric_is_a_function_and_a_row(programs: Programs, checkout: Checkout, tmp_path: Path) -> None:
    """The evaluate job reports it with its interval, explains it on the page, and adds it to the model card."""
    checkout.insert("medloop/evaluation/image_metrics.py", FUNCTION, before="@dataclass")
    checkout.insert("medloop/evaluation/metrics.py", ROW, before='    _sagemaker("weighted_precision"')
    assert len(checkout.touched) == 2  # and the metric's line in docs/evaluation.md

    names = ("cat", "dog")
    world = image_world(
        tmp_path / "world", {f"{name}/p{i}_{name}.png": () for name in names for i in range(NUM_PATIENTS)}
    )
    output = _evaluate(programs, checkout, world, tmp_path)
    evaluation = Evaluation.read(output)
    statistics = {
        statistic.class_name: statistic for statistic in evaluation.statistics if statistic.name == "brier_score"
    }
    assert set(statistics) == set(names)
    assert evaluation.multiclass_classification_metrics is not None
    assert "brier_score_cat" in evaluation.multiclass_classification_metrics.model_dump()
    schema = json.loads((checkout.root / "medloop/documents/evaluation.schema.json").read_text())
    jsonschema.validate(json.loads((output / "evaluation.json").read_text()), schema)

    page = (output / "report.html").read_text()
    assert ">Brier score</th>" in page
    assert "0.25 is a coin&#39;s. Lower is better." in page
    assert all(_interval(statistic) in page for statistic in statistics.values())

    assert set(_cases(output)[0]) >= {"brier_score_cat", "brier_score_dog"}
    assert {"Brier score cat", "Brier score dog"} <= set(_page_cases(page)[0])

    groups = json.loads(json.loads((output / "registration.json").read_text())["metric_groups"])
    charts = [chart for group in groups if group["name"] == "by class" for chart in group["metric_data"]]
    (chart,) = [chart for chart in charts if chart["name"] == "brier_score"]
    assert chart["value"] == [statistics[name].value for name in names]


SIMILARITY = '''
def volume_similarity(scored: ScoredVolumes, k: int) -> Sample:
    """1 minus the difference of both volumes over their sum (Taha and Hanbury 2015)."""
    truth, predicted = (scored.table(f"volume_{name}")[:, k] for name in ("truth", "predicted"))
    return scored.sample(1 - np.abs(truth - predicted) / (truth + predicted), k)


'''
SIMILARITY_ROW = """    Metric(
        name="volume_similarity", task="segmentation", label="Volumetric similarity",
        function=volume_metrics.volume_similarity, interval=mean_of_shares, per_case=True,
        definition="1 minus the difference of both volumes over their sum.",
    ),
"""
OVERLAP_ROW = """    Metric(
        name="overlap_volume", task="segmentation", label="Overlap", key="overlap", unit="volume",
        function=volume_metrics.by_case("volume_overlap"), interval=mean, per_case=True,
        definition="The volume that truth and prediction share.",
    ),
"""
LAST_FIELD, LAST_SCORE = "    lesions: Lesions = Lesions()\n", "near, volume, predicted, components"


@pytest.mark.slow
def test_metrics_of_volumes_are_in_the_table_of_cases(programs: Programs, checkout: Checkout, tmp_path: Path) -> None:
    """A function or a measurement, and a row: each case's value is in cases.csv and the page's table, in its unit."""
    checkout.insert("medloop/evaluation/volume_metrics.py", SIMILARITY, before="def lesion_sensitivity")
    checkout.insert("medloop/evaluation/metrics.py", SIMILARITY_ROW, before=")  # fmt: skip")
    assert len(checkout.touched) == 2
    checkout.touched.clear()
    measurements = "medloop/imaging/metrics.py"
    checkout.replace(measurements, LAST_FIELD, f"{LAST_FIELD}    volume_overlap: float = np.nan\n")
    checkout.replace(measurements, LAST_SCORE, f"{LAST_SCORE}, overlap * (volume + predicted) / 2")
    checkout.insert("medloop/evaluation/metrics.py", OVERLAP_ROW, before=")  # fmt: skip")
    assert len(checkout.touched) == 2

    truths = {f"p{i}": ball((20, 18, 12), 4 + i % 3, (10, 9, 6)).astype(np.uint8) for i in range(NUM_PATIENTS)}
    output = _evaluate(programs, checkout, volume_world(tmp_path / "world", truths, lambda truth, _: truth), tmp_path)

    means = {statistic.name: statistic.value for statistic in Evaluation.read(output).statistics}
    table, page = _cases(output), _page_cases((output / "report.html").read_text())
    for name, heading, label in (
        ("volume_similarity", "volume_similarity_gland", "Volumetric similarity gland"),
        ("overlap_volume", "overlap_ml_gland", "Overlap gland, ml"),
    ):
        values = {row["case"]: float(row[heading]) for row in table}
        assert len(set(values.values())) > 1
        assert means[name] == pytest.approx(sum(values.values()) / NUM_PATIENTS, abs=1e-5)
        assert {row["case"]: row[label] for row in page} == pytest.approx(values, abs=1e-4)


def _evaluate(programs: Programs, checkout: Checkout, world: World, folder: Path) -> Path:
    """Run the evaluate job of the copy with an untrained model, and return its output folder."""
    stage(world, folder / "ml", archive=False)
    inputs, output = folder / "ml" / "processing" / "input", folder / "evaluation"
    options = [option for name in ("model", "test", "split") for option in (f"--input-{name}", str(inputs / name))]
    arguments = ("--task", world.task, *options, "--output-evaluation", str(output))
    done = programs.run("containers/evaluate/main.py", *arguments, code=checkout.root)
    assert done.returncode == 0, done.stdout
    return output


def _cases(output: Path) -> list[dict[str, str]]:
    with (output / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _page_cases(page: str) -> list[dict[str, Any]]:
    """The rows of the page's table of cases, by its headings."""
    (text,) = re.findall(r'id="case-data">(.*?)</script>', page)
    content = json.loads(text)
    return [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]


def _interval(statistic: Statistic) -> str:
    """A statistic's value and interval as cells of the page's table by class have them."""
    assert statistic.interval is not None
    lower, upper = statistic.interval.lower, statistic.interval.upper
    return f'{statistic.value:.3f}<span class="under-value">{lower:.3f} to {upper:.3f}</span>'

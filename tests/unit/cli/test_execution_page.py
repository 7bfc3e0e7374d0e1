"""What a tuning found, on the terminal and on the page of an execution; the page itself."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import ARN, START

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>"
METRICS = [
    {"Name": "val_auroc", "Regex": "val_auroc=([0-9.]+);"},
    {"Name": "train_loss", "Regex": "train_loss=([0-9.]+);"},
]
STEPS = [
    {"Name": "Split", "Type": "Processing", "Arguments": {}},
    {"Name": "Tune", "Type": "Tuning", "Arguments": {}, "DependsOn": ["Split"]},
    {
        "Name": "Gate",
        "Type": "Condition",
        "DependsOn": ["Tune"],
        "Arguments": {
            "IfSteps": [{"Name": "Register", "Type": "RegisterModel", "Arguments": {}}],
            "ElseSteps": [{"Name": "Refuse", "Type": "Fail", "Arguments": {}}],
        },
    },
]


class Tags(HTMLParser):
    """Collects a page's tags, its text and what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the tag, and any address."""
        self.tags.append(tag)
        self.loads += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset") or name.startswith("on")
        ]

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text += data


def trial(number: int, rate: str, value: float | None, status: str = "Completed", **more: Any) -> dict[str, Any]:
    """A trial's summary."""
    objective = {"Type": "Maximize", "MetricName": "val_auroc", "Value": value}
    return {
        "TrainingJobName": f"tuning-{number:03d}-abcdefgh",
        "TrainingJobStatus": status,
        "TunedHyperParameters": {"learning_rate": rate, "model_name": "vit" if number % 2 else "resnet18"},
        "TrainingStartTime": START,
        "TrainingEndTime": START + timedelta(seconds=61),
        **({"FinalHyperParameterTuningJobObjectiveMetric": objective} if value is not None else {}),
        **more,
    }


@pytest.fixture
def tuned(account: Any) -> str:
    """ARN of an execution whose second step tuned; its logs try to break the page."""
    arn = str(account.add_execution("abc123abc123", "Failed", FailureReason=f"it {HOSTILE}"))
    account.add_step(arn, "Split", "Succeeded", {"ProcessingJob": {"Arn": f"{ARN}:processing-job/s-1"}})
    account.add_step(arn, "Tune", "Failed", {"TuningJob": {"Arn": f"{ARN}:hyper-parameter-tuning-job/tuning"}})
    account.definitions[arn] = json.dumps({"Version": "2020-12-01", "Parameters": [], "Steps": STEPS})
    account.jobs["s-1"] = {}
    account.jobs["tuning"] = {
        "HyperParameterTuningJobStatus": "Completed",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "val_auroc"},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "learning_rate", "ScalingType": "Logarithmic"}]},
        },
        "TrainingJobDefinition": {"AlgorithmSpecification": {"MetricDefinitions": METRICS}},
        "BestTrainingJob": {"TrainingJobName": "tuning-002-abcdefgh"},
        "trials": [
            trial(1, "1e-05", 0.5),
            trial(2, "0.001", 0.75),
            trial(3, "0.01", None, "Failed", FailureReason=HOSTILE),
        ],
    }
    for number, values in ((1, (0.4, 0.5)), (2, (0.6, 0.75))):
        lines = [f"epoch={epoch}; train_loss=1.0; val_auroc={value};" for epoch, value in enumerate(values, 1)]
        account.logs[f"tuning-{number:03d}-abcdefgh/algo-1"] = [*lines, HOSTILE]
    return arn


def open_page(medloop: Any) -> tuple[str, Tags]:
    """The page that `executions open` writes, and what is in it."""
    assert medloop("executions", "open", "latest") == 0
    text = Path(medloop.out.strip()).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    return text, tags


def test_show_lists_the_trials(medloop: Any, tuned: str) -> None:
    """Number, state, hyperparameters, objective, time, and which is the best."""
    assert medloop("executions", "show", "latest") == 0
    rows = [line.split() for line in medloop.out.splitlines()]
    assert ["2", "Completed", "learning_rate=0.001,", "model_name=resnet18", "0.7500", "1:01", "best"] in rows

    assert medloop("executions", "show", "latest", "--json") == 0
    (tuning,) = medloop.json["tunings"]
    assert [item["best"] for item in tuning["trials"]] == [False, True, False]
    assert tuning["trials"][2]["objective"] is None


def test_logs_tell_the_trials_apart(medloop: Any, tuned: str) -> None:
    """Each line begins with its trial's number."""
    assert medloop("executions", "logs", "latest", "Tune") == 0
    assert "[002] epoch=1; train_loss=1.0; val_auroc=0.6;" in medloop.out


def test_the_page_loads_nothing_and_runs_nothing(medloop: Any, tuned: str) -> None:
    """Whatever a log, a reason or a name says stays text."""
    _, tags = open_page(medloop)
    assert not {"script", "img", "link", "iframe", "object"} & set(tags.tags)
    assert tags.loads == []
    assert tags.text.count(HOSTILE) >= 3  # the execution's reason, a trial's reason, the log


def test_the_page_draws_the_tuning(medloop: Any, tuned: str) -> None:
    """Convergence, the trials' curves, each hyperparameter; the learning rate on a logarithmic axis."""
    text, tags = open_page(medloop)
    for title in ("Convergence", "val_auroc of each trial", "learning_rate", "model_name"):
        assert f"<figcaption>{title}</figcaption>" in text
    (chart,) = re.findall(r"<figcaption>learning_rate</figcaption>\s*(<svg.*?</svg>)", text, re.DOTALL)
    ends = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', chart)]
    marks = dict(re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="middle">([^<]+)</text>', chart))
    tenth = [float(x) for x, name in marks.items() if name == "0.0001"]
    assert tenth[0] == pytest.approx((ends[0] + ends[1]) / 2, abs=1)  # halfway between 1e-5 and 1e-3
    assert "not reached" in tags.text  # the steps behind


def test_a_page_of_an_execution_that_has_just_begun(medloop: Any, account: Any) -> None:
    """No step, no log, no metric: still a page."""
    arn = account.add_execution("abc123abc123", "Executing")
    account.definitions[arn] = json.dumps({"Version": "2020-12-01", "Parameters": [], "Steps": STEPS})
    _, tags = open_page(medloop)
    assert "No step has started" in tags.text


def test_metrics_of_a_training_job_become_curves(medloop: Any, account: Any) -> None:
    """By its metric definitions; a value that is no number, or a flat curve, breaks nothing."""
    arn = account.add_execution("abc123abc123", "Succeeded")
    account.add_step(arn, "Train", "Succeeded", {"TrainingJob": {"Arn": f"{ARN}:training-job/t-1"}})
    account.definitions[arn] = json.dumps({"Version": "2020-12-01", "Parameters": [], "Steps": STEPS[:1]})
    account.jobs["t-1"] = {"AlgorithmSpecification": {"MetricDefinitions": METRICS}}
    lines = ["epoch=1; train_loss=0.5; val_auroc=nan;", "epoch=2; train_loss=0.5; val_auroc=.;", "val_auroc=0.9;"]
    account.logs["t-1/algo-1"] = lines
    text, _ = open_page(medloop)
    assert "<figcaption>loss</figcaption>" in text
    assert "<figcaption>scores on val</figcaption>" not in text


def test_a_page_that_can_not_be_written_is_one_line(medloop: Any, tuned: str, tmp_path: Path) -> None:
    """The error names the option."""
    assert medloop("executions", "open", "latest", "--out", str(tmp_path / "none" / "page.html")) == 2
    assert "give another file with --out" in medloop.err

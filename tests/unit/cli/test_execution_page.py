"""What a tuning found, on the terminal and on the page of an execution; the page itself."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.account import START
from tests.unit.cli.executions import (
    HOSTILE,
    STEPS,
    add_evidence,
    add_split,
    add_training,
    add_tuning,
    definition,
    training_job,
)


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


@pytest.fixture
def tuned(account: Any) -> str:
    """ARN of an execution whose second step tuned; its logs try to break the page."""
    arn = str(account.add_execution("abc123abc123", "Failed", FailureReason=f"it {HOSTILE}"))
    add_split(account, arn)
    add_tuning(account, arn, "Failed")
    account.definitions[arn] = definition(*STEPS)
    return arn


@pytest.fixture
def trained(account: Any) -> str:
    """ARN of an execution that split, trained, evaluated and registered."""
    arn = str(account.add_execution("abc123abc123", "Succeeded"))
    add_split(account, arn)
    add_training(account, arn)
    add_evidence(account, arn)
    account.definitions[arn] = definition(*STEPS)
    return arn


def open_page(medloop: Any, *options: str) -> tuple[str, Tags]:
    """The page that `executions open` writes, and what is in it."""
    assert medloop("executions", "open", "latest", *options) == 0
    path = medloop.json["page"] if "--json" in options else medloop.out.strip()
    text = Path(path).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    return text, tags


@pytest.mark.slow
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
    """Any content of a log, a reason or a name stays text."""
    _, tags = open_page(medloop)
    assert not {"script", "img", "link", "iframe", "object"} & set(tags.tags)
    assert [address for address in tags.loads if not address.startswith("#")] == []
    assert tags.text.count(HOSTILE) >= 3  # the execution's reason, a trial's reason, the log


def test_the_page_draws_the_tuning(medloop: Any, tuned: str) -> None:
    """Convergence, the trials' curves, each hyperparameter; the learning rate on a logarithmic axis."""
    text, tags = open_page(medloop)
    for title in ("Convergence", "val_auroc of each trial", "learning_rate", "model_name"):
        assert f"<figcaption>{title}</figcaption>" in text
    (chart,) = re.findall(r"<figcaption>learning_rate</figcaption>\s*(<svg.*?</svg>)", text, re.DOTALL)
    ends = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', chart)]
    tick_labels = dict(re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="middle">([^<]+)</text>', chart))
    tenth = [float(x) for x, name in tick_labels.items() if name == "0.0001"]
    assert tenth[0] == pytest.approx((ends[0] + ends[1]) / 2, abs=1)  # halfway between 1e-5 and 1e-3
    assert "not reached" in tags.text  # the steps behind


@pytest.mark.slow
def test_a_page_of_an_execution_that_has_just_begun(medloop: Any, account: Any) -> None:
    """No step, no log, no metric: still a page."""
    arn = account.add_execution("abc123abc123", "Executing")
    account.definitions[arn] = definition(*STEPS)
    _, tags = open_page(medloop)
    assert "No step has started" in tags.text


@pytest.mark.slow
def test_metrics_of_a_training_job_become_curves(medloop: Any, trained: str, account: Any) -> None:
    """By its metric definitions; a value that is no number, or a flat curve, breaks nothing."""
    lines = ["epoch=1; train_loss=0.5; val_auroc=nan;", "epoch=2; train_loss=0.5; val_auroc=.;", "val_auroc=0.9;"]
    account.logs["t-1/algo-1"] = lines
    text, _ = open_page(medloop)
    assert "<figcaption>loss</figcaption>" in text
    assert "<figcaption>scores on val</figcaption>" not in text


@pytest.mark.slow
def test_the_page_tells_inputs_and_outputs(medloop: Any, trained: str) -> None:
    """Channels and addresses, arguments, hyperparameters, image, machines, the condition, the version."""
    text, _ = open_page(medloop)
    facts = set(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert facts >= {
        ("data", "s3://bucket/data/"),
        ("train", "s3://bucket/split/train"),
        ("task", "segmentation"),
        ("model_name", "resnet18"),
        ("model", "s3://bucket/train/model.tar.gz"),
        ("image", "image:train"),
        ("instances", "1 x ml.g4dn.xlarge"),
        ("asks", "0.7 &gt;= MinScore"),
        ("answer", "true"),
        ("artefact", "s3://bucket/m.tar.gz"),
        ("Epochs", "3"),
    }


def test_the_page_holds_no_secret(medloop: Any, trained: str, account: Any) -> None:
    """Neither of an environment, a hyperparameter, an argument or an address, nor what a log let slip."""
    account.logs["t-1/algo-1"] += ["using AKIAABCDEFGHIJKLMNOP", "api_key=1f2e3d4c5b6a", "see https://me:pass@host/x"]
    text, _ = open_page(medloop)
    secrets = ("f00dfeed", "0123456789abcdef", "abcdefgh", "me:pass", "AKIAABCDEFGHIJKLMNOP", "1f2e3d4c5b6a")
    assert [secret for secret in secrets if secret in text] == []
    assert text.count("(hidden)") >= 7
    assert "WANDB_API_KEY" in text


@pytest.mark.slow
def test_the_page_leads_to_the_evidence_and_the_version(medloop: Any, trained: str) -> None:
    """Score and patients, the report as a file of this machine, the version with its approval."""
    text, tags = open_page(medloop)
    (report,) = [address for address in tags.loads if address.startswith("file:")]
    assert Path(report.removeprefix("file://")).read_bytes() == b"<html>report</html>"
    assert all(
        word in tags.text for word in ("macro_auroc 0.8750", "on 2 test patients", "g/1", "PendingManualApproval")
    )
    assert "two test patients prove little" in text


def test_lost_evidence_costs_no_page(medloop: Any, trained: str, account: Any) -> None:
    """The page shows the rest if evaluation.json can no longer be read."""
    account.objects["s3://bucket/e/evaluation.json"] = b"{"
    _, tags = open_page(medloop)
    assert "macro_auroc" not in tags.text
    assert "g/1" in tags.text


@pytest.mark.slow
def test_why_it_failed_comes_first(medloop: Any, account: Any) -> None:
    """Before all else: the step and its job's own words, and the commands that lead on."""
    arn = account.add_execution("abc123abc123", "Failed", FailureReason="Step failure: One or multiple steps failed.")
    add_split(account, arn)
    add_training(account, arn, "Failed", training_job(FailureReason="AlgorithmError: out of memory in batch 7\nFile x"))
    account.definitions[arn] = definition(*STEPS)
    _, tags = open_page(medloop)
    reason = tags.text.index("AlgorithmError: out of memory in batch 7")
    assert reason < tags.text.index("Step failure") < tags.text.index("What ran") < tags.text.index("File x")
    assert "medloop executions logs abc123abc123 Train" in tags.text
    assert "medloop executions retry abc123abc123" in tags.text


@pytest.mark.slow
def test_the_step_that_ended_the_execution_is_named_first(medloop: Any, account: Any) -> None:
    """Of several that failed, as `run` names it."""
    arn = account.add_execution("abc123abc123", "Failed")
    add_split(account, arn, "Failed")
    add_training(account, arn, "Failed", training_job(FailureReason="the last"))
    account.jobs["s-1"]["FailureReason"] = "an earlier one"
    account.definitions[arn] = definition(*STEPS)
    _, tags = open_page(medloop)
    assert tags.text.index("the last") < tags.text.index("an earlier one") < tags.text.index("What ran")


def costs(text: str) -> dict[str, list[str]]:
    """The rows of the table of costs."""
    table = text.split('id="costs"')[1].split("</table>")[0]
    rows = re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>(.*?)</tr>', table)
    return {name: re.findall(r"<td[^>]*>(.*?)</td>", cells) for name, cells in rows}


def test_cost_on_aws_is_billed_seconds_by_machines_by_price(medloop: Any, trained: str, account: Any) -> None:
    """Two machines of 0.736 USD for an hour, with their disks of 100 GB at 0.14 USD a month; a job of two minutes."""
    account.jobs["t-1"] = training_job(count=2)
    text, tags = open_page(medloop, "--target", "aws")
    disk = 100 * 0.14 / 730
    train, split, evaluate = 2 * (0.736 + disk), (0.23 + disk) / 30, (0.23 + disk) / 60
    assert costs(text)["Train"] == ["2 x ml.g4dn.xlarge", "1:00:00", f"{train:.2f}", ""]
    assert costs(text)["Split"] == ["1 x ml.m5.xlarge", "2:00", f"{split:.2f}", ""]
    assert costs(text)["together"][2] == f"{train + split + evaluate:.2f}"
    assert f"{train:.2f} USD" in tags.text
    assert "List prices of us-east-1" in tags.text


@pytest.mark.slow
def test_spot_is_billed_by_its_billed_seconds(medloop: Any, trained: str, account: Any) -> None:
    """The billed seconds include the discount, which is shown; a warm pool's time counts too."""
    account.jobs["t-1"] = training_job(EnableManagedSpotTraining=True, BillableTimeInSeconds=1080)
    (_, billed, usd, remark) = costs(open_page(medloop, "--target", "aws")[0])["Train"]
    assert (billed, usd, remark) == ("18:00", f"{0.3 * (0.736 + 100 * 0.14 / 730):.2f}", "spot saved 70 %")
    account.jobs["t-1"] = training_job(WarmPoolStatus={"ResourceRetainedBillableTimeInSeconds": 600})
    assert costs(open_page(medloop, "--target", "aws")[0])["Train"][1::2] == ["1:10:00", "10:00 of it kept warm"]


def test_what_came_from_the_cache_cost_nothing(medloop: Any, trained: str, account: Any) -> None:
    """The job whose result it is was paid by another execution."""
    source = {"SourcePipelineExecutionArn": "arn:aws:sagemaker:us-east-1:1:pipeline/p/execution/old"}
    account.steps[trained][1]["CacheHitResult"] = source
    row = costs(open_page(medloop, "--target", "aws")[0])["Train"]
    assert row[2:] == ["0.00", "from the cache of execution old"]


def test_a_machine_without_price_is_not_counted_as_free(medloop: Any, trained: str, account: Any) -> None:
    """Its cost is not known, and the sum says that it lacks it."""
    account.jobs["t-1"] = training_job("ml.future.xlarge")
    rows = costs(open_page(medloop, "--target", "aws")[0])
    assert rows["Train"][2:] == ["not known", "not in the price list"]
    assert rows["together"][3] == "without Train"


@pytest.mark.slow
@pytest.mark.parametrize("spot", [False, True])
def test_a_tuning_costs_what_its_trials_cost(medloop: Any, tuned: str, account: Any, spot: bool) -> None:
    """On demand from each start to each end; on spot by the billed seconds of those that ended."""
    account.jobs["tuning"]["TrainingJobDefinition"]["EnableManagedSpotTraining"] = spot
    for number in (1, 2):
        account.jobs[f"tuning-{number:03d}-abcdefgh"] = {"BillableTimeInSeconds": 600, "TrainingTimeInSeconds": 1200}
    account.jobs["tuning-003-abcdefgh"] = {}
    (_, billed, _, remark) = costs(open_page(medloop, "--target", "aws")[0])["Tune"]
    expected = ("20:00", "2 jobs, spot saved 50 %; 1 not ended are not counted") if spot else ("3:03", "3 jobs")
    assert (billed, remark) == expected


def test_a_local_execution_names_a_ceiling_and_no_cost(medloop: Any, account: Any) -> None:
    """Times of this machine say nothing of an instance's: only the price an hour and the limit are shown."""
    arn = account.add_execution("abc123abc123", "Succeeded")
    add_split(account, arn)
    arguments = {**account.jobs["s-1"], "ProcessingStartTime": None, "ProcessingEndTime": None}
    account.definitions[arn] = definition({**STEPS[0], "Arguments": arguments})
    text, tags = open_page(medloop)
    assert "nothing was billed" in tags.text
    assert costs(text)["Split"] == ["1 x ml.m5.xlarge", "0.230", "2:00:00", f"{2 * (0.23 + 100 * 0.14 / 730):.2f}"]


def test_a_page_that_can_not_be_written_is_one_line(medloop: Any, tuned: str, tmp_path: Path) -> None:
    """The error names the option."""
    assert medloop("executions", "open", "latest", "--out", str(tmp_path / "none" / "page.html")) == 2
    assert "give another file with --out" in medloop.err


@pytest.fixture
def running(account: Any) -> str:
    """ARN of an execution that trains."""
    arn = str(account.add_execution("abc123abc123", "Executing"))
    add_split(account, arn)
    add_training(account, arn, "Executing", training_job(BillableTimeInSeconds=None, TrainingEndTime=None))
    account.definitions[arn] = definition(*STEPS)
    return arn


@pytest.mark.slow
def test_the_page_is_kept_fresh_until_the_execution_ends(medloop: Any, running: str, account: Any) -> None:
    """With --follow: read on every few seconds, loading itself; the last page stands still and holds all."""
    seen: list[str] = []

    def look() -> None:
        seen.append(page.read_text(encoding="utf-8"))
        account.logs["t-1/algo-1"].append(f"look {len(seen)}")
        if len(seen) == 3:
            account.steps[running][1] |= {"StepStatus": "Succeeded", "EndTime": START + timedelta(hours=1)}
            account.executions[running]["PipelineExecutionStatus"] = "Succeeded"

    page = medloop.home / "pages" / "abc123abc123.html"
    medloop.on_sleep = look
    assert medloop("executions", "open", "latest", "--follow") == 0
    assert medloop.out == f"{page}\n"
    assert "Succeeded" in medloop.err
    assert ["look 2" in text for text in seen] == [False, False, True]
    assert ['data-every="3"' in text for text in seen] == [True] * 3
    last = page.read_text(encoding="utf-8")
    assert "look 3" in last
    assert 'data-every="0"' in last
    assert 'id="live"' not in last
    assert [path.name for path in page.parent.iterdir()] == [page.name]


@pytest.mark.slow
def test_an_interrupt_ends_the_updating_alone(medloop: Any, running: str, account: Any) -> None:
    """Exit code 130, nothing is stopped, and the page stands still."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    medloop.on_sleep = interrupt
    assert medloop("executions", "open", "latest", "-f") == 130
    assert account.calls == []
    assert "continues" in medloop.err
    assert 'data-every="0"' in Path(medloop.out.strip()).read_text(encoding="utf-8")


def test_without_a_terminal_the_page_is_drawn_once(medloop: Any, running: str) -> None:
    """A script that asks for a page gets it, and continues."""
    medloop.on_sleep = lambda: pytest.fail("it waited")
    text, tags = open_page(medloop, "--json")
    assert medloop.json["id"] == "abc123abc123"
    assert "location.reload" not in text
    assert "while the execution was running" in tags.text


@pytest.mark.slow
def test_nothing_is_followed_that_has_ended(medloop: Any, trained: str) -> None:
    """--follow of an ended execution draws its page once."""
    medloop.on_sleep = lambda: pytest.fail("it waited")
    assert "location.reload" not in open_page(medloop, "--follow")[0]

"""`medloop models open` and `compare --open`: pages that are whole, escaped, and load nothing."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from medloop.commands.objects import digest_of
from medloop.commands.registry.decisions import new_decision, record
from medloop.commands.registry.registry_section import MARKER
from medloop.documents.metadata import encode
from tests.unit.cli.conftest import Desk
from tests.unit.cli.test_comparing import pair
from tests.unit.cli.versions import PAGE, card, changed_evaluation, identity, register

__all__ = ["pair"]
HOSTILE = '<script>alert("1")</script> & „Näf“'
VOID = {"meta", "br", "img", "line", "rect", "link", "input", "hr"}


class _Reader(HTMLParser):
    """Elements that are open, the tags that were seen, what they load, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.loads += [f"{name}={value}" for name, value in attrs if name in ("src", "href") or name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> _Reader:
    """A page, which must close what it opens, run no script and load nothing."""
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    assert "script" not in reader.seen
    assert reader.loads == []
    return reader


@pytest.fixture
def evidence(account: Any, finished: str) -> dict[str, Any]:
    """The version g/1 of an execution that `trainer` started, on a machine that has a price."""
    account.executions[finished]["CreatedBy"] = identity("trainer@lab")
    account.objects["s3://bucket/e/report.html"] = PAGE
    cluster = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 0}
    account.jobs["t-1"] = {"ResourceConfig": cluster, "BillableTimeInSeconds": 7200}
    account.jobs["e-1"]["ProcessingResources"] = {"ClusterConfig": cluster}
    package: dict[str, Any] = account.packages[0]
    package["ModelCard"] = card(population=None, annotators=HOSTILE)
    package["CustomerMetadataProperties"] = {
        "report_digest": digest_of(PAGE),
        "execution": finished,
        "data": encode(HOSTILE),
        "endpoint": "e",
        "git_commit": "abc-dirty",
    }
    return package


def test_the_registry_s_part_stands_at_the_marker(medloop: Any, evidence: Any) -> None:
    """Version, endpoint, execution, starter, jobs with time and cost, commit, statements; nothing of it is markup."""
    assert medloop("models", "open", "g/1", "--target", "aws", "--no-browser") == 0, medloop.err
    page = Path(medloop.out.rstrip("\n"))
    assert page == medloop.home / "pages" / "g-1.html"
    html = page.read_text(encoding="utf-8")
    assert html.index("<h1>Report</h1>") < html.index('<section id="registry">') < html.index("</main>")
    parsed = read(html)
    for text in (
        "assumed-role/Engineer/trainer@lab", "abc123abc123", "1 x ml.m5.xlarge", "0.46 USD", "abc-dirty", HOSTILE,
        "List prices of", "not stated", digest_of(PAGE),
    ):  # fmt: skip
        assert text in parsed.text, text


def test_without_the_marker_it_stands_at_the_end(medloop: Any, account: Any, evidence: Any) -> None:
    """An older report has none."""
    old = PAGE.replace(MARKER.encode(), b"")
    account.objects["s3://bucket/e/report.html"] = old
    evidence["CustomerMetadataProperties"]["report_digest"] = digest_of(old)
    assert medloop("models", "open", "g/1", "--json") == 0
    html = Path(medloop.json["page"]).read_text(encoding="utf-8")
    assert html.rstrip().endswith("</section></main></body></html>")
    assert "cost nothing; instance types have no effect" in read(html).text
    assert Path(medloop.json["report"]).read_bytes() == old


@pytest.mark.slow
def test_a_changed_report_is_not_shown(medloop: Any, account: Any, evidence: Any) -> None:
    """The refusal names it; `show` says so too, and nothing is written."""
    account.objects["s3://bucket/e/report.html"] = b"<html>a better one</html>"
    assert medloop("models", "open", "g/1") == 2
    assert "s3://bucket/e/report.html: has the digest sha256:" in medloop.err
    assert not (medloop.home / "pages").exists()
    assert medloop("models", "show", "g/1", "--json") == 0
    assert medloop.json["report_state"].startswith("changed: sha256:")


def test_show_names_the_page_and_that_its_digest_holds(medloop: Any, evidence: Any) -> None:
    """Where it lies, and that it is what was registered."""
    assert medloop("models", "show", "g/1", "--json") == 0
    assert (medloop.json["report"], medloop.json["report_state"]) == ("s3://bucket/e/report.html", "digest holds")


def test_decisions_are_shown_with_who_why_and_the_page(desk: Desk, tmp_path: Path) -> None:
    """A hostile reason and name are text; what can't be read of the execution is said."""
    register(desk.boto)
    assert desk("models", "reject", "g/1", "--reason", HOSTILE, "--as", "<b>QM</b>") == 0
    package = desk.package("arn:aws:sagemaker:us-east-1:000000000000:model-package/g/1")
    record(desk.sagemaker, package, new_decision("Approved", "x", "y", package, "sha256:0ther"))
    out = tmp_path / "page.html"
    assert desk("models", "open", "g/1", "--out", str(out)) == 0, desk.err
    parsed = read(out.read_text(encoding="utf-8"))
    for text in (f"Rejected by <b>QM</b>: {HOSTILE}", "was this one", "another one: sha256:0ther", "not readable"):
        assert text in parsed.text


def test_two_versions_are_drawn_side_by_side(medloop: Any, pair: Any, tmp_path: Path) -> None:
    """Scores with intervals, classes and subgroups with differences, what differs; hostile names are text."""
    interval = {"lower": 0.1, "upper": 0.9, "level": 0.95, "method": "bootstrap"}
    counts = {"num_patients": 9, "num_cases": 9}
    rich = [
        {
            "version": 2,
            "statistics": [
                {"name": "auroc", "class_name": HOSTILE, "value": value, "interval": interval, **counts},
                {"name": "ece", "value": None, **counts},
            ],
            "subgroups": [
                {"attribute": "sex", "value": "f", "score": value, "num_patients": 9, "num_cases": 9},
                {"attribute": "site", "value": "B", "score": None, "num_patients": 2, "num_cases": 2, "hidden": True},
            ],
        }
        for value in (0.5, 0.75)
    ]
    for uri, more in zip(("s3://bucket/e/evaluation.json", "s3://bucket/e2/evaluation.json"), rich, strict=True):
        pair.objects[uri] = json.dumps(json.loads(pair.objects[uri]) | more).encode()
    out = tmp_path / "both.html"
    assert medloop("models", "compare", "g/1", "g/2", "--open", "--out", str(out)) == 0, medloop.err
    assert medloop.out == f"{out}\n"
    parsed = read(out.read_text(encoding="utf-8"))
    for text in (
        "g/2 has the higher macro_auroc, by 0.0250, on the same test set", HOSTILE, "0.500 (0.100 to 0.900)", "+0.250",
        "hidden: few patients", "9 and 9", "bbb", "no interval",
    ):  # fmt: skip
        assert text in parsed.text, text


@pytest.mark.slow
def test_versions_that_do_not_compare_are_drawn_with_a_warning(medloop: Any, pair: Any) -> None:
    """Other test sets, an evaluation of another shape, a version without an evaluation: the page says so."""
    pair.objects["s3://bucket/s2/split.json"] = b"[]"
    assert medloop("models", "compare", "g/1", "g/2", "--open", "--json") == 0
    page = Path(medloop.json["page"]).read_text(encoding="utf-8")
    assert 'class="note alarm">Not known to be comparable' in page
    other = changed_evaluation(statistics=["no statistic"])
    pair.objects["s3://bucket/e2/evaluation.json"] = json.dumps(other).encode()
    assert medloop("models", "compare", "g/1", "g/2", "--open", "--json") == 0
    page = Path(medloop.json["page"]).read_text(encoding="utf-8")
    assert "g/2: s3://bucket/e2/evaluation.json: statistics.0: Input should be" in page
    del pair.packages[1]["ModelMetrics"]
    assert medloop("models", "compare", "g/1", "g/2", "--open") == 0
    assert "no evaluation can be read" in read((medloop.home / "pages" / "g-1-and-g-2.html").read_text()).text

"""`medloop models compare A B`: two versions side by side, and whether their scores may be compared at all."""

from __future__ import annotations

import json as json_
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from medloop.commands.evidence import (
    find_model,
    name_of,
    package_evaluation_uri,
    read_evaluation,
    read_object,
    score_of,
)
from medloop.commands.options import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    TargetName,
    TargetOption,
    services,
    usable_home,
)
from medloop.commands.output import print_json, print_table, say
from medloop.commands.pages import BrowserOption, OutOption, page_path, show_page, write_page
from medloop.commands.registry.approval import ModelArgument
from medloop.documents.file_names import SPLIT_FILE
from medloop.documents.metadata import decoded
from medloop.errors import UserError
from medloop.local.state.home import Home

PROVENANCE = {
    "data": "data",
    "data version": "data_version",
    "data digest": "data_digest",
    "code": "code_digest",
    "commit": "git_commit",
    "network": "network",
    "train": "split_train",
    "val": "split_val",
    "test": "split_test",
    "leakage": "leakage",
    "evidence": "evidence",
    "champion then": "champion",
    "test uses": "test_uses",
    "execution": "execution",
}
"""What leads back to where a version came from: name shown, and the metadata entry."""


def compare(
    ctx: typer.Context,
    first: ModelArgument,
    second: ModelArgument,
    drawn: Annotated[bool, typer.Option("--open", help="Draw both side by side as a page, and open it.")] = False,
    out: OutOption = None,
    browser: BrowserOption = True,
    target: TargetOption = TargetName.local,
    home: HomeOption = DEFAULT_HOME,
    json: JsonOption = False,
) -> None:
    """Compare two versions: scores, metrics, and what differs in data, code and commit."""
    opened = services(ctx).target(target, home)
    sagemaker = opened.boto.client("sagemaker")
    arns = [find_model(sagemaker, m) for m in (first, second)]
    if arns[0] == arns[1]:
        raise UserError(f"{first} is named twice; give two versions, see `medloop models list`")
    packages = [sagemaker.describe_model_package(ModelPackageName=arn) for arn in arns]
    versions = [_Version(opened, package) for package in packages]
    document = comparison(*versions)
    page = _draw(document, versions, usable_home(home), out) if drawn or out else None
    if json:
        print_json(document | ({"page": page} if page else {}))
        return
    if page:
        show_page(services(ctx), page, browser=browser)
        return
    _print(services(ctx).out, document)


def _print(console: Console, document: dict[str, Any]) -> None:
    names = document["models"]
    print_table(console, ("", *names), [(row["name"], row["a"], row["b"]) for row in document["facts"]])
    say(console, "")
    headers = ("metric", *names, "difference")
    print_table(console, headers, [(row["name"], row["a"], row["b"], row["difference"]) for row in document["metrics"]])
    say(console, "")
    say(console, document["verdict"], style="" if document["comparable"] else "yellow")


def _draw(document: dict[str, Any], versions: list[_Version], home: Path, out: Path | None) -> Path:
    from medloop.commands.registry.comparison_page import draw_comparison

    first, second = versions
    name = "-and-".join(version.name.replace("/", "-") for version in versions)
    page = page_path(Home.find(home), name, out)
    write_page(page, draw_comparison(document, (first.evaluation, second.evaluation)))
    return page


class _Version:
    """A version with its evaluation, where that can be read."""

    def __init__(self, target: Any, package: Mapping[str, Any]) -> None:
        self.name = name_of(package)
        self.arn = package["ModelPackageArn"]
        self.approval = package.get("ModelApprovalStatus")
        self.created = package.get("CreationTime")
        self.metadata = decoded(package.get("CustomerMetadataProperties"))
        self._target = target
        uri = package_evaluation_uri(dict(package))
        self.evaluation: dict[str, Any] = read_evaluation(target, uri) if uri else {}
        self.metrics = {name: float(value) for name, value, _ in metric_rows(self.evaluation)}
        self.score = score_of(self.evaluation) if self.evaluation else None

    def test_set(self) -> tuple[str, frozenset[tuple[str, str]]] | None:
        """The digest of the data, and the test cases by patient and path; None where split.json can't be read.

        The digest alone says too little: it is one of all cases, however they were divided.
        """
        from botocore.exceptions import ClientError

        place = self.metadata.get("split", "").rstrip("/")
        try:
            split = json_.loads(read_object(self._target, f"{place}/{SPLIT_FILE}"))
            cases = frozenset(
                (patient, case["path"])
                for patient, found in split["patients"].items()
                for case in found["cases"]
                if case["split"] == "test"
            )
            return str(split["data_digest"]), cases
        except (ClientError, UserError, ValueError, LookupError, TypeError, AttributeError):
            return None


def comparison(first: _Version, second: _Version) -> dict[str, Any]:
    """Both versions side by side; differences are the second's value less the first's."""
    facts: list[dict[str, Any]] = [_row("approval", first.approval, second.approval)]
    facts.append(_row("created", first.created, second.created))
    for name, key in PROVENANCE.items():
        if key in first.metadata or key in second.metadata:
            facts.append(_row(name, first.metadata.get(key), second.metadata.get(key)))
    metrics = []
    for name in dict.fromkeys([*first.metrics, *second.metrics]):
        a, b = first.metrics.get(name), second.metrics.get(name)
        metrics.append({**_row(name, a, b), "difference": b - a if a is not None and b is not None else None})
    comparable, verdict = _verdict(first, second)
    return {
        "models": [first.name, second.name],
        "arns": [first.arn, second.arn],
        "facts": facts,
        "metrics": metrics,
        "comparable": comparable,
        "verdict": verdict,
    }


def metric_rows(evaluation: Mapping[str, Any]) -> list[tuple[str, float, float | None]]:
    """Metrics in SageMaker's shape, those that are one number each; a deviation of 0 was not estimated."""
    groups = (evaluation.get(f"{kind}_metrics") or {} for kind in ("multiclass_classification", "segmentation"))
    return [
        (name, metric["value"], metric.get("standard_deviation") or None)
        for metrics in groups
        for name, metric in metrics.items()
        if isinstance(metric.get("value"), int | float)
    ]


def _row(name: str, a: Any, b: Any) -> dict[str, Any]:
    return {"name": name, "a": a, "b": b, "same": a == b}


def _verdict(first: _Version, second: _Version) -> tuple[bool, str]:
    """Whether the main scores stand on the same test set, and what to think of their difference."""
    a, b = first.score, second.score
    if a is None or b is None:
        without = " and ".join(version.name for version in (first, second) if version.score is None)
        return False, f"Not comparable: {without} without an evaluation."
    if a.name != b.name:
        return False, f"Not comparable: {a.name} and {b.name} are different scores."
    ours, theirs = first.test_set(), second.test_set()
    if ours is None or theirs is None:
        return False, "Not known to be comparable: split.json of a version can't be read, so the test sets may differ."
    if ours != theirs:
        return False, (
            f"Not comparable: different test sets, of {a.num_cases} and {b.num_cases} cases. A run compares its "
            "candidate with the champion on the same patients; that comparison stands in the report."
        )
    difference = b.value - a.value
    better = second.name if difference > 0 else first.name
    told = f"{better} has the higher {a.name}, by {abs(difference):.4f}" if difference else f"Equal in {a.name}"
    return True, f"{told}, on the same test set. The difference has no interval: whether it holds is the gate's to say."

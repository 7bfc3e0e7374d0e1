"""Two versions side by side, and whether their scores may be compared at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medloop.commands.evaluations import read_evaluation
from medloop.commands.objects import read_object
from medloop.commands.registry.versions import name_of, package_evaluation_uri
from medloop.documents.file_names import SPLIT_FILE
from medloop.documents.metadata import decoded
from medloop.errors import DataError, UserError

if TYPE_CHECKING:
    from medloop.cloud.target import Target
    from medloop.documents.evaluation import Evaluation
    from medloop.documents.split import SplitRecord

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
"""Metadata entries that lead back to a version's origin, each with the name that is shown."""


class EvaluatedVersion:
    """A version with its evaluation, if that can be read."""

    def __init__(self, target: Target, package: Mapping[str, Any]) -> None:
        self.name = name_of(package)
        self.arn = package["ModelPackageArn"]
        self.approval = package.get("ModelApprovalStatus")
        self.created = package.get("CreationTime")
        self.metadata = decoded(package.get("CustomerMetadataProperties"))
        self._target = target
        self.evaluation: Evaluation | None = None
        self.problem = "no evaluation"
        """The reason why there is no evaluation."""
        if uri := package_evaluation_uri(package):
            try:
                self.evaluation = read_evaluation(target, uri)
            except DataError as error:
                self.problem = str(error)
        metrics = self.evaluation.metrics() if self.evaluation else {}
        self.metrics = {name: metric.value for name, metric in metrics.items()}

    def split(self) -> SplitRecord | None:
        """split.json; None if it can't be read."""
        from botocore.exceptions import ClientError

        from medloop.documents.split import SplitRecord

        uri = f"{self.metadata.get('split', '').rstrip('/')}/{SPLIT_FILE}"
        try:
            return SplitRecord.parse(read_object(self._target, uri))
        except (ClientError, UserError):
            return None


def comparison(first: EvaluatedVersion, second: EvaluatedVersion) -> dict[str, Any]:
    """Both versions side by side; differences are the second's value minus the first's."""
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


def _row(name: str, a: Any, b: Any) -> dict[str, Any]:
    return {"name": name, "a": a, "b": b, "same": a == b}


def _verdict(first: EvaluatedVersion, second: EvaluatedVersion) -> tuple[bool, str]:
    """True if the main scores are of the same test set, and a sentence about their difference."""
    if first.evaluation is None or second.evaluation is None:
        problems = [f"{side.name}: {side.problem}" for side in (first, second) if side.evaluation is None]
        return False, f"Not comparable: {'; '.join(problems)}."
    a, b = first.evaluation.score, second.evaluation.score
    if a.name != b.name:
        return False, f"Not comparable: {a.name} and {b.name} are different scores."
    ours, theirs = first.split(), second.split()
    if ours is None or theirs is None:
        return False, "Not known to be comparable: split.json of a version can't be read, so the test sets may differ."
    if not ours.has_test_set_of(theirs):
        return False, (
            f"Not comparable: different test sets, of {first.evaluation.data.num_cases} and "
            f"{second.evaluation.data.num_cases} cases. A run compares its candidate with the champion on the same "
            "patients; that comparison stands in the report."
        )
    difference = b.value - a.value
    better = second.name if difference > 0 else first.name
    winner = f"{better} has the higher {a.name}, by {abs(difference):.4f}" if difference else f"Equal in {a.name}"
    return (
        True,
        f"{winner}, on the same test set. The difference has no interval; the gate tests whether it is real.",
    )

"""The definition of an execution against the one that the approver's checkout builds with the same settings.

Roles decide who may store a pipeline (docs/deploy.md); this check finds a definition that came about otherwise. An
execution of selected steps takes the other steps' results from an earlier one, whose definition is compared for those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medloop.commands.execution_status import execution_id
from medloop.commands.registry.evidence_files import code_of
from medloop.definition.origin import commit_of, differences, read_origin
from medloop.documents.metadata import decoded
from medloop.errors import MedloopError, UserError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

    from medloop.cloud.target import Target, TargetName
    from medloop.commands.options import Services
    from medloop.definition.diff import Change
    from medloop.settings import Resolved

ACCEPT = "--accept-definition"
MAX_NOTE = 200
"""Characters of what is recorded about a definition."""


@dataclass(frozen=True)
class ComparedDefinition:
    """The result of the comparison.

    Args:
        problem: What differs, or why nothing could be compared, as one clause; empty if the definition is the same.
        is_proven: True if the problem is a difference from the very commit that the execution names.
        commit: The commit of the approver's checkout.
    """

    problem: str
    is_proven: bool
    commit: str

    @property
    def note(self) -> str:
        """The text that is recorded with an approval."""
        text = f"accepted: {self.problem}" if self.problem else f"as built by commit {self.commit}"
        return text if len(text) <= MAX_NOTE else f"{text[: MAX_NOTE - 3]}..."

    def require(self, target: TargetName, version: str, *, accept: bool) -> None:
        """Refuse a version whose definition isn't this checkout's, unless it is accepted.

        On AWS anything that differs or can't be compared must be accepted; locally, where pipelines and checkout are
        the user's own, only a proven difference.

        Raises:
            UserError: It must be accepted, and isn't.
        """
        if self.problem and not accept and (target == "aws" or self.is_proven):
            raise UserError(
                f"{version}: {self.problem}; or approve it with {ACCEPT}, which is recorded with the decision"
            )


@dataclass(frozen=True)
class _Execution:
    """An execution's definition, and the steps whose results it took from an earlier execution's."""

    arn: str
    definition: str
    skipped: frozenset[str]
    """Steps that a later execution ran again: here they don't count."""


def compare_definition(services: Services, target: Target, package: Mapping[str, Any]) -> ComparedDefinition:
    """Compare the definitions behind a version with what this checkout builds from the settings that they record."""
    from medloop.cloud.commit import source_commit

    arn = decoded(package.get("CustomerMetadataProperties")).get("execution", "")
    built_from = source_commit(_module_of(arn))
    sagemaker = target.boto.client("sagemaker")
    try:
        for execution in _executions(sagemaker, arn):
            problem, is_proven = _compare(services, target, execution, built_from)
            if problem:
                return ComparedDefinition(problem, is_proven, built_from)
    except UserError as error:
        return ComparedDefinition(str(error), False, built_from)
    return ComparedDefinition("", False, built_from)


def _module_of(arn: str) -> str:
    """The module of an execution's pipeline; empty if no installed pipeline has its name."""
    from medloop.projects import pipeline_points
    from medloop.settings import split_name

    named = split_name(_pipeline_of(arn))
    return next((point.module for point in pipeline_points() if named and point.name == named[0]), "")


def _pipeline_of(arn: str) -> str:
    return arn.partition(":pipeline/")[2].partition("/")[0]


def _executions(sagemaker: SageMakerClient, arn: str) -> Iterator[_Execution]:
    """Yield the version's execution, and those that it took results from."""
    from botocore.exceptions import ClientError

    skipped: frozenset[str] = frozenset()
    seen = set()
    while arn and arn not in seen:
        seen.add(arn)
        try:
            text = sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)["PipelineDefinition"]
            selected = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn).get("SelectiveExecutionConfig")
        except ClientError as error:
            raise UserError(
                f"the definition of execution {execution_id(arn)} can't be read ({code_of(error)}), so it is unknown "
                "which code ran"
            ) from None
        yield _Execution(arn, text, skipped)
        arn = (selected or {}).get("SourcePipelineExecutionArn", "")
        skipped |= {step["StepName"] for step in (selected or {}).get("SelectedSteps", [])}


def _compare(services: Services, target: Target, execution: _Execution, built_from: str) -> tuple[str, bool]:
    """The problem with an execution's definition, and whether it is proven; the problem is empty if there is none."""
    identifier, commit = execution_id(execution.arn), commit_of(execution.definition) or "none"
    resolved = _resolve(execution.definition)
    if resolved is None:
        return (
            f"execution {identifier} ran a definition that doesn't record its settings, so this checkout can't build "
            f"it again; it names commit {commit}",
            False,
        )
    if resolved.pipeline != _pipeline_of(execution.arn):
        return f"execution {identifier} ran a definition of another pipeline, {resolved.pipeline}", True
    try:
        built = services.build(target, resolved)
    except MedloopError as error:
        return (
            f"this checkout ({_short(built_from)}) can't build the definition of execution {identifier}: {error}",
            False,
        )
    changes = differences(built, execution.definition)
    changes = [change for change in changes if not _is_of(change, execution.skipped)]
    if not changes:
        return "", False
    difference = _named(changes)
    if commit == built_from and not commit.endswith("-dirty") and commit != "none":
        return (
            f"execution {identifier} ran another definition than its commit {_short(commit)} builds: {difference}",
            True,
        )
    return (
        f"execution {identifier} ran another definition than this checkout ({_short(built_from)}) builds: {difference}"
        f"; check out its commit {_short(commit)} and approve there",
        False,
    )


def _resolve(definition: str) -> Resolved | None:
    """The settings that a definition records, checked by this checkout; None if there are none or it refuses them."""
    from medloop.setting_errors import parse_settings
    from medloop.settings import Resolved, load_pipeline

    try:
        origin = read_origin(definition)
        if origin is None:
            return None
        spec = load_pipeline(origin.pipeline)
        settings = parse_settings(spec.settings, dict(origin.settings), "recorded settings:")
    except MedloopError:
        return None
    return Resolved(spec, None, settings, {})


def _is_of(change: Change, steps: frozenset[str]) -> bool:
    """True if a change is within one of the steps."""
    return any(change.path == f"Steps.{name}" or change.path.startswith(f"Steps.{name}.") for name in steps)


def _named(changes: list[Change]) -> str:
    """The first difference and the number of the others."""
    first = changes[0]
    values = f" ({first.before or 'none'} built, {first.after or 'none'} ran)"
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    return f"{first.path}{values}{more}"


def _short(commit: str) -> str:
    """A commit's first twelve characters, with the mark of a changed checkout."""
    return commit[:12] + ("-dirty" if commit.endswith("-dirty") else "")

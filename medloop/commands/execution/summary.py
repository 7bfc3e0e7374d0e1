"""The summary of an ended execution: score, report and registered version, or the failed step and the reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from medloop.commands.evaluations import evaluation_uri, read_evaluation, score_facts, score_text
from medloop.commands.execution_status import Execution, exit_code, failed_step, failure_text
from medloop.commands.objects import local_path, sibling
from medloop.commands.output import STATUS_STYLES, duration, print_error, print_line
from medloop.commands.registry.versions import name_of
from medloop.documents.card import CARD_FIX, NOT_FOR_APPROVAL, setting_names
from medloop.documents.file_names import REPORT_FILE

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

    from medloop.cloud.target import Target
    from medloop.documents.evaluation import Evaluation


@dataclass(frozen=True)
class Evidence:
    """The evaluation.json that an execution wrote, and its report as a file of this machine."""

    evaluation: Evaluation
    report: Path


@dataclass(frozen=True)
class RegisteredVersion:
    """The registered version: its ARN, its name `GROUP/N`, its approval status, its missing model card fields."""

    model_arn: str
    model: str
    approval: str | None
    missing_card_fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExecutionSummary:
    """An ended execution and its results.

    Args:
        execution: The ended execution.
        exit_code: 0 success; 1 ended otherwise; 2 a job was given wrong input.
        evaluation: evaluation.json; None if no step wrote one.
        report: The report as a file of this machine.
        model: `GROUP/N` of the registered version.
        model_arn: Its ARN.
        approval: Its approval status.
        missing_card_fields: Fields of the model card without which it is registered as Rejected.
        failed: The step that failed.
        reason: The reason of the failure.
    """

    execution: Execution
    exit_code: int
    evaluation: Evaluation | None = None
    report: Path | None = None
    model: str | None = None
    model_arn: str | None = None
    approval: str | None = None
    missing_card_fields: tuple[str, ...] = ()
    failed: str | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The summary as a JSON object; of the evaluation, the score and the notes."""
        document, evaluation = asdict(self), self.evaluation
        del document["evaluation"]
        score, notes = (score_facts(evaluation), evaluation.notes) if evaluation else (None, [])
        return document | {"score": score, "notes": notes}


def read_summary(target: Target, home: Path, execution: Execution) -> ExecutionSummary:
    """Read the results of an ended execution."""
    sagemaker = target.boto.client("sagemaker")
    facts: dict[str, Any] = {"execution": execution, "exit_code": exit_code(sagemaker, execution)}
    if uri := evaluation_uri(target, execution):
        facts |= vars(read_evidence(target, home, uri))
    if version := read_version(sagemaker, execution):
        facts |= vars(version)
    if failed := failed_step(execution):
        facts |= {"failed": failed.name, "reason": failure_text(sagemaker, failed)}
    elif execution.status != "Succeeded":
        facts["reason"] = execution.reason
    return ExecutionSummary(**facts)


def read_evidence(target: Target, home: Path, uri: str) -> Evidence:
    """Read the evaluation.json at this URI, and fetch the report next to it.

    Raises:
        DataError: It is malformed, or of a newer version than this code knows.
    """
    return Evidence(read_evaluation(target, uri), local_path(target, home, sibling(uri, REPORT_FILE)))


def read_version(sagemaker: SageMakerClient, execution: Execution) -> RegisteredVersion | None:
    """Read the version that the execution registered; None if it registered none."""
    if execution.registered is None:
        return None
    package = sagemaker.describe_model_package(ModelPackageName=execution.registered)
    missing = package.get("CustomerMetadataProperties", {}).get(NOT_FOR_APPROVAL, "").split()
    return RegisteredVersion(execution.registered, name_of(package), package.get("ModelApprovalStatus"), tuple(missing))


def print_summary(out: Console, err: Console, summary: ExecutionSummary, flags: str) -> None:
    """Print the summary, the reason of a failure on stderr; with `flags`, further commands find the same place."""
    execution = summary.execution
    status = (execution.status, STATUS_STYLES.get(execution.status, ""))
    out.print(Text.assemble("execution ", execution.id, " ", status, f" after {duration(execution.seconds)}"))
    if summary.evaluation:
        print_line(out, f"  score     {score_text(summary.evaluation)}")
        print_line(out, f"  leakage   {summary.evaluation.data.leakage.note}")
        for note in summary.evaluation.notes:
            print_line(out, f"  note      {note}")
    if summary.report:
        print_line(out, f"  report    {summary.report}")
    if summary.model:
        print_line(out, f"  model     {summary.model}  {summary.approval}{_missing_fields(summary)}")
        print_line(out, f"            {summary.model_arn}")
        print_line(out, f"  next      medloop models show {summary.model}{flags}")
    if execution.status != "Succeeded":
        _print_failure(out, err, summary, flags)


def _missing_fields(summary: ExecutionSummary) -> str:
    names = summary.missing_card_fields
    return f": {len(names)} statements are missing ({setting_names(names)}); {CARD_FIX}" if names else ""


def _print_failure(out: Console, err: Console, summary: ExecutionSummary, flags: str) -> None:
    execution = summary.execution
    step = execution.step(summary.failed) if summary.failed else None
    if step and step.job:
        print_line(out, f"  log       medloop executions logs {execution.id} {step.name}{flags}")
    else:
        print_line(out, f"  see       medloop executions show {execution.id}{flags}")
    if execution.may_be_retried:
        print_line(out, f"  resume    medloop executions retry {execution.id}{flags}")
    where = f"step {summary.failed}: " if summary.failed else ""
    print_error(err, f"{where}{' '.join(summary.reason.split()) or 'no reason was given'}")

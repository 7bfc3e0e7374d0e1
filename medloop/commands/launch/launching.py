"""From a user's wishes to a started execution: resolve, check, reference, upsert, start."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medloop.commands.execution_status import find_execution, list_executions
from medloop.commands.launch.changes import confirm_changes
from medloop.commands.launch.checking import check, print_problems, problem_line
from medloop.commands.options import Services
from medloop.commands.output import say
from medloop.documents.card import missing_note
from medloop.errors import DataError, TargetError, UserError
from medloop.input_data import data_version, recordable

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import SelectiveExecutionConfigTypeDef as Selection
    from mypy_boto3_sagemaker.type_defs import StartPipelineExecutionRequestTypeDef

    from medloop.cloud.target import Target
    from medloop.settings import Resolved


@dataclass(frozen=True)
class Wish:
    """What the user asked to run.

    Args:
        resolved: The pipeline with its settings and parameters.
        data: A folder on this machine, or `s3://bucket/prefix`.
        home: Where local runs keep everything.
    """

    resolved: Resolved
    data: str
    home: Path

    @property
    def folder(self) -> Path | None:
        """The data as a folder of this machine; None where it is on S3."""
        return None if self.data.startswith("s3://") else Path(self.data).expanduser().resolve()


def check_data(services: Services, wish: Wish) -> bool:
    """Check a local data set; print each problem.

    Returns:
        Whether the data can be used.

    Raises:
        DataError: The folder is absent, or no data set at all.
    """
    folder = wish.folder
    if folder is None:
        return True
    if not folder.is_dir():
        raise DataError(f"--data {wish.data}: is no folder; give the data set's folder, or s3://bucket/prefix")
    facts = wish.resolved.facts
    report = check(services, folder, wish.resolved.spec.task, facts.labels)
    left_out = [p for p in report.problems if facts.quarantines and p.case is not None]
    for problem in left_out:
        say(services.err, f"will be left out: {problem_line(folder, problem)}", "yellow")
    fatal = [p for p in report.problems if p not in left_out]
    print_problems(services, folder, fatal)
    return not fatal


def select(
    services: Services, target: Target, resolved: Resolved, only: list[str] | None, source: str | None
) -> Selection | None:
    """The service's SelectiveExecutionConfig; None where every step is to run.

    Args:
        services: What commands use from outside.
        target: Where to run.
        resolved: The pipeline.
        only: Names of the steps that shall run; None or empty for all.
        source: The execution that gives the other steps' results; None for the pipeline's newest, as the SDK has it.

    Raises:
        UserError: There is no such step or execution, or a source without a selection.
    """
    if not only:
        if source is not None:
            raise UserError("--from goes with --only; name the steps that shall run")
        return None
    _require_steps(services, target, resolved, only)
    sagemaker = target.boto.client("sagemaker")
    if source is None:
        arns = [s["PipelineExecutionArn"] for s in list_executions(sagemaker, resolved.spec.name)][:1]
    else:
        arns = [find_execution(sagemaker, source)]
    config: Selection = {"SelectedSteps": [{"StepName": name} for name in only]}
    return {**config, "SourcePipelineExecutionArn": arns[0]} if arns else config


def _require_steps(services: Services, target: Target, resolved: Resolved, only: list[str]) -> None:
    """Refuse a name that is no step's: the service would do so too, but only once the pipeline has been updated."""
    from medloop.definition.read import read_definition

    known = [step.name for step in read_definition(services.build(target, resolved)).in_order()]
    if unknown := [name for name in only if name not in known]:
        told = f"pipeline {resolved.spec.name} has no such step; it has: {', '.join(known)}"
        raise UserError(f"--only {', '.join(unknown)}: {told}")


def start(
    services: Services,
    target: Target,
    wish: Wish,
    *,
    yes: bool = False,
    selection: Selection | None = None,
) -> str:
    """Make the data known to the target, update the pipeline, start an execution.

    Args:
        services: What commands use from outside.
        target: Where to run.
        wish: What to run.
        yes: Change the pipeline on AWS without asking.
        selection: The SelectiveExecutionConfig, where only some steps shall run.

    Returns:
        The execution's ARN.

    Raises:
        DataError: There is no data.
    """
    check_store(target, wish)
    uri = input_uri(target, wish)
    version = data_version(target.boto.client("s3"), uri)
    if version is None:
        raise DataError(f"--data {wish.data}: there is no file below it; give the folder or prefix of a data set")
    tell_unstated(services, wish.resolved)
    confirm_changes(services, target, wish.resolved, yes=yes)
    put = services.upsert(target, wish.resolved)
    say(services.err, f"pipeline: {put.arn}", "dim")
    parameters = {**wish.resolved.parameters, "InputData": uri, "DataVersion": version}
    request: StartPipelineExecutionRequestTypeDef = {
        "PipelineName": wish.resolved.spec.name,
        "PipelineParameters": [{"Name": name, "Value": value} for name, value in sorted(parameters.items())],
        "ClientRequestToken": str(uuid.uuid4()),
    }
    if put.version is not None:  # Another run's definition may have become the newest meanwhile.
        request["PipelineVersionId"] = put.version
    if selection:
        request["SelectiveExecutionConfig"] = selection
    return target.boto.client("sagemaker").start_pipeline_execution(**request)["PipelineExecutionArn"]


def tell_unstated(services: Services, resolved: Resolved) -> None:
    """Say which statements are missing, without which nobody may approve what a run registers."""
    if note := missing_note(resolved.facts.missing_card_fields):
        say(services.err, note, "yellow")


def check_store(target: Target, wish: Wish) -> None:
    """Refuse MLflow's store of this machine for jobs on AWS.

    Raises:
        TargetError: It is asked for.
    """
    uri = wish.resolved.parameters.get("TrackingUri", "")
    if target.name != "local" and uri.startswith(("local", "sqlite:")):
        raise TargetError(
            f"--param TrackingUri={uri}: jobs on AWS can't reach a store on this machine; "
            "give a tracking server's ARN or address"
        )


def input_uri(target: Target, wish: Wish) -> str:
    """Where the jobs find the data; a local folder is referenced, never copied.

    It ends in a slash: a job's S3Prefix is a plain prefix of keys, and `data/x` would take in `data/x2` too.

    Raises:
        TargetError: A folder of this machine was given for AWS.
        DataError: The service couldn't record the prefix.
    """
    if wish.folder is None:
        return recordable(wish.data.rstrip("/") + "/")
    if target.name != "local":
        raise TargetError(
            f"--data {wish.data}: jobs on AWS can't read this machine; upload it first: "
            f"aws s3 sync {wish.folder} s3://{target.bucket}/data/{wish.folder.name}"
        )
    from medloop.local.state.home import Home
    from medloop.local.state.objects import reference

    return reference(Home.find(wish.home), wish.folder) + "/"

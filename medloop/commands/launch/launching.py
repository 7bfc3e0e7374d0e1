"""From a user's request to a started execution: check the data, reference it, upsert the pipeline, start."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medloop.commands.execution_status import find_execution, list_executions
from medloop.commands.launch.changes import confirm_changes, print_changes
from medloop.commands.launch.checking import check, print_problems, print_warnings, problem_line
from medloop.commands.launch.floors import check_floors_of_labels, check_floors_on_s3
from medloop.commands.options import Services
from medloop.commands.output import print_line
from medloop.documents.card import missing_note
from medloop.documents.names import known_keys, normalise
from medloop.errors import DataError, SettingError, TargetError, UserError
from medloop.input_data import data_version, recordable

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import SelectiveExecutionConfigTypeDef as Selection
    from mypy_boto3_sagemaker.type_defs import StartPipelineExecutionRequestTypeDef

    from medloop.cloud.target import Target
    from medloop.imaging.validation import DatasetReport
    from medloop.settings import Resolved


@dataclass(frozen=True)
class RunRequest:
    """A run that the user requests; the data are a folder on this machine, or `s3://bucket/prefix`."""

    resolved: Resolved
    data: str
    home: Path

    @property
    def folder(self) -> Path | None:
        """The data as a local folder; None if it is on S3."""
        return None if self.data.startswith("s3://") else Path(self.data).expanduser().resolve()


@dataclass(frozen=True)
class CheckedData:
    """A run's data after their check, with the report; None if they are on S3 or were not checked."""

    usable: bool
    report: DatasetReport | None = None


def check_data(services: Services, run_request: RunRequest) -> CheckedData:
    """Check a local data set; print each problem.

    Raises:
        DataError: The folder is missing, or not a data set.
        SettingError: A floor is of a class that the data set doesn't have.
    """
    folder = run_request.folder
    if folder is None:
        check_floors_of_labels(run_request.resolved)
        return CheckedData(usable=True)
    if not folder.is_dir():
        raise DataError(
            f"--data {run_request.data}: is not a folder; give the data set's folder, or s3://bucket/prefix"
        )
    from medloop.documents.split_rule import MEDIAN
    from medloop.imaging.problems import group_by_kind
    from medloop.imaging.split_plan import LaterSteps

    facts, task = run_request.resolved.facts, run_request.resolved.spec.task
    later = LaterSteps(facts.resampling or MEDIAN, [normalise(name) for name in facts.floors])
    report = check(services, folder, task, facts.labels, facts.split_rule, later, remember=True)
    if report.classes and not report.problems:
        known_keys("evaluate.floors", facts.floors, report.classes[1:] if task == "segmentation" else report.classes)
    left_out = [p for p in report.problems if facts.quarantines and p.case is not None]
    for problem in group_by_kind(left_out):
        print_line(services.err, f"will be left out: {problem_line(folder, problem)}", "yellow")
    print_warnings(services, folder, report.warnings)
    if facts.needs_length_unit:
        _require_length_unit(folder, report)
    fatal = [p for p in report.problems if p not in left_out]
    print_problems(services, folder, fatal)
    return CheckedData(not fatal, report)


def _require_length_unit(folder: Path, report: DatasetReport) -> None:
    """Refuse volumes whose header states no unit of lengths.

    Raises:
        SettingError: There is one.
    """
    from medloop.imaging.validation import find_without_unit

    if path := find_without_unit(folder, report):
        raise SettingError(
            f"evaluate.surface_tolerance_mm: {path} states no unit of lengths, so a tolerance in mm can't be applied; "
            "set evaluate.length_unit (mm, micron or meter), or leave the tolerance out"
        )


def select(
    services: Services, target: Target, resolved: Resolved, only: list[str] | None, source: str | None
) -> Selection | None:
    """Return the service's SelectiveExecutionConfig for the steps of `only`; None if all steps run.

    The other steps' results are those of `source`; None for the pipeline's newest execution, as in the SDK.

    Raises:
        UserError: There is no such step or execution, or a source without a selection.
    """
    if not only:
        if source is not None:
            raise UserError("--from needs --only; name the steps to run")
        return None
    _require_steps(services, target, resolved, only)
    sagemaker = target.boto.client("sagemaker")
    if source is None:
        arns = [s["PipelineExecutionArn"] for s in list_executions(sagemaker, resolved.pipeline)][:1]
    else:
        arns = [find_execution(sagemaker, source)]
    config: Selection = {"SelectedSteps": [{"StepName": name} for name in only]}
    return {**config, "SourcePipelineExecutionArn": arns[0]} if arns else config


def _require_steps(services: Services, target: Target, resolved: Resolved, only: list[str]) -> None:
    """Refuse unknown names of steps; the service would refuse them only after the pipeline is updated."""
    from medloop.definition.read import read_definition

    known = [step.name for step in read_definition(services.build(target, resolved)).in_order()]
    if unknown := [name for name in only if name not in known]:
        reason = f"pipeline {resolved.pipeline} has no such step; it has: {', '.join(known)}"
        raise UserError(f"--only {', '.join(unknown)}: {reason}")


def start(
    services: Services,
    target: Target,
    run_request: RunRequest,
    *,
    yes: bool = False,
    selection: Selection | None = None,
) -> str:
    """Reference the data on the target, store the pipeline where it isn't published, and start an execution.

    On AWS a pipeline is stored only if it is confirmed, or with `yes`.

    Returns:
        The execution's ARN.

    Raises:
        DataError: There is no data.
        SettingError: A floor is of a class that the data don't have.
    """
    check_tracking_store(target, run_request)
    uri = data_uri(target, run_request)
    version = data_version(target.boto.client("s3"), uri)
    if version is None:
        raise DataError(f"--data {run_request.data}: has no files; give the folder or prefix of a data set")
    check_floors_on_s3(target.boto.client("s3"), uri, run_request.resolved)
    print_missing_card_fields(services, run_request.resolved)
    result = services.find_published(target, run_request.resolved)
    if result is not None:
        print_changes(services.err, run_request.resolved.pipeline, target, [])
    else:
        confirm_changes(services, target, run_request.resolved, yes=yes)
        result = services.upsert(target, run_request.resolved)
    print_line(services.err, f"pipeline: {result.arn}", "dim")
    parameters = {**run_request.resolved.parameters, "InputData": uri, "DataVersion": version}
    request: StartPipelineExecutionRequestTypeDef = {
        "PipelineName": run_request.resolved.pipeline,
        "PipelineParameters": [{"Name": name, "Value": value} for name, value in sorted(parameters.items())],
        "ClientRequestToken": str(uuid.uuid4()),
    }
    if result.version is not None:  # Another run's definition may have become the newest meanwhile.
        request["PipelineVersionId"] = result.version
    if selection:
        request["SelectiveExecutionConfig"] = selection
    return target.boto.client("sagemaker").start_pipeline_execution(**request)["PipelineExecutionArn"]


def print_missing_card_fields(services: Services, resolved: Resolved) -> None:
    """Print which model card fields are missing; without them no version that a run registers may be approved."""
    if note := missing_note(resolved.facts.missing_card_fields):
        print_line(services.err, note, "yellow")


def check_tracking_store(target: Target, run_request: RunRequest) -> None:
    """Refuse a local MLflow store for jobs on AWS.

    Raises:
        TargetError: The run has one.
    """
    uri = run_request.resolved.parameters.get("TrackingUri", "")
    if target.name != "local" and uri.startswith(("local", "sqlite:")):
        raise TargetError(
            f"--param TrackingUri={uri}: jobs on AWS can't reach a store on this machine; "
            "give a tracking server's ARN or address"
        )


def data_uri(target: Target, run_request: RunRequest) -> str:
    """Return the URI from which jobs read the data; a local folder is referenced, never copied.

    It ends in a slash: a job's S3Prefix is a plain prefix of keys, and `data/x` would include `data/x2` too.

    Raises:
        TargetError: The data is a local folder, and the target is AWS.
        DataError: The service couldn't record the prefix.
    """
    if run_request.folder is None:
        return recordable(run_request.data.rstrip("/") + "/")
    if target.name != "local":
        raise TargetError(
            f"--data {run_request.data}: jobs on AWS can't read this machine; upload it first: "
            f"medloop data upload {run_request.folder} s3://{target.bucket}/data/{run_request.folder.name}"
        )
    from medloop.local.state.home import Home
    from medloop.local.state.objects import reference

    return reference(Home.find(run_request.home), run_request.folder) + "/"

"""Kinds of resources that the smoke test creates: how this run's are found, and how one is deleted.

Everything is found by the run's id in its name, so that a run that was killed is cleaned by another process.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from aws_smoke.check import Result, failure
from aws_smoke.lab import PREFIX, Lab
from infra.names import TASKS
from medloop.cloud.layout import EXECUTIONS, TENSORBOARD, group_name

PIPELINE_PREFIXES = (PREFIX, *(f"{task}-smoke-" for task in TASKS))
CLEANUP = "cleanup"
_ENDED = frozenset({"Succeeded", "Failed", "Stopped"})
_ABSENT = ("notfound", "nosuch", "404", "does not exist", "could not find", "cannot find", "not found")
_TRIES, _PAUSE = 3, 10.0
Names = Iterator[str]


@dataclass(frozen=True)
class Kind:
    """A kind of resources.

    Args:
        name: As in `Check.makes`.
        find: Yields the ids of this run's.
        delete: Deletes one; an absent one raises the service's error.
    """

    name: str
    find: Callable[[Lab], Iterable[str]]
    delete: Callable[[Lab, str], None]


def clean(lab: Lab, kinds: Sequence[str] | None = None) -> list[Result]:
    """Delete what this run created, and report what can't be found or deleted.

    Args:
        lab: The account.
        kinds: Names of kinds; None: all.
    """
    problems: dict[tuple[str, str], Result] = {}
    for attempt in range(_TRIES):
        if attempt:
            lab.sleep(_PAUSE)
        problems = {}
        for kind in KINDS:
            if kinds is None or kind.name in kinds:
                problems |= _clean_kind(lab, kind)
        if not problems:
            break
    return list(problems.values())


def delete(lab: Lab, kind: str, name: str) -> None:
    """Delete one resource that this run has just created.

    Raises:
        ClientError: The service refuses.
    """
    next(known for known in KINDS if known.name == kind).delete(lab, name)
    lab.notes[:] = [note for note in lab.notes if note != (kind, name)]


def _clean_kind(lab: Lab, kind: Kind) -> dict[tuple[str, str], Result]:
    problems = {}
    ids = [name for noted, name in lab.notes if noted == kind.name]
    try:
        ids += kind.find(lab)
    except Exception as error:
        problems[kind.name, ""] = failure(CLEANUP, f"list {kind.name}", error)
    for name in dict.fromkeys(ids):
        try:
            kind.delete(lab, name)
        except Exception as error:
            if not _is_absent(error):
                problems[kind.name, name] = failure(CLEANUP, f"{kind.name} {name}", error)
                continue
        lab.notes[:] = [note for note in lab.notes if note != (kind.name, name)]
    return problems


def _is_absent(error: Exception) -> bool:
    if not isinstance(error, ClientError):
        return False
    facts = error.response["Error"]
    return any(text in f"{facts.get('Code', '')} {facts.get('Message', '')}".lower() for text in _ABSENT)


def _listed(lab: Lab, service: str, operation: str, member: str, key: str, **request: Any) -> Names:
    """Yield a field of the listed items whose name has the run's marker."""
    pages = lab.client(service).get_paginator(operation).paginate(**request)
    return (str(item[key]) for page in pages for item in page.get(member, []) if lab.marker in str(item[key]))


def _pipelines(lab: Lab) -> Names:
    for prefix in PIPELINE_PREFIXES:
        prefix += lab.run
        yield from _listed(
            lab, "sagemaker", "list_pipelines", "PipelineSummaries", "PipelineName", PipelineNamePrefix=prefix
        )


def _executions(lab: Lab) -> Names:
    for pipeline in _pipelines(lab):
        pages = lab.client("sagemaker").get_paginator("list_pipeline_executions").paginate(PipelineName=pipeline)
        for item in (item for page in pages for item in page["PipelineExecutionSummaries"]):
            if item["PipelineExecutionStatus"] not in _ENDED:
                yield item["PipelineExecutionArn"]


def _stop_execution(lab: Lab, arn: str) -> None:
    """Stop an execution, and wait: a pipeline with a running one can't be deleted."""
    if _execution_status(lab, arn) in _ENDED:
        return
    request = {"PipelineExecutionArn": arn, "ClientRequestToken": str(uuid.uuid4())}
    lab.send("sagemaker", "StopPipelineExecution", request)
    lab.until(lambda: _execution_status(lab, arn) in _ENDED, seconds=600, every=10, subject=f"{arn} is stopped")


def _execution_status(lab: Lab, arn: str) -> str:
    response = lab.send("sagemaker", "DescribePipelineExecution", {"PipelineExecutionArn": arn})
    return str(response["PipelineExecutionStatus"])


JOBS = {
    "training": ("Training", "TrainingJobSummaries", "TrainingJob"),
    "processing": ("Processing", "ProcessingJobSummaries", "ProcessingJob"),
    "tuning": ("HyperParameterTuning", "HyperParameterTuningJobSummaries", "HyperParameterTuningJob"),
}
"""Types of jobs: the middle of their operations, the lists' member, the beginning of their fields."""


def _jobs(lab: Lab) -> Names:
    """Yield `type/name` of the jobs that run; records of jobs that ended stay."""
    operations = {
        "training": "list_training_jobs",
        "processing": "list_processing_jobs",
        "tuning": "list_hyper_parameter_tuning_jobs",
    }
    for kind, (_, member, field) in JOBS.items():
        request = {"NameContains": lab.marker, "StatusEquals": "InProgress"}
        for name in _listed(lab, "sagemaker", operations[kind], member, f"{field}Name", **request):
            yield f"{kind}/{name}"


def stop_job(lab: Lab, job: str) -> None:
    """Stop a job `type/name`, if it runs."""
    kind, _, name = job.partition("/")
    middle, _, field = JOBS[kind]
    status = lab.send("sagemaker", f"Describe{middle}Job", {f"{field}Name": name})[f"{field}Status"]
    if status == "InProgress":
        lab.send("sagemaker", f"Stop{middle}Job", {f"{field}Name": name})


def _versions(lab: Lab) -> Names:
    """Yield the versions in this run's groups, and those that its execution registered in the stack's."""
    client = lab.client("sagemaker")
    for group in [*_groups(lab), *(group_name(task, "") for task in TASKS)]:
        request = {"ModelPackageGroupName": group, "CreationTimeAfter": lab.started}
        try:
            pages = list(client.get_paginator("list_model_packages").paginate(**request))
        except ClientError as error:
            if _is_absent(error):
                continue
            raise
        for arn in (item["ModelPackageArn"] for page in pages for item in page["ModelPackageSummaryList"]):
            if lab.marker in group or lab.marker in _execution_of(lab, arn):
                yield arn


def _execution_of(lab: Lab, arn: str) -> str:
    package = lab.send("sagemaker", "DescribeModelPackage", {"ModelPackageName": arn})
    return str(package.get("CustomerMetadataProperties", {}).get("execution", ""))


def _groups(lab: Lab) -> Names:
    member, key = "ModelPackageGroupSummaryList", "ModelPackageGroupName"
    return _listed(lab, "sagemaker", "list_model_package_groups", member, key, NameContains=lab.marker)


def _roles(lab: Lab) -> Names:
    return _listed(lab, "iam", "list_roles", "Roles", "RoleName", PathPrefix=lab.path)


def _delete_role(lab: Lab, name: str) -> None:
    for policy in lab.send("iam", "ListRolePolicies", {"RoleName": name})["PolicyNames"]:
        lab.send("iam", "DeleteRolePolicy", {"RoleName": name, "PolicyName": policy})
    lab.send("iam", "DeleteRole", {"RoleName": name})


def _objects(lab: Lab) -> Names:
    """Yield `bucket/prefix` of the prefixes below which jobs and checks store objects."""
    outputs = lab.stack.outputs
    for top in (EXECUTIONS, TENSORBOARD, "checkpoints"):
        for prefix in PIPELINE_PREFIXES:
            yield f"{outputs['MedloopBucket']}/{top}/{prefix}{lab.run}"
    yield f"{outputs['DataBucket']}/raw/{TASKS[0]}/{lab.marker}/"


def _delete_objects(lab: Lab, location: str) -> None:
    """Delete all versions of the objects below a prefix."""
    bucket, _, prefix = location.partition("/")
    if lab.marker not in prefix:
        raise ValueError(f"{location} is not of run {lab.run}")
    for page in lab.client("s3").get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        records = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        objects = [{"Key": record["Key"], "VersionId": record["VersionId"]} for record in records]
        if objects:
            response = lab.send("s3", "DeleteObjects", {"Bucket": bucket, "Delete": {"Objects": objects}})
            if errors := response.get("Errors"):
                raise OSError(f"{errors[0]['Key']}: {errors[0]['Code']}: {errors[0].get('Message', '')}")


def _deleting(service: str, operation: str, key: str, *, token: bool = False) -> Callable[[Lab, str], None]:
    """Make a function that deletes by one request."""

    def send(lab: Lab, name: str) -> None:
        more = {"ClientRequestToken": str(uuid.uuid4())} if token else {}
        lab.send(service, operation, {key: name, **more})

    return send


def _listing(service: str, operation: str, member: str, key: str, prefix: str) -> Callable[[Lab], Names]:
    """Make a function that finds by one listing, whose parameter `prefix` gets the beginning of names."""
    return lambda lab: _listed(lab, service, operation, member, key, **{prefix: PREFIX + lab.run})


KINDS = (
    Kind(
        "schedule",
        _listing("scheduler", "list_schedules", "Schedules", "Name", "NamePrefix"),
        _deleting("scheduler", "DeleteSchedule", "Name"),
    ),
    Kind("execution", _executions, _stop_execution),
    Kind("job", _jobs, stop_job),
    Kind("pipeline", _pipelines, _deleting("sagemaker", "DeletePipeline", "PipelineName", token=True)),
    Kind(
        "endpoint configuration",
        _listing("sagemaker", "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName", "NameContains"),
        _deleting("sagemaker", "DeleteEndpointConfig", "EndpointConfigName"),
    ),
    Kind(
        "model",
        _listing("sagemaker", "list_models", "Models", "ModelName", "NameContains"),
        _deleting("sagemaker", "DeleteModel", "ModelName"),
    ),
    Kind("model version", _versions, _deleting("sagemaker", "DeleteModelPackage", "ModelPackageName")),
    Kind("model group", _groups, _deleting("sagemaker", "DeleteModelPackageGroup", "ModelPackageGroupName")),
    Kind("role", _roles, _delete_role),
    Kind("objects", _objects, _delete_objects),
)
"""In the order in which they can be deleted."""

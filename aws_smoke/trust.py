"""Check `source-account`: which requests name the account when SageMaker assumes a role, by an experiment.

Two roles: one trusts requests that name this account, one those that name no existing account. A request that the
second role refuses does assume a role; if the first accepts it, the request names the account. CloudTrail wouldn't
show it: the event has no condition keys.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from aws_smoke.check import Case, Learned, NotTriedError
from aws_smoke.lab import Lab
from aws_smoke.refusal import follow, refusal_definition
from aws_smoke.resources import stop_job
from medloop.cloud.layout import EXECUTIONS

INSTANCE = "ml.m5.large"
NO_ACCOUNT = "000000000000"
NAMED = "names the account: StringEquals would do for it"
NOT_NAMED = "doesn't name the account: StringEqualsIfExists is needed"
_REFUSED = "assume"
LIMIT_SECONDS = 300


def trust_cases(lab: Lab) -> Iterator[Case]:
    """Yield the roles, and a case for each kind of request."""
    experiment = _Experiment(lab)
    yield Case("two roles", experiment.create_roles)
    probes: dict[str, Callable[[Lab, str, str], bool]] = {
        "pipeline": _starts_pipeline,
        "model": partial(_accepts, "CreateModel", _model),
        "processing job": partial(_starts_job, "processing", "CreateProcessingJob", _processing),
        "training job": partial(_starts_job, "training", "CreateTrainingJob", _training),
        "tuning job": partial(_starts_job, "tuning", "CreateHyperParameterTuningJob", _tuning),
    }
    for name, probe in probes.items():
        yield Case(name, partial(experiment.compare, probe))


@dataclass
class _Experiment:
    lab: Lab
    roles: dict[str, str] = field(default_factory=dict)

    def create_roles(self) -> str:
        """Create both roles."""
        lab = self.lab
        roles = {"s": lab.create_role("s", "sagemaker", lab.target.account)}
        roles["n"] = lab.create_role("n", "sagemaker", NO_ACCOUNT)
        self.roles = roles
        return ", ".join(roles.values())

    def compare(self, probe: Callable[[Lab, str, str], bool]) -> str:
        """Send the request with each role.

        Raises:
            NotTriedError: The roles are missing, or the request assumes none.
        """
        if not self.roles:
            raise NotTriedError("the roles weren't created")
        if probe(self.lab, "n", self.roles["n"]):
            raise NotTriedError("the request was accepted with a role that no service can assume: it assumes none yet")
        try:
            # A new role isn't known everywhere at once.
            self.lab.until(
                lambda: probe(self.lab, "s", self.roles["s"]), seconds=60, every=15, subject="the role is assumed"
            )
        except TimeoutError:
            return Learned(NOT_NAMED)
        return Learned(NAMED)


def _accepted(send: Callable[[], Any], role: str) -> bool:
    """Send a request; False if the role can't be assumed.

    Raises:
        ClientError: It is refused for another reason before the role is assumed: the control role shows the order.
    """
    try:
        send()
    except ClientError as error:
        if _REFUSED in str(error).lower():
            return False
        if role == "n":
            raise
    return True


def _accepts(operation: str, make: Callable[[Lab, str, str], dict[str, Any]], lab: Lab, role: str, arn: str) -> bool:
    request = make(lab, role, arn)
    return _accepted(lambda: lab.create("model", request["ModelName"], f"sagemaker:{operation}", request), role)


def _starts_job(
    kind: str, operation: str, make: Callable[[Lab, str, str], dict[str, Any]], lab: Lab, role: str, arn: str
) -> bool:
    request = make(lab, role, arn)
    name = next(value for key, value in request.items() if key.endswith("JobName"))
    job = f"{kind}/{name}"
    started = _accepted(lambda: lab.create("job", job, f"sagemaker:{operation}", request), role)
    # A request that was refused after the role was assumed made no job. The cleanup reports one that can't be stopped.
    if started and role == "s":
        with contextlib.suppress(ClientError):
            stop_job(lab, job)
    return started


def _starts_pipeline(lab: Lab, role: str, arn: str) -> bool:
    """Start the pipeline that refuses: its end tells whether its role could be assumed."""
    name = lab.name(f"trust-{role}-{uuid.uuid4().hex[:6]}")
    reason = ""

    def start() -> None:
        nonlocal reason
        lab.create_pipeline(name, refusal_definition(), arn)
        request = {"PipelineName": name, "ClientRequestToken": str(uuid.uuid4())}
        execution = lab.send("sagemaker", "StartPipelineExecution", request)["PipelineExecutionArn"]
        reason = str(follow(lab, execution, seconds=600).get("FailureReason", ""))

    return _accepted(start, role) and _REFUSED not in reason.lower()


def _model(lab: Lab, role: str, arn: str) -> dict[str, Any]:
    container = {"Image": lab.target.base_image("serve")}
    return {
        "ModelName": lab.name(f"trust-{role}"),
        "ExecutionRoleArn": arn,
        "PrimaryContainer": container,
        "Tags": lab.tags,
    }


def _processing(lab: Lab, role: str, arn: str) -> dict[str, Any]:
    cluster = {"InstanceCount": 1, "InstanceType": INSTANCE, "VolumeSizeInGB": 10}
    return {
        "ProcessingJobName": lab.name(f"trust-{role}"),
        "RoleArn": arn,
        "ProcessingResources": {"ClusterConfig": cluster},
        "AppSpecification": {"ImageUri": lab.target.base_image("evaluate"), "ContainerEntrypoint": ["true"]},
        "StoppingCondition": {"MaxRuntimeInSeconds": LIMIT_SECONDS},
        "Tags": lab.tags,
    }


def _training(lab: Lab, role: str, arn: str) -> dict[str, Any]:
    job = _training_job(lab, arn)
    job["AlgorithmSpecification"]["ContainerEntrypoint"] = ["true"]
    return {"TrainingJobName": lab.name(f"trust-{role}"), **job, "Tags": lab.tags}


def _tuning(lab: Lab, role: str, arn: str) -> dict[str, Any]:
    job = _training_job(lab, arn)
    job["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "score", "Regex": "score=([0-9.]+);"}]
    ranges: Mapping[str, Any] = {
        "ContinuousParameterRanges": [{"Name": "learning_rate", "MinValue": "0.1", "MaxValue": "0.2"}]
    }
    config = {
        "Strategy": "Random",
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1},
        "ParameterRanges": ranges,
    }
    # 32 characters at most.
    return {
        "HyperParameterTuningJobName": lab.name(role),
        "HyperParameterTuningJobConfig": config,
        "TrainingJobDefinition": job,
        "Tags": lab.tags,
    }


def _training_job(lab: Lab, arn: str) -> dict[str, Any]:
    folder = f"s3://{lab.target.bucket}/{EXECUTIONS}/{lab.name('trust')}/Train"
    return {
        "AlgorithmSpecification": {"TrainingImage": lab.target.base_image("evaluate"), "TrainingInputMode": "File"},
        "RoleArn": arn,
        "OutputDataConfig": {"S3OutputPath": folder},
        "ResourceConfig": {"InstanceType": INSTANCE, "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": LIMIT_SECONDS},
    }

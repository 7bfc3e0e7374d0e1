"""Check `gpu`: a training job that prints the driver of its host and asks PyTorch for the GPU, without training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from aws_smoke.check import Case, Learned, UnexpectedError
from aws_smoke.lab import Lab
from medloop.cloud.layout import EXECUTIONS
from medloop.container.gpu import MIN_DRIVER

INSTANCE = "ml.g4dn.xlarge"
"""The cheapest with a GPU."""
ESTIMATED_HOURS, MAX_MINUTES = 0.1, 10
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
SCRIPT = (
    "nvidia-smi --query-gpu=name,driver_version --format=csv,noheader; "
    "python -c 'import torch; print(f\"smoke: CUDA {torch.version.cuda}, usable {torch.cuda.is_available()}\")'"
)
_DRIVER = re.compile(r"^(?P<name>[^,]+), (?P<driver>(?P<branch>\d{3})\.[\d.]+)$", re.MULTILINE)
_CUDA = re.compile(r"smoke: CUDA (?P<major>\d+)\.\d+, usable (?P<usable>True|False)")
_LOG_POLLS = 6
_ENDED = frozenset({"Completed", "Failed", "Stopped"})


def gpu_cases(lab: Lab) -> Iterator[Case]:
    """Yield the one job."""
    yield Case(f"driver of a training host, {INSTANCE}", lambda: _print_driver(lab))


def job_request(lab: Lab) -> dict[str, Any]:
    """Return CreateTrainingJob's request: the base image of training, in the jobs' network and role."""
    image = lab.target.base_image("classify")
    specification = {
        "TrainingImage": image,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["sh", "-c"],
        "ContainerArguments": [SCRIPT],
    }
    request = {
        "TrainingJobName": lab.name("gpu"),
        "AlgorithmSpecification": specification,
        "RoleArn": lab.target.job_roles["training"],
        "OutputDataConfig": {"S3OutputPath": f"s3://{lab.target.bucket}/{EXECUTIONS}/{lab.name('gpu')}/Train"},
        "ResourceConfig": {"InstanceType": INSTANCE, "InstanceCount": 1, "VolumeSizeInGB": 50},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60 * MAX_MINUTES},
        "Tags": lab.tags,
    }
    return request | ({"VpcConfig": lab.stack.vpc} if lab.stack.vpc else {})


def _print_driver(lab: Lab) -> str:
    request = job_request(lab)
    name = request["TrainingJobName"]
    lab.create("job", f"training/{name}", "sagemaker:CreateTrainingJob", request)

    def poll() -> dict[str, Any] | None:
        described = lab.send("sagemaker", "DescribeTrainingJob", {"TrainingJobName": name})
        return described if described["TrainingJobStatus"] in _ENDED else None

    job = lab.until(poll, seconds=1800, every=20, subject=f"job {name} ended")
    log = _wait_for_log(lab, name)
    if job["TrainingJobStatus"] != "Completed":
        raise UnexpectedError(f"job {name}: {job['TrainingJobStatus']}: {job.get('FailureReason', '')}; log: {log!r}")
    return read_driver(log)


def _wait_for_log(lab: Lab, name: str) -> str:
    """Return the job's log once it is complete; what there is after two minutes."""
    for _ in range(_LOG_POLLS):
        log = _read_log(lab, name)
        if _CUDA.search(log):
            return log
        lab.sleep(20)
    return _read_log(lab, name)


def _read_log(lab: Lab, name: str) -> str:
    """Return the job's log; empty if there is none."""
    request = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": f"{name}/"}
    try:
        pages = lab.client("logs").get_paginator("filter_log_events").paginate(**request)
        events = [event for page in pages for event in page["events"]]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return ""
        raise
    return "\n".join(event["message"].strip() for event in events)


def read_driver(log: str) -> str:
    """Return the driver and CUDA's state from the job's log, as one line.

    Raises:
        UnexpectedError: They aren't there, or CUDA can't be used.
    """
    driver, cuda = _DRIVER.search(log), _CUDA.search(log)
    if driver is None or cuda is None:
        raise UnexpectedError(f"the job's log has no driver or no line of PyTorch: {log[-300:]!r}")
    needed = MIN_DRIVER.get(int(cuda["major"]))
    text = f"{driver['name']}, driver {driver['driver']}, CUDA {cuda['major']} needs {needed}, usable: {cuda['usable']}"
    if cuda["usable"] != "True":
        raise UnexpectedError(f"{text}; take a base image of an older CUDA (docs/training.md)")
    return Learned(text)

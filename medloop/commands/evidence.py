"""What an execution leaves behind: evaluation.json, report.html and a registered model version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloop.commands.records import Execution, describe_job
from medloop.documents.file_names import EVALUATION_FILE
from medloop.errors import UserError
from medloop.s3_uri import split_s3_uri


@dataclass(frozen=True)
class Score:
    """How well a model does on held-out patients.

    Args:
        name: Such as `macro_auroc`.
        value: 0 to 1, more is better.
        num_patients: Test patients behind it; 0 where patients are not known.
        num_cases: Test images or volumes.
        interval: 95 % confidence interval over patients, where there are enough of them.
    """

    name: str
    value: float
    num_patients: int
    num_cases: int
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        """One phrase: name, value, interval, number of patients."""
        interval = f" (95 % interval {self.interval[0]:.3f} to {self.interval[1]:.3f})" if self.interval else ""
        patients = f"{self.num_patients} test patient{'' if self.num_patients == 1 else 's'}"
        behind = patients if self.num_patients else f"{self.num_cases} test cases, patients unknown"
        return f"{self.name} {self.value:.4f}{interval} on {behind}"


def read_object(target: Any, uri: str) -> bytes:
    """The content of an object."""
    bucket, key = split_s3_uri(uri)
    return bytes(target.boto.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())


def output_uri(target: Any, execution: Execution, name: str) -> str | None:
    """Where an output of the execution's processing jobs lies, without a slash at its end; None where none wrote it."""
    sagemaker = target.boto.client("sagemaker")
    for step in execution.steps:
        if step.job is None or step.job.kind != "processing" or step.status != "Succeeded":
            continue
        for output in describe_job(sagemaker, step.job).get("ProcessingOutputConfig", {}).get("Outputs", []):
            if output["OutputName"] == name:
                return str(output["S3Output"]["S3Uri"]).rstrip("/")
    return None


def evaluation_uri(target: Any, execution: Execution) -> str | None:
    """Where the execution's evaluation.json lies; None where no step wrote one."""
    folder = output_uri(target, execution, "evaluation")
    return f"{folder}/{EVALUATION_FILE}" if folder else None


def read_evaluation(target: Any, uri: str) -> dict[str, Any]:
    """The content of an evaluation.json."""
    return dict(json.loads(read_object(target, uri)))


def score_of(evaluation: dict[str, Any]) -> Score:
    """The main score in an evaluation.json."""
    score, interval = evaluation["score"], evaluation["score"].get("interval")
    return Score(
        name=score["name"],
        value=float(score["value"]),
        num_patients=int(evaluation["gate"]["num_patients"]),
        num_cases=int(evaluation["data"]["num_cases"]),
        interval=(float(interval["lower"]), float(interval["upper"])) if interval else None,
    )


def sibling(uri: str, name: str) -> str:
    """The object of this name beside another one."""
    return f"{uri.rsplit('/', 1)[0]}/{name}"


def local_path(target: Any, home: Path, uri: str) -> Path:
    """An object as a file on this machine, fetched where it isn't one already.

    Raises:
        UserError: There is no such object.
    """
    bucket, key = split_s3_uri(uri)
    stored = home / "s3" / bucket / key
    if target.name == "local" and stored.is_file():
        return stored
    copy = home / "fetched" / bucket / key
    content = read_object(target, uri)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(content)
    return copy


def registered_arn(execution: Execution) -> str | None:
    """The model package that the execution registered, if any."""
    return next((s.registered for s in execution.steps if s.registered), None)


def find_model(sagemaker: Any, wanted: str) -> str:
    """The ARN of a model package given as ARN, `GROUP/N` or `GROUP` (its newest version).

    Raises:
        UserError: There is no such version.
    """
    if wanted.startswith("arn:"):
        return wanted
    group, _, version = wanted.partition("/")
    versions = list_versions(sagemaker, group)
    for found in versions:
        if not version or str(found.get("ModelPackageVersion")) == version:
            return str(found["ModelPackageArn"])
    raise UserError(f"there is no model {wanted!r}; `medloop models list` shows those there are")


def list_groups(sagemaker: Any) -> list[str]:
    """Names of all model package groups."""
    pages = sagemaker.get_paginator("list_model_package_groups").paginate()
    return sorted(g["ModelPackageGroupName"] for page in pages for g in page["ModelPackageGroupSummaryList"])


def list_versions(sagemaker: Any, group: str) -> list[dict[str, Any]]:
    """Summaries of a group's versions, the newest first.

    Raises:
        UserError: There is no such group.
    """
    if group not in list_groups(sagemaker):
        raise UserError(f"there is no model group {group!r}; `medloop models list` shows those there are")
    pages = sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group)
    versions = [version for page in pages for version in page["ModelPackageSummaryList"]]
    return sorted(versions, key=lambda v: v["ModelPackageVersion"], reverse=True)


def name_of(package: Mapping[str, Any]) -> str:
    """`GROUP/N` of a registered version."""
    return f"{package['ModelPackageGroupName']}/{package['ModelPackageVersion']}"


def digest_of(content: bytes) -> str:
    """SHA-256 as the registry's records write it: `sha256:<hexadecimal>`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def package_evaluation_uri(package: Mapping[str, Any]) -> str | None:
    """Where the evaluation.json of a registered version lies."""
    statistics: dict[str, str] = package.get("ModelMetrics", {}).get("ModelQuality", {}).get("Statistics", {})
    return statistics.get("S3Uri")

"""Model versions in the registry: found by name, listed, and named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medloop.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import ModelPackageSummaryTypeDef


def find_model(sagemaker: SageMakerClient, model: str) -> str:
    """The ARN of a model package given as ARN, `GROUP/N` or `GROUP` (its newest version).

    Raises:
        UserError: There is no such version.
    """
    if model.startswith("arn:"):
        return model
    group, _, version = model.partition("/")
    versions = list_versions(sagemaker, group)
    for summary in versions:
        if not version or str(summary.get("ModelPackageVersion")) == version:
            return str(summary["ModelPackageArn"])
    raise UserError(f"there is no model {model!r}; `medloop models list` shows those there are")


def list_groups(sagemaker: SageMakerClient) -> list[str]:
    """Names of all model package groups."""
    pages = sagemaker.get_paginator("list_model_package_groups").paginate()
    return sorted(g["ModelPackageGroupName"] for page in pages for g in page["ModelPackageGroupSummaryList"])


def list_versions(sagemaker: SageMakerClient, group: str) -> list[ModelPackageSummaryTypeDef]:
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


def package_evaluation_uri(package: Mapping[str, Any]) -> str | None:
    """The URI of a registered version's evaluation.json."""
    statistics: dict[str, str] = package.get("ModelMetrics", {}).get("ModelQuality", {}).get("Statistics", {})
    return statistics.get("S3Uri")

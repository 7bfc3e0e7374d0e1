"""SageMaker's operations on model package groups and model packages."""

from __future__ import annotations

from medloop.local.api.paging import page_of_records
from medloop.local.errors import ServiceError, invalid
from medloop.local.requests import check_limits
from medloop.local.state import model_packages
from medloop.local.state.backend import Backend
from medloop.local.state.home import arn, now
from medloop.local.state.model_packages import created_by, group_name
from medloop.local.state.store import Document, Table, Transaction, pick
from medloop.local.state.tags import put_tags

_GROUP_SUMMARY = (
    *("ModelPackageGroupName", "ModelPackageGroupArn", "ModelPackageGroupDescription", "CreationTime"),
    "ModelPackageGroupStatus",
)
_APPROVAL = "ModelApprovalStatus"
_PACKAGE_SUMMARY = (
    *("ModelPackageName", "ModelPackageGroupName", "ModelPackageVersion", "ModelPackageArn", "ModelPackageDescription"),
    *("CreationTime", "ModelPackageStatus", _APPROVAL, "ModelLifeCycle", "ModelPackageRegistrationType"),
)
_MAX_METADATA = 50


def create_group(backend: Backend, params: Document) -> Document:
    """CreateModelPackageGroup."""
    with backend.store.write() as write:
        document = model_packages.create_group(write, params)
        put_tags(write, document["ModelPackageGroupArn"], params.get("Tags") or [])
    return pick(document, "ModelPackageGroupArn")


def describe_group(backend: Backend, params: Document) -> Document:
    """DescribeModelPackageGroup."""
    with backend.store.read() as read:
        return _group(read, params["ModelPackageGroupName"])


def list_groups(backend: Backend, params: Document) -> Document:
    """ListModelPackageGroups."""
    with backend.store.read() as read:
        known = read.select(Table.GROUPS)
    return page_of_records(
        known,
        params,
        member="ModelPackageGroupSummaryList",
        name="ModelPackageGroupName",
        show=lambda group: pick(group, *_GROUP_SUMMARY),
    )


def delete_group(backend: Backend, params: Document) -> Document:
    """DeleteModelPackageGroup; refused while it has versions."""
    with backend.store.write() as write:
        group = _group(write, params["ModelPackageGroupName"])
        if write.select(Table.PACKAGES, group["ModelPackageGroupName"]):
            message = f"{group['ModelPackageGroupArn']} has model packages; delete them first"
            raise ServiceError("ConflictException", message)
        write.delete(Table.GROUPS, group["ModelPackageGroupName"])
        write.delete(Table.TAGS, group["ModelPackageGroupArn"])
    return {}


def create(backend: Backend, params: Document) -> Document:
    """CreateModelPackage."""
    with backend.store.write() as write:
        document = model_packages.create_package(write, params)
        put_tags(write, document["ModelPackageArn"], params.get("Tags") or [])
    return pick(document, "ModelPackageArn")


def describe(backend: Backend, params: Document) -> Document:
    """DescribeModelPackage."""
    with backend.store.read() as read:
        return _package(read, params["ModelPackageName"])


def list_(backend: Backend, params: Document) -> Document:
    """ListModelPackages. Without a group the service lists versions only on request (Versioned or Both)."""
    group = params.get("ModelPackageGroupName")
    if group is None and params.get("ModelPackageType", "Unversioned") == "Unversioned":
        return {"ModelPackageSummaryList": []}
    with backend.store.read() as read:
        if group is not None:
            group = _group(read, group)["ModelPackageGroupName"]
        known = read.select(Table.PACKAGES, group)
    return page_of_records(
        [package for package in known if params.get(_APPROVAL, package[_APPROVAL]) == package[_APPROVAL]],
        params,
        member="ModelPackageSummaryList",
        name="ModelPackageName",
        show=lambda package: pick(package, *_PACKAGE_SUMMARY),
        then=("ModelPackageVersion", "ModelPackageArn"),
    )


def update(backend: Backend, params: Document) -> Document:
    """UpdateModelPackage."""
    names = ("ModelApprovalStatus", "ApprovalDescription", "InferenceSpecification", "SourceUri", "ModelCard")
    changes = pick(params, *names, "ModelLifeCycle", "ModelPackageRegistrationType")
    check_limits("UpdateModelPackage", params)
    with backend.store.write() as write:
        package = _package(write, params["ModelPackageArn"])
        card = package.get("ModelCard") or {}
        if "ModelCard" in changes:
            if card.get("ModelCardStatus") == "Archived" and "ModelCardContent" in changes["ModelCard"]:
                raise invalid("Model Card is in Archived state.")
            changes["ModelCard"] = card | changes["ModelCard"]
        metadata = package.get("CustomerMetadataProperties", {}) | params.get("CustomerMetadataProperties", {})
        for key in params.get("CustomerMetadataPropertiesToRemove", []):
            metadata.pop(key, None)
        if len(metadata) > _MAX_METADATA:
            raise invalid(f"CustomerMetadataProperties has {len(metadata)} entries; the service allows {_MAX_METADATA}")
        added = params.get("AdditionalInferenceSpecificationsToAdd", [])
        if added:
            changes["AdditionalInferenceSpecifications"] = package.get("AdditionalInferenceSpecifications", []) + added
        if metadata or "CustomerMetadataProperties" in package:
            changes["CustomerMetadataProperties"] = metadata
        package |= {**changes, "LastModifiedTime": now(), "LastModifiedBy": created_by()}
        write.put(Table.PACKAGES, package["ModelPackageArn"], package)
    return pick(package, "ModelPackageArn")


def delete(backend: Backend, params: Document) -> Document:
    """DeleteModelPackage; its version number stays used."""
    with backend.store.write() as write:
        package = _package(write, params["ModelPackageName"])
        write.delete(Table.PACKAGES, package["ModelPackageArn"])
        write.delete(Table.TAGS, package["ModelPackageArn"])
    return {}


def _group(transaction: Transaction, name_or_arn: str) -> Document:
    name = group_name(name_or_arn)
    absent = invalid(f"ModelPackageGroup {arn(f'model-package-group/{name}')} does not exist.")
    return transaction.require(Table.GROUPS, name, absent)


def _package(transaction: Transaction, name: str) -> Document:
    return transaction.require(Table.PACKAGES, name, invalid(f"ModelPackage {name} does not exist."))

"""Model packages: versions of a model within a group, registered by a pipeline or by a client."""

from __future__ import annotations

from medloop.identity import user_here
from medloop.local.errors import check_name, invalid
from medloop.local.requests import check_limits
from medloop.local.state.home import ACCOUNT, ROLE_NAME, arn, now
from medloop.local.state.store import Document, Table, Transaction


def caller() -> Document:
    """The user of this process as STS names it: a session of the local account's role that bears their name."""
    user = user_here()
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE_NAME}/{user}"
    return {"UserId": f"AROALOCAL:{user}", "Account": ACCOUNT, "Arn": session}


def created_by() -> Document:
    """The user of this process as SageMaker's records name their author (UserContext)."""
    known = caller()
    return {"IamIdentity": {"Arn": known["Arn"], "PrincipalId": known["UserId"]}}


def create_group(write: Transaction, request: Document) -> Document:
    """Record a new group.

    Raises:
        ServiceError: ValidationException when it exists.
    """
    name = request["ModelPackageGroupName"]
    check_name("ModelPackageGroupName", name, 63)
    if write.get(Table.GROUPS, name):
        raise invalid(f"Model Package Group already exists: {arn(f'model-package-group/{name}')}")
    document = {key: value for key, value in request.items() if key != "Tags"}
    document |= {"ModelPackageGroupArn": arn(f"model-package-group/{name}"), "CreationTime": now()}
    document |= {"CreatedBy": created_by(), "ModelPackageGroupStatus": "Completed", "_last_version": 0}
    write.put(Table.GROUPS, name, document)
    return document


def group_name(name_or_arn: str) -> str:
    """A group's name out of its name or ARN."""
    return name_or_arn.rpartition("/")[2]


def create_package(write: Transaction, request: Document) -> Document:
    """Record the next version in a group; a version's number is never used again.

    Raises:
        ServiceError: ValidationException when the group doesn't exist, or a field is missing or beyond its limits.
    """
    check_limits("CreateModelPackage", request)
    name = group_name(request.get("ModelPackageGroupName", ""))
    if not name:
        raise invalid("ModelPackageGroupName is required: the local backend keeps versioned packages only")
    absent = invalid(f"Model Package Group {arn(f'model-package-group/{name}')} does not exist.")
    group = write.require(Table.GROUPS, name, absent)
    version, time = group["_last_version"] + 1, now()
    write.put(Table.GROUPS, name, {**group, "_last_version": version})
    document = {key: value for key, value in request.items() if key not in ("Tags", "ClientToken")}
    document |= {
        "ModelPackageName": name,
        "ModelPackageGroupName": name,
        "ModelPackageVersion": version,
        "ModelPackageArn": arn(f"model-package/{name}/{version}"),
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "ModelApprovalStatus": request.get("ModelApprovalStatus", "PendingManualApproval"),
        "CreationTime": time,
        "LastModifiedTime": time,
        "CreatedBy": created_by(),
    }
    write.put(Table.PACKAGES, document["ModelPackageArn"], document, parent=name)
    return document

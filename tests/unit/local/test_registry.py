"""Model package groups and versions, as the service keeps them."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

SPECIFICATION = {
    "Containers": [{"Image": "image", "ModelDataUrl": "s3://b/model.tar.gz"}],
    "SupportedContentTypes": ["image/png"],
    "SupportedResponseMIMETypes": ["application/json"],
}


def add(local: Any, group: str = "g", **more: Any) -> str:
    """Register a version; returns its ARN."""
    request = {"ModelPackageGroupName": group, "InferenceSpecification": SPECIFICATION, **more}
    return str(local.sagemaker.create_model_package(**request)["ModelPackageArn"])


def test_versions_count_up_and_are_never_used_again(local: Any) -> None:
    """A deleted version's number stays used."""
    local.sagemaker.create_model_package_group(ModelPackageGroupName="g")
    arns = [add(local), add(local)]
    local.sagemaker.delete_model_package(ModelPackageName=arns[1])
    assert [arn.rpartition("/")[2] for arn in (*arns, add(local))] == ["1", "2", "3"]


def test_version_waits_for_approval_and_records_the_decision(local: Any) -> None:
    """A version is PendingManualApproval until UpdateModelPackage says otherwise."""
    local.sagemaker.create_model_package_group(ModelPackageGroupName="g")
    arn = add(local, CustomerMetadataProperties={"code": "abc", "gone": "x"})
    assert (
        local.sagemaker.describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"] == "PendingManualApproval"
    )
    local.sagemaker.update_model_package(
        ModelPackageArn=arn,
        ModelApprovalStatus="Approved",
        ApprovalDescription="good",
        CustomerMetadataProperties={"who": "me"},
        CustomerMetadataPropertiesToRemove=["gone"],
    )
    package = local.sagemaker.describe_model_package(ModelPackageName=arn)
    assert (package["ModelApprovalStatus"], package["ApprovalDescription"]) == ("Approved", "good")
    assert package["CustomerMetadataProperties"] == {"code": "abc", "who": "me"}
    with pytest.raises(ClientError, match="ModelApprovalStatus"):
        local.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Perhaps")


def test_versions_are_listed_by_group_and_approval_in_pages(local: Any) -> None:
    """Filters, order and pages of ListModelPackages."""
    for group in ("g", "h"):
        local.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    for number in range(5):
        add(local, ModelApprovalStatus="Approved" if number % 2 else "Rejected")
    add(local, "h")
    pages = local.sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName="g", SortOrder="Descending", PaginationConfig={"PageSize": 2}
    )
    versions = [[item["ModelPackageVersion"] for item in page["ModelPackageSummaryList"]] for page in pages]
    assert versions == [[5, 4], [3, 2], [1]]
    approved = local.sagemaker.list_model_packages(ModelPackageGroupName="g", ModelApprovalStatus="Approved")
    assert [item["ModelPackageVersion"] for item in approved["ModelPackageSummaryList"]] == [2, 4]
    groups = local.sagemaker.list_model_package_groups(SortBy="Name", SortOrder="Descending")
    assert [item["ModelPackageGroupName"] for item in groups["ModelPackageGroupSummaryList"]] == ["h", "g"]


def test_page_token_stays_true_when_a_version_is_added(local: Any) -> None:
    """The second page of the newest first doesn't repeat what the first showed."""
    local.sagemaker.create_model_package_group(ModelPackageGroupName="g")
    for _ in range(3):
        add(local)
    request = {"ModelPackageGroupName": "g", "SortOrder": "Descending", "MaxResults": 2}
    token = local.sagemaker.list_model_packages(**request)["NextToken"]
    add(local)
    rest = local.sagemaker.list_model_packages(**request, NextToken=token)
    assert [item["ModelPackageVersion"] for item in rest["ModelPackageSummaryList"]] == [1]
    with pytest.raises(ClientError, match="NextToken"):
        local.sagemaker.list_model_packages(**request, NextToken="nonsense")


def test_group_is_refused_twice_missing_or_while_it_has_versions(local: Any) -> None:
    """The service's own errors about groups."""
    with pytest.raises(ClientError, match="does not exist"):
        add(local)
    local.sagemaker.create_model_package_group(ModelPackageGroupName="g", Tags=[{"Key": "task", "Value": "x"}])
    with pytest.raises(ClientError, match="already exists"):
        local.sagemaker.create_model_package_group(ModelPackageGroupName="g")
    arn = add(local)
    with pytest.raises(ClientError, match="ConflictException"):
        local.sagemaker.delete_model_package_group(ModelPackageGroupName="g")
    local.sagemaker.delete_model_package(ModelPackageName=arn)
    group = local.sagemaker.describe_model_package_group(ModelPackageGroupName="g")["ModelPackageGroupArn"]
    assert local.sagemaker.list_tags(ResourceArn=group)["Tags"] == [{"Key": "task", "Value": "x"}]
    local.sagemaker.delete_model_package_group(ModelPackageGroupName="g")
    assert local.sagemaker.list_tags(ResourceArn=group)["Tags"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ApprovalDescription": "x" * 1025}, "ApprovalDescription: 1025 characters is more than the maximum 1024"),
        ({"CustomerMetadataProperties": {"k": "v" * 257}}, "257 characters is more than the maximum 256"),
        ({"CustomerMetadataProperties": {"k": "no; never"}}, "does not match"),
        ({"CustomerMetadataProperties": {"k" * 129: "v"}}, "129 characters"),
        ({"ModelApprovalStatus": "Perhaps"}, "none of the service's values"),
        ({"ModelCard": {"ModelCardStatus": "Done"}}, "none of the service's values"),
        (
            {
                "ModelCard": {
                    "ModelCardStatus": "Draft",
                    "ModelCardContent": '{"model_overview": {"model_owner": "me"}}',
                }
            },
            "ModelCardContent: model_overview.model_owner: Extra inputs are not permitted",
        ),
    ],
)
def test_limits_of_the_service_hold(local: Any, change: dict[str, Any], message: str) -> None:
    """What AWS refuses is refused here, when a version is made and when it is changed; nothing is kept of it."""
    local.sagemaker.create_model_package_group(ModelPackageGroupName="g")
    arn = add(local)
    with pytest.raises(ClientError, match=message):
        local.sagemaker.update_model_package(ModelPackageArn=arn, **change)
    if "ApprovalDescription" not in change:  # CreateModelPackage knows no such field
        with pytest.raises(ClientError, match=message):
            add(local, **change)
    assert "CustomerMetadataProperties" not in local.sagemaker.describe_model_package(ModelPackageName=arn)
    assert len(local.sagemaker.list_model_packages(ModelPackageGroupName="g")["ModelPackageSummaryList"]) == 1


def test_metadata_holds_fifty_entries_in_all(local: Any) -> None:
    """Old and new entries count together; those that the same call removes don't."""
    local.sagemaker.create_model_package_group(ModelPackageGroupName="g")
    arn = add(local, CustomerMetadataProperties={f"k{n}": "v" for n in range(50)})
    with pytest.raises(ClientError, match="51 entries"):
        local.sagemaker.update_model_package(ModelPackageArn=arn, CustomerMetadataProperties={"more": "v"})
    local.sagemaker.update_model_package(
        ModelPackageArn=arn, CustomerMetadataProperties={"more": "v"}, CustomerMetadataPropertiesToRemove=["k0"]
    )
    metadata = local.sagemaker.describe_model_package(ModelPackageName=arn)["CustomerMetadataProperties"]
    assert len(metadata) == 50
    assert "more" in metadata


def test_card_source_and_life_cycle_are_kept(local: Any) -> None:
    """A card's status changes alone; an archived card's content doesn't change."""
    local.sagemaker.create_model_package_group(ModelPackageGroupName="g")
    arn = add(local, ModelCard={"ModelCardContent": "{}", "ModelCardStatus": "Draft"})
    life = {"Stage": "Staging", "StageStatus": "Approved"}
    local.sagemaker.update_model_package(
        ModelPackageArn=arn, ModelCard={"ModelCardStatus": "Archived"}, ModelLifeCycle=life, SourceUri="s3://b/x"
    )
    package = local.sagemaker.describe_model_package(ModelPackageName=arn)
    assert package["ModelCard"] == {"ModelCardContent": "{}", "ModelCardStatus": "Archived"}
    assert (package["ModelLifeCycle"], package["SourceUri"]) == (life, "s3://b/x")
    (listed,) = local.sagemaker.list_model_packages(ModelPackageGroupName="g")["ModelPackageSummaryList"]
    assert listed["ModelLifeCycle"] == life
    with pytest.raises(ClientError, match="Archived"):
        local.sagemaker.update_model_package(ModelPackageArn=arn, ModelCard={"ModelCardContent": "{}"})


def test_versions_of_all_groups_are_listed_on_request(local: Any) -> None:
    """Without a group and a type the service lists what has no versions: nothing here."""
    local.sagemaker.create_model_package_group(ModelPackageGroupName="g")
    add(local)
    assert local.sagemaker.list_model_packages()["ModelPackageSummaryList"] == []
    assert len(local.sagemaker.list_model_packages(ModelPackageType="Both")["ModelPackageSummaryList"]) == 1

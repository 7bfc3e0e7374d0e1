"""The policies between the two accounts: both sides together, as AWS decides across accounts."""

from __future__ import annotations

from typing import Any

import pytest

from infra.names import (
    DEPLOYER_ROLE,
    HOSTING_ROLE,
    PLANNER_ROLE,
    PROMOTER_ROLE,
    WITHDRAWAL_ROLE,
)
from medloop.cloud.promotion import DETAIL_TYPE, SOURCE
from tests.infra.conftest import DELIVERED, PRODUCTION
from tests.infra.policies import Account
from tests.infra.template import ACCOUNT, REGION
from tests.infra.test_simulations import arn
from tests.infra.test_template import problems_of_actions

BY_S3 = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}
MODEL = "artefacts/executions/segmentation/e1/Train/job/output/model.tar.gz"
VERSION = "sagemaker:model-package/medloop-segmentation/7"
ANYTHING = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
BUS = f"arn:aws:events:{REGION}:{PRODUCTION}:event-bus/medloop-promotions"
PROMOTION = {"events:source": SOURCE, "events:detail-type": DETAIL_TYPE}
ROWS: list[tuple[str, str, str, dict[str, Any], str]] = [
    # role, action, what of the registry's account, when, decision
    (HOSTING_ROLE, "s3:GetObject", MODEL, {}, "allowed"),
    (HOSTING_ROLE, "s3:GetObject", "artefacts/executions/s/e/Tune/job/output/model.tar.gz", {}, "allowed"),
    (HOSTING_ROLE, "kms:Decrypt", "key:artefacts", BY_S3, "allowed"),
    (HOSTING_ROLE, "ecr:BatchGetImage", "repository:serve", {}, "allowed"),
    (HOSTING_ROLE, "ecr:GetDownloadUrlForLayer", "repository:serve", {}, "allowed"),
    (PLANNER_ROLE, "sagemaker:DescribeModelPackage", VERSION, {}, "allowed"),
    (DEPLOYER_ROLE, "sagemaker:DescribeModelPackage", VERSION, {}, "allowed"),
    (DEPLOYER_ROLE, "sagemaker:CreateModel", VERSION, {}, "allowed"),
    # of the registry's account production sees no data, no evidence, no other code, and changes nothing
    (HOSTING_ROLE, "s3:GetObject", "artefacts/executions/s/e/Train/job/output/output.tar.gz", {}, "denied"),
    (HOSTING_ROLE, "s3:GetObject", "artefacts/executions/s/e/Split/train/p1/img.nii.gz", {}, "denied"),
    (HOSTING_ROLE, "s3:GetObject", "artefacts/executions/s/e/Evaluate/evaluation/report.html", {}, "denied"),
    (HOSTING_ROLE, "s3:GetObject", "artefacts/keys/pseudonyms.key", {}, "denied"),
    (HOSTING_ROLE, "s3:GetObject", "artefacts/bundles/0123456789abcdef.tar.gz", {}, "denied"),
    (HOSTING_ROLE, "s3:GetObject", "data/raw/segmentation/jan/s1/img.nii.gz", {}, "denied"),
    (HOSTING_ROLE, "s3:PutObject", MODEL, {}, "denied"),
    (HOSTING_ROLE, "s3:ListBucket", "artefacts", {}, "denied"),
    (HOSTING_ROLE, "kms:Decrypt", "key:artefacts", {}, "denied"),
    (HOSTING_ROLE, "kms:GenerateDataKey", "key:artefacts", BY_S3, "denied"),
    (HOSTING_ROLE, "kms:CreateGrant", "key:artefacts", {"kms:GrantIsForAWSResource": "true"}, "denied"),
    (HOSTING_ROLE, "kms:Decrypt", "key:data", BY_S3, "denied"),
    (HOSTING_ROLE, "ecr:BatchGetImage", "repository:segment", {}, "denied"),
    (HOSTING_ROLE, "ecr:PutImage", "repository:serve", {}, "denied"),
    (HOSTING_ROLE, "sagemaker:DescribeModelPackage", VERSION, {}, "denied"),
    (PLANNER_ROLE, "sagemaker:CreateModel", VERSION, {}, "denied"),
    (PLANNER_ROLE, "sagemaker:UpdateModelPackage", VERSION, {"sagemaker:ModelApprovalStatus": "Approved"}, "denied"),
    (DEPLOYER_ROLE, "sagemaker:UpdateModelPackage", VERSION, {"sagemaker:ModelApprovalStatus": "Approved"}, "denied"),
    (DEPLOYER_ROLE, "sagemaker:CreateModelPackage", VERSION, {}, "denied"),
    (DEPLOYER_ROLE, "sagemaker:DescribeModelPackage", "sagemaker:model-package/others/7", {}, "denied"),
    (DEPLOYER_ROLE, "sagemaker:CreateModel", "sagemaker:model-package/others/7", {}, "denied"),
    (DEPLOYER_ROLE, "s3:GetObject", MODEL, {}, "denied"),
    (DEPLOYER_ROLE, "kms:Decrypt", "key:artefacts", BY_S3, "denied"),
]

ALLOWED = [row[1:4] for row in ROWS if row[4] == "allowed" and not row[1].startswith("ecr:")]


def there(name: str, account: str = PRODUCTION) -> str:
    """A role's ARN."""
    return f"arn:aws:iam::{account}:role/{name}"


@pytest.mark.parametrize(("role", "action", "resource", "when", "decision"), ROWS)
def test_across_the_accounts(
    registry: Account, production: Account, role: str, action: str, resource: str, when: dict[str, str], decision: str
) -> None:
    """The role's own policy and the policy of the resource must both allow."""
    identity = production.statements_of(there(role))
    assert registry.simulate_from(there(role), identity, action, arn(registry, resource), when) == decision


@pytest.mark.parametrize(("role", "action", "resource", "when"), [row[:4] for row in ROWS if row[4] == "denied"])
def test_the_registry_decides_by_itself(
    registry: Account, role: str, action: str, resource: str, when: dict[str, str]
) -> None:
    """What it refuses, it refuses to a role that production's account allowed everything."""
    assert registry.simulate_from(there(role), ANYTHING, action, arn(registry, resource), when) == "denied"


@pytest.mark.parametrize(
    "role",
    [there("Admin"), there("medloop-production-x"), there(HOSTING_ROLE, "333333333333"), there("x", ACCOUNT[::-1])],
)
@pytest.mark.parametrize(
    ("action", "resource", "when"), [row[1:4] for row in ROWS if row[4] == "allowed" and row[1][:3] != "ecr"]
)
def test_no_other_role_reads_though_all_is_allowed_there(
    registry: Account, role: str, action: str, resource: str, when: dict[str, str]
) -> None:
    """An administrator of production's account, and a role of the same name in a third account."""
    assert registry.simulate_from(role, ANYTHING, action, arn(registry, resource), when) == "denied"


@pytest.mark.parametrize(("account", "decision"), [(PRODUCTION, "allowed"), ("333333333333", "denied")])
@pytest.mark.parametrize("action", ["ecr:BatchGetImage", "ecr:PutImage"])
def test_the_image_is_pulled_by_productions_account(
    registry: Account, account: str, action: str, decision: str
) -> None:
    """By that account alone, and nothing is pushed."""
    decision = decision if action == "ecr:BatchGetImage" else "denied"
    role = there("any", account)
    assert registry.simulate_from(role, ANYTHING, action, arn(registry, "repository:serve")) == decision


@pytest.mark.parametrize(
    ("role", "when", "decision"),
    [
        (there(PROMOTER_ROLE, ACCOUNT), PROMOTION, "allowed"),
        (there(PROMOTER_ROLE, ACCOUNT), {}, "denied"),
        (there(PROMOTER_ROLE, ACCOUNT), {**PROMOTION, "events:source": "aws.sagemaker"}, "denied"),
        (there(PROMOTER_ROLE, ACCOUNT), {**PROMOTION, "events:detail-type": "other"}, "denied"),
        (there(PROMOTER_ROLE, "333333333333"), PROMOTION, "denied"),
        (there("Admin", ACCOUNT), PROMOTION, "denied"),
        (there("medloop-approver", ACCOUNT), PROMOTION, "denied"),
        (there(WITHDRAWAL_ROLE, ACCOUNT), {}, "allowed"),
    ],
)
def test_who_sends_events_to_production(production: Account, role: str, when: dict[str, str], decision: str) -> None:
    """Though all is allowed in their own account: the role of promotions, and that of the rule of rejections."""
    assert production.simulate_from(role, ANYTHING, "events:PutEvents", BUS, when) == decision


@pytest.mark.parametrize("action", ["events:PutRule", "events:PutTargets", "events:DeleteEventBus"])
def test_the_registrys_account_makes_no_rules_in_production(production: Account, action: str) -> None:
    """Events arrive, and that is all."""
    assert production.simulate_from(there(PROMOTER_ROLE, ACCOUNT), ANYTHING, action, BUS, PROMOTION) == "denied"


def test_the_promoters_own_policy_reaches_the_bus(registry: Account, production: Account) -> None:
    """Both ways together, and of the rule's role."""
    for role, when in ((PROMOTER_ROLE, PROMOTION), (WITHDRAWAL_ROLE, {})):
        identity = registry.statements_of(there(role, ACCOUNT))
        sender = there(role, ACCOUNT)
        assert production.simulate_from(sender, identity, "events:PutEvents", BUS, when) == "allowed"


def test_the_settings_name_the_registrys_bucket_and_key(registry: Account) -> None:
    """So that the decisions above are about the same resources on both sides."""
    settings = DELIVERED.production
    assert arn(registry, "artefacts") == f"arn:aws:s3:::{settings.artefact_bucket}"
    assert arn(registry, "key:artefacts") == settings.artefact_key


@pytest.mark.parametrize(
    ("role", "action", "resource", "when", "decision"),
    [
        (DEPLOYER_ROLE, "sagemaker:CreateEndpoint", "endpoint/medloop-segmentation", {}, "allowed"),
        (DEPLOYER_ROLE, "sagemaker:CreateModel", "model/medloop-segmentation-7-0123456789", {}, "denied"),
        (DEPLOYER_ROLE, "sagemaker:UpdateEndpoint", "endpoint/others", {}, "denied"),
        (PLANNER_ROLE, "sagemaker:DescribeEndpoint", "endpoint/medloop-segmentation", {}, "allowed"),
        (PLANNER_ROLE, "sagemaker:CreateEndpoint", "endpoint/medloop-segmentation", {}, "denied"),
        (PLANNER_ROLE, "sagemaker:ListModelPackages", "*", {}, "denied"),
        (HOSTING_ROLE, "sagemaker:UpdateEndpoint", "endpoint/medloop-segmentation", {}, "denied"),
    ],
)
def test_in_productions_own_account(
    production: Account, role: str, action: str, resource: str, when: dict[str, str], decision: str
) -> None:
    """As the deployer of one account; a promotion names its version, so that nothing is listed."""
    resource = resource if resource == "*" else f"arn:aws:sagemaker:{REGION}:{PRODUCTION}:{resource}"
    assert production.simulate(there(role), action, resource, when) == decision


def test_models_reach_the_vpc_and_nothing_else_of_the_registry(production: Account) -> None:
    """Though the caller may read all: the endpoint's policy names the models' objects."""
    bucket = f"arn:aws:s3:::{DELIVERED.production.artefact_bucket}"
    statements = production.endpoint_policy("Network/Vpc/S3")
    named = [s["Resource"] for s in statements if any(bucket in r for r in s["Resource"])]
    assert named == [[f"{bucket}/executions/*/{step}/*/model.tar.gz" for step in ("Train", "Tune")]]


def test_actions_are_about_their_resources(production: Account) -> None:
    """As in the other stack."""
    assert problems_of_actions(production) == []


def test_production_holds_no_data(production: Account) -> None:
    """No bucket, no repository, no group; names of all that is there are of this stack."""
    kinds = {resource["Type"] for resource in production.resources.values()}
    assert not kinds & {"AWS::S3::Bucket", "AWS::ECR::Repository", "AWS::SageMaker::ModelPackageGroup"}

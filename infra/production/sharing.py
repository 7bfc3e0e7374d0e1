"""The registry's side of production in another account: its versions, models and images are read from there.

Each policy names production's account and, by a condition, the roles of its stack that need the right. Resource
Access Manager isn't used: a promotion names the version by its ARN, and a resource share is needed only where people
of the other account look for groups in Studio or by ListModelPackageGroups.
https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-deploy.html (from a different account)
https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-ram.html (discoverability is apart from accessibility)
"""

from __future__ import annotations

from typing import Any

from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.execution.jobs import MODEL_ARTEFACTS
from infra.grants import PULLING, arn, by_s3, make_role, only_roles, statement, versions_of
from infra.images.repositories import Images
from infra.names import DEPLOYER_ROLE, HOSTING_ROLE, PLANNER_ROLE, PROMOTIONS_BUS, WITHDRAWAL_ROLE
from infra.registry.groups import Registry
from infra.storage.buckets import Storage

RULE = "medloop-withdrawals"
SERVED = "serve"
"""The one container whose image production pulls."""


class Sharing(Construct):
    """The policies of groups, bucket, key and repository, and the rule that reports rejected versions to production.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        account: Production's account.
        registry: The model package groups.
        storage: The models' bucket and its key.
        images: The containers' repositories.
        dead_letters: Keeps events that production's bus didn't take.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        account: str,
        registry: Registry,
        storage: Storage,
        images: Images,
        dead_letters: sqs.IQueue,
    ) -> None:
        super().__init__(scope, construct_id)
        self._there: dict[str, Any] = {"principals": [iam.AccountPrincipal(account)]}
        self._account = account
        self.bus_arn = arn("events", f"event-bus/{PROMOTIONS_BUS}", account)
        self._share_groups(registry)
        self._share_models(storage)
        self._share_image(images)
        self._report_withdrawals(registry.groups, dead_letters)

    def _share_groups(self, registry: Registry) -> None:
        """Versions are described and models made of them; they aren't listed, changed or registered from there."""
        describing = only_roles(self._account, DEPLOYER_ROLE, PLANNER_ROLE)
        making = only_roles(self._account, DEPLOYER_ROLE)
        for group, made in registry.made.items():
            versions = versions_of([group])
            rights = [
                statement("Describe", ["sagemaker:DescribeModelPackage"], versions, describing, **self._there),
                statement("MakeModels", ["sagemaker:CreateModel"], versions, making, **self._there),
            ]
            made.model_package_group_policy = iam.PolicyDocument(statements=rights).to_json()

    def _share_models(self, storage: Storage) -> None:
        """The artefacts of models, and of the key what S3 needs to read them out."""
        hosting = only_roles(self._account, HOSTING_ROLE)
        objects = [storage.artefacts.arn_for_objects(key) for key in MODEL_ARTEFACTS]
        storage.artefacts.add_to_resource_policy(
            statement("ProductionReadsModels", ["s3:GetObject"], objects, hosting, **self._there)
        )
        storage.keys.artefacts.add_to_resource_policy(
            statement("ProductionDecryptsModels", ["kms:Decrypt"], conditions={**hosting, **by_s3()}, **self._there)
        )

    def _share_image(self, images: Images) -> None:
        """The serving image, to the account: which principal the service pulls with isn't documented for endpoints.

        Its layers are decrypted with a grant that ECR has of the key, not with a right of who pulls.
        https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html
        """
        pulling = statement("ProductionPulls", PULLING, (), **self._there)
        images.repositories[SERVED].add_to_resource_policy(pulling)

    def _report_withdrawals(self, groups: list[str], dead_letters: sqs.IQueue) -> None:
        rule = events.Rule(
            self,
            "Withdrawals",
            rule_name=RULE,
            description="A version was rejected that production may serve",
            event_pattern=events.EventPattern(
                source=["aws.sagemaker"],
                detail_type=["SageMaker Model Package State Change"],
                detail={"ModelPackageGroupName": groups, "ModelApprovalStatus": ["Rejected"]},
            ),
        )
        sending = [statement("Send", ["events:PutEvents"], [self.bus_arn])]
        role = make_role(rule, "events", "medloop: reports rejected versions to production", sending)
        name_role(role, WITHDRAWAL_ROLE)
        bus = events.EventBus.from_event_bus_arn(self, "Bus", self.bus_arn)
        rule.add_target(targets.EventBus(bus, role=role.without_policy_updates(), dead_letter_queue=dead_letters))


def name_role(role: iam.IRole, name: str) -> None:
    """Name a role that another account's policy names."""
    resource = role.node.default_child
    assert isinstance(resource, iam.CfnRole)  # noqa: S101 - for the type checker
    resource.role_name = name

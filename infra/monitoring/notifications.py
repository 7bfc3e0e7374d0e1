"""Topics for notifications, and the queue of events that could not be delivered."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.grants import OWN_ACCOUNT, service, statement

PUBLISHERS = ("cloudwatch", "budgets", "costalerts")
"""Services that publish to an encrypted topic by themselves, without a role."""


class Notifications(Construct):
    """Two topics and one queue, all encrypted, TLS only."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        key: kms.IKey,
        approvers: Sequence[str],
        operations: Sequence[str],
    ) -> None:
        """Make them.

        Args:
            scope: Where in the tree.
            construct_id: Under which name there.
            key: Encrypts messages; its policy must let PUBLISHERS and EventBridge use it.
            approvers: Mail addresses of those who decide about versions.
            operations: Mail addresses for failures.
        """
        super().__init__(scope, construct_id)
        self.approvers = self._topic("Approvers", "medloop-approvers", key, approvers)
        self.operations = self._topic("Operations", "medloop-operations", key, operations)
        for name in PUBLISHERS:
            topic, by_service = [self.operations.topic_arn], [service(name)]
            self.operations.add_to_resource_policy(
                statement(f"Publish{name.capitalize()}", ["sns:Publish"], topic, OWN_ACCOUNT, principals=by_service)
            )
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            queue_name="medloop-dead-letters",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )

    def _topic(self, construct_id: str, name: str, key: kms.IKey, mails: Sequence[str]) -> sns.Topic:
        topic = sns.Topic(self, construct_id, topic_name=name, master_key=key, enforce_ssl=True)
        for mail in mails:
            topic.add_subscription(subscriptions.EmailSubscription(mail))
        return topic

"""CodePipeline: pull requests are checked, the reviewed branch is published, an Approved version goes to production.

A version doesn't exist when its definition is published: an engineer runs the pipeline, an approver decides. So there
are two pipelines from commit to production: delivery by a commit, promotion by a person who names a version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_codepipeline as codepipeline
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.delivery.builds import Build, Source, version_variable
from infra.grants import arn, by_s3, make_role, service, statement
from infra.settings import DeliverySettings

SOURCE = "Source"
APPROVAL = "Approval"
REVIEW, DELIVERY, PROMOTION = "medloop-review", "medloop-delivery", "medloop-promotion"
COMMITS_RULE, FAILURES_RULE = "medloop-commits", "medloop-delivery-failures"
STAGES: Mapping[str, Mapping[str, Sequence[str]]] = {
    REVIEW: {"Check": ["check"], "Differences": ["differences"]},
    DELIVERY: {"Check": ["check"], "Images": ["images"], "Publish": ["differences", "publish"]},
    PROMOTION: {"Staging": ["staging"], APPROVAL: [], "Production": ["production"]},
}
"""Jobs by pipeline and stage, one after the other."""


def list_rules(settings: DeliverySettings) -> list[str]:
    """List the names of the rules that CodePipeline's pipelines come with."""
    if settings.by != "codepipeline":
        return []
    return [FAILURES_RULE] if settings.connection else [FAILURES_RULE, COMMITS_RULE]


@dataclass(frozen=True)
class Repository:
    """The source of the pipelines.

    Args:
        settings: Which repository.
    """

    settings: DeliverySettings

    @property
    def arn(self) -> str:
        """ARN of the connection, or of CodeCommit's repository."""
        return self.settings.connection or arn("codecommit", self.settings.repository)

    @property
    def cloning(self) -> iam.PolicyStatement:
        """The right of a build to clone it."""
        prefix = self.arn.split(":")[2]
        actions = [f"{prefix}:UseConnection"] if self.settings.connection else ["codecommit:GitPull"]
        return statement("Clone", actions, [self.arn])

    @property
    def reading(self) -> iam.PolicyStatement:
        """The right of a pipeline to read its commits."""
        if self.settings.connection:
            return self.cloning
        verbs = ("CancelUploadArchive", "GetBranch", "GetCommit", "GetRepository", "GetUploadArchiveStatus")
        return statement("Source", [f"codecommit:{verb}" for verb in (*verbs, "UploadArchive")], [self.arn])

    def action(self, *, follows_branch: bool) -> dict[str, Any]:
        """The pipeline's first action, whose output is a clone: a definition records its commit."""
        settings = self.settings
        common = {"BranchName": settings.branch, "OutputArtifactFormat": "CODEBUILD_CLONE_REF"}
        if settings.connection:
            provider, detecting = "CodeStarSourceConnection", {"DetectChanges": str(follows_branch).lower()}
            configuration = {"ConnectionArn": settings.connection, "FullRepositoryId": settings.repository}
        else:
            provider, detecting = "CodeCommit", {"PollForSourceChanges": "false"}
            configuration = {"RepositoryName": settings.repository}
        return _action(SOURCE, "Source", provider, {**configuration, **common, **detecting}, outputs=[SOURCE])


class Pipelines(Construct):
    """The pipelines, their role, and what starts them.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        settings: The repository.
        builds: The projects by job.
        source: Where pipelines keep a commit's files.
        key: Encrypts them.
        approvers: The topic for promotions that wait.
        operations: The topic for failures.
        notification_key: Encrypts the topics' messages.
        dead_letters: Keeps events that could not be delivered.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: DeliverySettings,
        builds: Mapping[str, Build],
        source: Source,
        key: kms.IKey,
        approvers: sns.ITopic,
        operations: sns.ITopic,
        notification_key: kms.IKey,
        dead_letters: sqs.IQueue,
    ) -> None:
        super().__init__(scope, construct_id)
        self.repository, self._settings = Repository(settings), settings
        self._builds, self._source, self._key, self._approvers = builds, source, key, approvers
        self.role = self._make_role(notification_key)
        names = [name for name in STAGES if name != REVIEW or settings.connection]
        self.pipelines = {name: self._make(name) for name in names}
        self._report_failures(operations, dead_letters)
        if settings.connection is None:
            self._follow_branch(dead_letters)

    def _make_role(self, notification_key: kms.IKey) -> iam.Role:
        bucket, projects = self._source.bucket, [build.project.project_arn for build in self._builds.values()]
        by_sns = {"StringEquals": {"kms:ViaService": f"sns.{cdk.Aws.REGION}.amazonaws.com"}}
        encrypting = ["kms:Decrypt", "kms:GenerateDataKey"]
        objects = ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]
        rights = [
            statement("HandOn", objects, [bucket.arn_for_objects("*")]),
            statement("SeeBucket", ["s3:GetBucketLocation", "s3:GetBucketVersioning"], [bucket.bucket_arn]),
            statement("Encrypt", [*encrypting, "kms:DescribeKey"], [self._key.key_arn], by_s3()),
            self.repository.reading,
            statement("Build", ["codebuild:BatchGetBuilds", "codebuild:StartBuild"], projects),
            statement("Tell", ["sns:Publish"], [self._approvers.topic_arn]),
            statement("EncryptNotifications", encrypting, [notification_key.key_arn], by_sns),
        ]
        return make_role(self, "codepipeline", "medloop: pipelines of delivery", rights)

    def _make(self, name: str) -> codepipeline.CfnPipeline:
        by_commit = name == DELIVERY
        stages = {SOURCE: [self.repository.action(follows_branch=by_commit)]}
        for stage, jobs in STAGES[name].items():
            if stage == APPROVAL:
                stages[stage] = [self._approval()] if "production" in self._builds else []
            else:
                known = [job for job in jobs if job in self._builds]
                stages[stage] = [self._build(job, number) for number, job in enumerate(known, start=1)]
        store = codepipeline.CfnPipeline.ArtifactStoreProperty(
            type="S3",
            location=self._source.bucket.bucket_name,
            encryption_key=codepipeline.CfnPipeline.EncryptionKeyProperty(id=self._key.key_arn, type="KMS"),
        )
        version = codepipeline.CfnPipeline.VariableDeclarationProperty(
            name="Version", description="An Approved version, GROUP/N"
        )
        return codepipeline.CfnPipeline(
            self,
            name.removeprefix("medloop-").title(),
            name=name,
            pipeline_type="V2",
            execution_mode="QUEUED",
            role_arn=self.role.role_arn,
            artifact_store=store,
            stages=[{"name": stage, "actions": actions} for stage, actions in stages.items() if actions],
            triggers=self._triggers(name),
            variables=[version] if name == PROMOTION else None,
        )

    def _build(self, job: str, order: int) -> dict[str, Any]:
        version = {"EnvironmentVariables": version_variable()} if job in ("staging", "production") else {}
        configuration = {"ProjectName": self._builds[job].project.project_name, **version}
        return _action(job.title(), "Build", "CodeBuild", configuration, inputs=[SOURCE], order=order)

    def _approval(self) -> dict[str, Any]:
        text = "Version #{variables.Version} is served on the staging endpoint. Approve: it goes to production."
        configuration = {"NotificationArn": self._approvers.topic_arn, "CustomData": text}
        return _action(APPROVAL, "Approval", "Manual", configuration)

    def _triggers(self, name: str) -> list[Any] | None:
        """Pull requests to the branch, commits on it; by hand: the promotion."""
        if self._settings.connection is None or name == PROMOTION:
            return None
        branches = {"branches": {"includes": [self._settings.branch]}}
        git = {"pullRequest": [{**branches, "events": ["OPEN", "UPDATED"]}]} if name == REVIEW else {"push": [branches]}
        return [{"providerType": "CodeStarSourceConnection", "gitConfiguration": {"sourceActionName": SOURCE, **git}}]

    def _follow_branch(self, dead_letters: sqs.IQueue) -> None:
        """CodeCommit's commits on the branch start the delivery."""
        rule = events.Rule(
            self,
            "Commits",
            rule_name=COMMITS_RULE,
            description="A commit on the reviewed branch",
            event_pattern=events.EventPattern(
                source=["aws.codecommit"],
                detail_type=["CodeCommit Repository State Change"],
                resources=[self.repository.arn],
                detail={
                    "event": ["referenceCreated", "referenceUpdated"],
                    "referenceType": ["branch"],
                    "referenceName": [self._settings.branch],
                },
            ),
        )
        pipeline = codepipeline.Pipeline.from_pipeline_arn(self, "Followed", arn("codepipeline", DELIVERY))
        starting = [statement("Start", ["codepipeline:StartPipelineExecution"], [pipeline.pipeline_arn])]
        role = make_role(rule, "events", "medloop: commits start the delivery", starting)
        rule.add_target(
            targets.CodePipeline(pipeline, event_role=role.without_policy_updates(), dead_letter_queue=dead_letters)
        )

    def _report_failures(self, operations: sns.ITopic, dead_letters: sqs.IQueue) -> None:
        """Notify operations of a failed run: no user waits for one that a commit started."""
        name = events.EventField.from_path("$.detail.pipeline")
        rule = events.Rule(
            self,
            "Failures",
            rule_name=FAILURES_RULE,
            description="A run of delivery or promotion failed",
            event_pattern=events.EventPattern(
                source=["aws.codepipeline"],
                detail_type=["CodePipeline Pipeline Execution State Change"],
                detail={"pipeline": [each for each in self.pipelines if each != REVIEW], "state": ["FAILED"]},
            ),
        )
        message = events.RuleTargetInput.from_text(f"CodePipeline's pipeline {name} failed; its console shows the job.")
        # Given by its ARN: with the topic itself, CDK would let the key be used by `kms:GenerateDataKey*`.
        by_arn = sns.Topic.from_topic_arn(self, "Operations", operations.topic_arn)
        rule.add_target(targets.SnsTopic(by_arn, message=message, dead_letter_queue=dead_letters))
        by_rule = {"ArnEquals": {"aws:SourceArn": rule.rule_arn}}
        operations.add_to_resource_policy(
            statement(
                "PublishFailures", ["sns:Publish"], [operations.topic_arn], by_rule, principals=[service("events")]
            )
        )


def _action(
    name: str,
    category: str,
    provider: str,
    configuration: Mapping[str, str],
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    order: int = 1,
) -> dict[str, Any]:
    """An action's declaration."""
    action: dict[str, Any] = {
        "name": name,
        "actionTypeId": {"category": category, "owner": "AWS", "provider": provider, "version": "1"},
        "configuration": dict(configuration),
        "runOrder": order,
    }
    action |= {"inputArtifacts": [{"name": each} for each in inputs]} if inputs else {}
    return action | ({"outputArtifacts": [{"name": each} for each in outputs]} if outputs else {})

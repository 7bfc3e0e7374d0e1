"""CodeBuild's projects of delivery: each has a role of its own, which reads the source and assumes one role of CI.

They need the internet (packages, base images), so they are no part of the VPC.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.delivery.jobs import Job, buildspec
from infra.grants import allow, by_s3, statement
from infra.storage.keys import Keys


@dataclass(frozen=True)
class Source:
    """Origin of a build's files.

    Args:
        bucket: CodePipeline's, which hands the source on.
        cloning: The right to clone the repository: a definition records its commit.
    """

    bucket: s3.IBucket
    cloning: iam.PolicyStatement


class Build(Construct):
    """A project, with its log.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        job: What it runs.
        values: Values of the commands (`infra.delivery.commands`).
        role: The project's own role; its rights are added here.
        job_role: The role that the commands assume.
        source: Where the files come from.
        variables: Environment variables of the account.
        keys: Encrypt source and log.
        log_retention: How long the log is kept.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        job: Job,
        values: Mapping[str, Any],
        role: iam.Role,
        job_role: iam.IRole | None,
        source: Source,
        variables: Mapping[str, str],
        keys: Keys,
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, construct_id)
        log = logs.LogGroup(
            self,
            "Log",
            encryption_key=keys.logs,
            retention=log_retention,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        decrypting = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
        allow(
            role,
            statement("ReadSource", ["s3:GetObject", "s3:GetObjectVersion"], [source.bucket.arn_for_objects("*")]),
            statement("DecryptSource", decrypting, [keys.artefacts.key_arn], by_s3()),
            source.cloning,
            statement("WriteLog", ["logs:CreateLogStream", "logs:PutLogEvents"], [log.log_group_arn]),
            *([statement("SignIn", ["sts:AssumeRole"], [job_role.role_arn])] if job_role else []),
        )
        environment = {**variables, **({"JOB_ROLE_ARN": job_role.role_arn} if job_role else {})}
        computing = codebuild.ComputeType
        self.project = codebuild.PipelineProject(
            self,
            "Project",
            project_name=f"medloop-delivery-{job.name}",
            description=job.description,
            role=role.without_policy_updates(),
            build_spec=codebuild.BuildSpec.from_object(buildspec(job, values)),
            encryption_key=keys.artefacts,
            timeout=cdk.Duration.minutes(job.minutes),
            environment=codebuild.BuildEnvironment(
                build_image=codebuild.LinuxBuildImage.STANDARD_7_0,
                compute_type=computing.LARGE if job.role is None or job.builds_images else computing.SMALL,
                # Docker builds need it; the build's instance is deleted after each build.
                privileged=job.builds_images,
            ),
            environment_variables={
                name: codebuild.BuildEnvironmentVariable(value=value) for name, value in environment.items()
            },
            logging=codebuild.LoggingOptions(cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=log)),
        )


def version_variable() -> str:
    """CodePipeline's configuration of an action: the version that the execution was started with."""
    return json.dumps([{"name": "VERSION", "value": "#{variables.Version}", "type": "PLAINTEXT"}])

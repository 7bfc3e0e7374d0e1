"""CodeBuild: builds the containers' images from the checkout that `make images` uploads, and pushes them.

It runs `medloop images push`, as an engineer with Docker would. It needs the internet (base images, Python packages),
so it is no part of the VPC; it reaches the checkout, the repositories and its log, and no data. It also makes the key
of pseudonyms, once, so that the key was never on a person's computer.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.grants import PULLING, make_role, statement
from infra.images.repositories import Images, base_images
from infra.names import IMAGES_PROJECT, SOURCE_KEY
from infra.storage.buckets import Storage
from medloop.cloud.layout import PSEUDONYM_KEY

PUSHING = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:DescribeImageScanFindings",
    "ecr:DescribeImages",
    "ecr:DescribeRepositories",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
]
PUSH = "medloop images push"
MAKE_KEY = "python -m infra.images.pseudonym_key"
BUILD = {
    "version": "0.2",
    "phases": {
        "install": {
            "runtime-versions": {"python": "3.11"},
            "commands": ["python -m pip install --quiet --constraint constraints.txt --editable ."],
        },
        "build": {"commands": [MAKE_KEY, PUSH]},
    },
}


class Builds(Construct):
    """The project and its role.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        storage: Holds the uploaded checkout.
        images: The repositories.
        pipeline_role: What medloop's command line asks for; building doesn't use it.
        log_retention: How long the log is kept.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        storage: Storage,
        images: Images,
        pipeline_role: iam.IRole,
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, construct_id)
        log = logs.LogGroup(
            self,
            "Log",
            encryption_key=storage.keys.logs,
            retention=log_retention,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        self.role = self._make_role(storage, images, log)
        variables = {"MEDLOOP_BUCKET": storage.artefacts.bucket_name, "MEDLOOP_ROLE_ARN": pipeline_role.role_arn}
        self.project = codebuild.Project(
            self,
            "Project",
            project_name=IMAGES_PROJECT,
            description="Builds medloop's containers and pushes them",
            role=self.role.without_policy_updates(),
            source=codebuild.Source.s3(bucket=storage.artefacts, path=SOURCE_KEY),
            build_spec=codebuild.BuildSpec.from_object(BUILD),
            encryption_key=storage.keys.artefacts,
            timeout=cdk.Duration.hours(2),
            concurrent_build_limit=1,
            environment=codebuild.BuildEnvironment(
                build_image=codebuild.LinuxBuildImage.STANDARD_7_0,
                compute_type=codebuild.ComputeType.LARGE,
                # Docker builds need it; the build's instance is deleted after each build.
                privileged=True,
            ),
            environment_variables={
                name: codebuild.BuildEnvironmentVariable(value=value) for name, value in variables.items()
            },
            logging=codebuild.LoggingOptions(cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=log)),
        )

    def _make_role(self, storage: Storage, images: Images, log: logs.LogGroup) -> iam.Role:
        checkout = [storage.artefacts.arn_for_objects(SOURCE_KEY)]
        decrypting = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
        rights = [
            statement("ReadCheckout", ["s3:GetObject", "s3:GetObjectVersion"], checkout),
            statement("DecryptCheckout", decrypting, [storage.keys.artefacts.key_arn]),
            statement(
                "MakeKeyOnce",
                ["s3:PutObject"],
                [storage.artefacts.arn_for_objects(PSEUDONYM_KEY)],
                {"Null": {"s3:if-none-match": "false"}},
            ),
            statement(
                "FindKey",
                ["s3:ListBucket"],
                [storage.artefacts.bucket_arn],
                {"StringEquals": {"s3:prefix": [PSEUDONYM_KEY]}},
            ),
            # The service knows no narrower resource: a token for the registry, not for any image.
            statement("LogInToRegistry", ["ecr:GetAuthorizationToken"]),
            statement("PushImages", PUSHING, images.arns),
            statement("PullBaseImages", PULLING, [base_images(self)]),
            statement("WriteLog", ["logs:CreateLogStream", "logs:PutLogEvents"], [log.log_group_arn]),
        ]
        return make_role(self, "codebuild", "medloop: builds of images", rights)

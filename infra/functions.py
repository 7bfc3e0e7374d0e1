"""Lambda functions made of files of this repository: standard library and boto3, nothing to install."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.grants import allow, arn, make_role, service, statement
from medloop.checkout import REPOSITORY

RUNTIME = lambda_.Runtime.PYTHON_3_13
INTERFACE_ACTIONS = [
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
]


@dataclass(frozen=True)
class Surroundings:
    """Resources that functions and state machines share.

    Args:
        key: Encrypts logs, functions' environment and executions.
        log_retention: How long logs are kept.
        dead_letters: Events that could not be delivered.
        vpc: Where functions run; None: in Lambda's own network.
        security_group: Security group of functions in the VPC.
    """

    key: kms.IKey
    log_retention: logs.RetentionDays
    dead_letters: sqs.IQueue
    vpc: ec2.IVpc | None = None
    security_group: ec2.ISecurityGroup | None = None


class PythonFunction(Construct):
    """A function, its role and its log group, encrypted with the stack's key, in the VPC if there is one.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        function_name: The function's name.
        description: What it does.
        files: Repository paths of its files; the function has the same paths.
        handler: `path/of/file.function`.
        timeout: At most 15 minutes.
        around: Key, log, network.
        environment: Environment variables.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        function_name: str,
        description: str,
        files: Sequence[str],
        handler: str,
        timeout: cdk.Duration,
        around: Surroundings,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.around = around
        log_group = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/aws/lambda/{function_name}",
            encryption_key=around.key,
            retention=around.log_retention,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        writing = statement("WriteOwnLog", ["logs:CreateLogStream", "logs:PutLogEvents"], [log_group.log_group_arn])
        self.role = make_role(self, service("lambda"), f"What the function {function_name} may do", [writing])
        if around.vpc is not None:
            # A function in a VPC has a network interface, which Lambda makes with the function's own role; its code
            # may not. https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
            own_code = {"ArnEquals": {"lambda:SourceFunctionArn": arn("lambda", f"function:{function_name}")}}
            allow(
                self.role,
                statement("LambdaMakesInterfaces", INTERFACE_ACTIONS),
                statement("CodeMakesNone", INTERFACE_ACTIONS, conditions=own_code, deny=True),
            )
        with _staged(files) as folder:
            self.function = lambda_.Function(
                self,
                "Function",
                function_name=function_name,
                description=description,
                runtime=RUNTIME,
                architecture=lambda_.Architecture.ARM_64,
                handler=handler,
                code=lambda_.Code.from_asset(folder),
                role=self.role.without_policy_updates(),
                timeout=timeout,
                memory_size=512,
                environment=dict(environment or {}),
                environment_encryption=around.key,
                log_group=log_group,
                vpc=around.vpc,
                vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED) if around.vpc else None,
                security_groups=[around.security_group] if around.security_group else None,
            )


@contextlib.contextmanager
def _staged(files: Sequence[str]) -> Iterator[str]:
    """A temporary folder with a function's files; CDK copies it when the function is constructed."""
    with tempfile.TemporaryDirectory(prefix="medloop-function-") as folder:
        for name in sorted(files):
            copy = Path(folder) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, copy)
        yield folder

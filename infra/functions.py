"""Lambda functions made of files of this repository: standard library and boto3, nothing to install."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from medloop.bundle import REPOSITORY

RUNTIME = lambda_.Runtime.PYTHON_3_13
INTERFACE_ACTIONS = [
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
]


class PythonFunction(Construct):
    """A function, its role and its log group, encrypted with the stack's key, in the VPC where there is one.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        function_name: The function's name.
        description: What it does.
        files: Repository paths of its files; the function has the same paths.
        handler: `path/of/file.function`.
        key: Encrypts its environment and its log.
        log_retention: How long the log is kept.
        timeout: At most 15 minutes.
        environment: Environment variables.
        vpc: Where it runs; None: in Lambda's own network.
        security_group: Of the VPC.
        concurrency: Copies at once, reserved; None: what the account has.
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
        key: kms.IKey,
        log_retention: logs.RetentionDays,
        timeout: cdk.Duration,
        environment: Mapping[str, str] | None = None,
        vpc: ec2.IVpc | None = None,
        security_group: ec2.ISecurityGroup | None = None,
        concurrency: int | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.log_group = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/aws/lambda/{function_name}",
            encryption_key=key,
            retention=log_retention,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"What the function {function_name} may do",
        )
        self._grant_log()
        if vpc is not None:
            _grant_interfaces(self.role, function_arn(self, function_name))
        with _staged(files) as folder:
            code = lambda_.Code.from_asset(folder)
            self.function = lambda_.Function(
                self,
                "Function",
                function_name=function_name,
                description=description,
                runtime=RUNTIME,
                architecture=lambda_.Architecture.ARM_64,
                handler=handler,
                code=code,
                role=self.role.without_policy_updates(),
                timeout=timeout,
                memory_size=512,
                environment=dict(environment or {}),
                environment_encryption=key,
                log_group=self.log_group,
                vpc=vpc,
                vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED) if vpc else None,
                security_groups=[security_group] if security_group else None,
                reserved_concurrent_executions=concurrency,
            )

    def allow(self, *actions: str, on: Sequence[str], sid: str, conditions: Mapping[str, object] | None = None) -> None:
        """Let the function do something.

        Args:
            actions: IAM actions, spelled out.
            on: ARNs.
            sid: What the statement is for.
            conditions: IAM conditions.
        """
        self.role.add_to_policy(
            iam.PolicyStatement(sid=sid, actions=list(actions), resources=list(on), conditions=dict(conditions or {}))
        )

    def _grant_log(self) -> None:
        self.allow(
            "logs:CreateLogStream", "logs:PutLogEvents", on=[f"{self.log_group.log_group_arn}"], sid="WriteOwnLog"
        )


def function_arn(scope: Construct, function_name: str) -> str:
    """The ARN of a function of this account and region, known before there is one."""
    stack = cdk.Stack.of(scope)
    name = cdk.ArnFormat.COLON_RESOURCE_NAME
    return stack.format_arn(service="lambda", resource="function", resource_name=function_name, arn_format=name)


@contextlib.contextmanager
def _staged(files: Sequence[str]) -> Iterator[str]:
    """A temporary folder with a function's files; CDK copies it when the function is constructed."""
    with tempfile.TemporaryDirectory(prefix="medloop-function-") as folder:
        for name in sorted(files):
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, place)
        yield folder


def _grant_interfaces(role: iam.Role, function_arn: str) -> None:
    """A function in a VPC has a network interface, which Lambda makes with the function's own role; its code may not.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
    """
    role.add_to_policy(iam.PolicyStatement(sid="LambdaMakesInterfaces", actions=INTERFACE_ACTIONS, resources=["*"]))
    own_code = {"ArnEquals": {"lambda:SourceFunctionArn": function_arn}}
    role.add_to_policy(
        iam.PolicyStatement(
            sid="CodeMakesNone",
            effect=iam.Effect.DENY,
            actions=INTERFACE_ACTIONS,
            resources=["*"],
            conditions=own_code,
        )
    )

"""The network of jobs and functions: private subnets, AWS's own services by endpoint, no way to the internet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.grants import ANY_PRINCIPAL, PULLING, make_role, statement
from infra.settings import NetworkSettings
from infra.tracking.actions import SERVER_ACTIONS


@dataclass(frozen=True)
class Service:
    """A service that is reached from inside the VPC, and its allowed actions.

    Args:
        name: The endpoint's name.
        actions: Allowed IAM actions; all others are refused for every caller.
    """

    name: str
    actions: tuple[str, ...]


ZONES = 2
"""Availability zones. Each costs an interface of its own at every service; a template of no account has two at most."""
# CDK's own Port.esp() names ports, which that protocol has none of.
ESP = ec2.Port(protocol=ec2.Protocol.ESP, string_representation="ESP")

SERVICES = (
    Service("ecr.api", ("ecr:GetAuthorizationToken", *PULLING)),
    Service("ecr.dkr", PULLING),
    Service("logs", ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")),
    Service("monitoring", ("cloudwatch:PutMetricData", "cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData")),
    Service("sts", ("sts:GetCallerIdentity",)),
    Service("kms", ("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey")),
    Service(
        "sagemaker.api",
        (
            "sagemaker:DescribeEndpoint",
            "sagemaker:DescribeEndpointConfig",
            "sagemaker:DescribeModelPackage",
            "sagemaker:DescribePipeline",
            "sagemaker:ListModelPackages",
            "sagemaker:ListPipelineExecutions",
            "sagemaker:ListPipelineParametersForExecution",
            "sagemaker:ListTags",
        ),
    ),
)
MLFLOW = Service("experiments", SERVER_ACTIONS)
"""An MLflow tracking server, by the endpoint that AWS has for it; the one service here of another prefix."""
STORAGE_ACTIONS = (
    "s3:AbortMultipartUpload",
    "s3:GetBucketLocation",
    "s3:GetObject",
    "s3:GetObjectAttributes",
    "s3:GetObjectVersion",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
)


class Network(Construct):
    """A VPC, or none: then `vpc` and `security_group` are None, and jobs run in SageMaker's own network.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        settings: Whether, and how large.
        log_key: Encrypts the flow log.
        log_retention: How long the flow log is kept.
        mlflow_server: Whether jobs reach an MLflow tracking server.
        models: ARNs of another account's objects that hosts read.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: NetworkSettings,
        log_key: kms.IKey,
        log_retention: logs.RetentionDays,
        mlflow_server: bool,
        models: Sequence[str] = (),
    ) -> None:
        super().__init__(scope, construct_id)
        self.vpc: ec2.Vpc | None = None
        self.security_group: ec2.SecurityGroup | None = None
        self.subnet_ids: list[str] = []
        if settings.vpc:
            self.vpc = self._make_vpc(settings)
            self.subnet_ids = [subnet.subnet_id for subnet in self.vpc.isolated_subnets]
            self.security_group = self._make_group(self.vpc)
            self._log_flows(self.vpc, log_key, log_retention)
            self._reach_storage(self.vpc, models)
            door = self._make_door(self.vpc, self.security_group)
            for service in [*SERVICES, *([MLFLOW] if mlflow_server else [])]:
                self._reach(self.vpc, service, door)

    @property
    def security_group_ids(self) -> list[str]:
        """Security groups of jobs; empty without a VPC."""
        return [] if self.security_group is None else [self.security_group.security_group_id]

    def _make_vpc(self, settings: NetworkSettings) -> ec2.Vpc:
        subnets = ec2.SubnetConfiguration(name="jobs", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=20)
        return ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(settings.cidr),
            max_azs=ZONES,
            nat_gateways=0,
            create_internet_gateway=False,
            subnet_configuration=[subnets],
        )

    def _make_group(self, vpc: ec2.Vpc) -> ec2.SecurityGroup:
        """The security group of jobs: HTTPS to endpoints, and one another, for training on several hosts."""
        group = ec2.SecurityGroup(
            self, "Jobs", vpc=vpc, description="medloop jobs and functions", allow_all_outbound=False
        )
        # S3's addresses are many and change; the guarantee is that no route leads anywhere but to endpoints.
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "endpoints, S3's gateway among them")
        for port in (ec2.Port.all_tcp(), ec2.Port.udp(500), ESP):
            group.add_ingress_rule(group, port, "machines of one job")
            group.add_egress_rule(group, port, "machines of one job")
        return group

    def _log_flows(self, vpc: ec2.Vpc, key: kms.IKey, retention: logs.RetentionDays) -> None:
        group = logs.LogGroup(
            self, "Flows", encryption_key=key, retention=retention, removal_policy=cdk.RemovalPolicy.RETAIN
        )
        role = make_role(self, "vpc-flow-logs", "medloop: the VPC's flow log", construct_id="FlowsRole")
        vpc.add_flow_log("FlowLog", destination=ec2.FlowLogDestination.to_cloud_watch_logs(group, role))

    def _reach_storage(self, vpc: ec2.Vpc, models: Sequence[str]) -> None:
        """S3 without an hourly price: buckets of this account, ECR's buckets of images' layers, models elsewhere."""
        endpoint = vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        in_account = {"StringEquals": {"aws:ResourceAccount": cdk.Aws.ACCOUNT_ID}}
        layers = f"arn:{cdk.Aws.PARTITION}:s3:::prod-{cdk.Aws.REGION}-starport-layer-bucket/*"
        for rights in (
            statement("OwnBucketsOnly", STORAGE_ACTIONS, conditions=in_account, principals=ANY_PRINCIPAL),
            statement("LayersOfImages", ["s3:GetObject"], [layers], principals=ANY_PRINCIPAL),
            *([statement("Models", ["s3:GetObject"], models, principals=ANY_PRINCIPAL)] if models else []),
        ):
            endpoint.add_to_policy(rights)

    def _make_door(self, vpc: ec2.Vpc, inside: ec2.SecurityGroup) -> ec2.SecurityGroup:
        """The security group of endpoints: HTTPS from jobs and functions."""
        door = ec2.SecurityGroup(
            self,
            "Endpoints",
            vpc=vpc,
            description="AWS services inside the network of medloop",
            allow_all_outbound=False,
        )
        door.add_ingress_rule(inside, ec2.Port.tcp(443), "from jobs and functions")
        return door

    def _reach(self, vpc: ec2.Vpc, service: Service, door: ec2.SecurityGroup) -> None:
        endpoint = ec2.InterfaceVpcEndpoint(
            self,
            service.name.title().replace(".", "").replace("-", ""),
            vpc=vpc,
            service=ec2.InterfaceVpcEndpointAwsService(service.name, "aws.sagemaker" if service is MLFLOW else None),
            private_dns_enabled=True,
            open=False,
            security_groups=[door],
        )
        rule = {"StringEquals": {"aws:PrincipalAccount": cdk.Aws.ACCOUNT_ID}}
        endpoint.add_to_policy(statement("OwnAccountOnly", service.actions, conditions=rule, principals=ANY_PRINCIPAL))

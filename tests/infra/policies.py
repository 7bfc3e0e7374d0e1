"""The synthesised stack as IAM sees it: roles with their statements, and the policies of what they ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tests.infra.iam import Decision, Request, as_list, decide
from tests.infra.template import REGION, Template

_SAGEMAKER = f"arn:aws:sagemaker:{REGION}:{{account}}"
_FORMS = {
    "AWS::ECR::Repository": f"arn:aws:ecr:{REGION}:{{account}}:repository/{{RepositoryName}}",
    "AWS::SageMaker::MlflowTrackingServer": f"{_SAGEMAKER}:mlflow-tracking-server/{{TrackingServerName}}",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{{account}}:log-group:{{LogGroupName}}:*",
    "AWS::CodeBuild::Project": f"arn:aws:codebuild:{REGION}:{{account}}:project/{{Name}}",
    "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{REGION}:{{account}}:alarm:{{AlarmName}}",
}


class Account(Template):
    """The stack in an account of its own; resources are found by their CDK path or the beginning of it."""

    def arn(self, logical: str) -> str:
        """A resource's ARN, in the form that its service uses."""
        form = _FORMS.get(self.resources[logical]["Type"])
        if form is None:
            return super().arn(logical)
        properties = {"LogGroupName": logical, "account": self.account, **self.resolve(self.properties(logical))}
        return form.format_map(properties)

    def _call(self, name: str, argument: Any) -> Any:
        """`TrackingServerArn` is an ARN by another name."""
        if name == "GetAtt" and argument[1].endswith("Arn"):
            return self.arn(argument[0])
        return super()._call(name, argument)

    @cache  # noqa: B019 - one account a session
    def find(self, kind: str, path: str) -> str:
        """The logical name of the one resource of a kind whose CDK path is this, below the stack.

        Raises:
            AssertionError: There is none.
        """
        paths = {
            name: resource.get("Metadata", {}).get("aws:cdk:path", "") for name, resource in self.by_type(kind).items()
        }
        names = [
            name
            for name, resource_path in paths.items()
            if resource_path.partition("/")[2].removesuffix("/Resource") == path
        ]
        assert len(names) == 1, f"{kind} {path}: {names or sorted(paths.values())}"
        return names[0]

    def role(self, path: str) -> str:
        """A role's ARN."""
        return self.arn(self.find("AWS::IAM::Role", path))

    @cache  # noqa: B019 - one account a session
    def statements_of(self, role: str) -> list[dict[str, Any]]:
        """The statements of a role's policies."""
        logical = next(name for name in self.by_type("AWS::IAM::Role") if self.arn(name) == role)
        documents = [policy["PolicyDocument"] for policy in self.properties(logical).get("Policies", [])]
        for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            for policy in self.by_type(kind):
                properties = self.properties(policy)
                if {"Ref": logical} in properties.get("Roles", []):
                    documents.append(properties["PolicyDocument"])
        return [statement for document in documents for statement in as_list(self.resolve(document["Statement"]))]

    def trust_of(self, role: str) -> list[dict[str, Any]]:
        """Who may assume a role."""
        logical = next(name for name in self.by_type("AWS::IAM::Role") if self.arn(name) == role)
        document = self.resolve(self.properties(logical)["AssumeRolePolicyDocument"])
        return as_list(document["Statement"])

    @cache  # noqa: B019 - one account a session
    def resource_policy(self, arn: str) -> list[dict[str, Any]]:
        """Statements of the policy of an ARN's bucket, key, repository, model group or bus; none of any other."""
        documents = [
            self.resolve(self.properties(name)[member])
            for kind, (member, is_of) in _POLICIES.items()
            for name in self.by_type(kind)
            if member in self.properties(name) and is_of(self, name, arn)
        ]
        return [statement for document in documents for statement in as_list(document.get("Statement", document))]

    def endpoint_policy(self, path: str) -> list[dict[str, Any]]:
        """The statements of a VPC endpoint's policy."""
        document = self.properties(self.find("AWS::EC2::VPCEndpoint", path))["PolicyDocument"]
        return as_list(self.resolve(document)["Statement"])

    def simulate(
        self,
        role: str,
        action: str,
        resource: str,
        context: Mapping[str, Any] | None = None,
        through: str | None = None,
    ) -> Decision:
        """What a service answers a role of the stack.

        Args:
            role: The role's ARN.
            action: The action.
            resource: The requested ARN.
            context: Condition keys, in addition to those that every request has.
            through: The VPC endpoint that the request comes by.
        """
        every: dict[str, Any] = {
            "aws:SecureTransport": "true",
            "s3:TlsVersion": "1.3",
            "aws:PrincipalAccount": self.account,
            "aws:PrincipalArn": role,
            "aws:ResourceAccount": self.account,
        }
        request = Request(role, action, resource, {**every, **(context or {})})
        limits = [self.endpoint_policy(through)] if through else []
        by_key = action.startswith("kms:")
        statements, policy = self.statements_of(role), self.resource_policy(resource)
        return decide(request, statements, policy, resource_must_allow=by_key, boundaries=limits)

    def simulate_from(
        self,
        role: str,
        identity: list[dict[str, Any]],
        action: str,
        resource: str,
        context: Mapping[str, Any] | None = None,
    ) -> Decision:
        """What a service of this account answers a role of another.

        Args:
            role: The role's ARN.
            identity: The statements of the role's own policies.
            action: The action.
            resource: The requested ARN, of this account.
            context: Condition keys, in addition to those that every request has.
        """
        every = {
            "aws:SecureTransport": "true",
            "s3:TlsVersion": "1.3",
            "aws:PrincipalAccount": role.split(":")[4],
            "aws:PrincipalArn": role,
            "aws:ResourceAccount": self.account,
        }
        request = Request(role, action, resource, {**every, **(context or {})})
        return decide(request, identity, self.resource_policy(resource), across_accounts=True)

    def assume(self, role: str, principal: str, context: Mapping[str, Any] | None = None) -> Decision:
        """Decide whether a principal may assume a role; people's own policies are assumed to allow it."""
        own_statements = (
            [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}] if principal.startswith("arn:") else []
        )
        request = Request(principal, "sts:AssumeRole", role, context or {})
        return decide(request, own_statements, self.trust_of(role), resource_must_allow=True)


def _is_of_group(account: Account, name: str, arn: str) -> bool:
    return f":model-package/{account.properties(name)['ModelPackageGroupName']}/" in arn


def _is_of_bucket(account: Account, name: str, arn: str) -> bool:
    bucket = account.resolve(account.properties(name)["Bucket"])
    return arn.partition("/")[0] == f"arn:aws:s3:::{bucket}"


def _is_of_bus(account: Account, name: str, arn: str) -> bool:
    (bus,) = account.by_type("AWS::Events::EventBus").values()
    return arn.endswith(f":{account.account}:event-bus/{bus['Properties']['Name']}")


def _is_it(account: Account, name: str, arn: str) -> bool:
    return account.arn(name) == arn


_POLICIES: dict[str, tuple[str, Callable[[Account, str, str], bool]]] = {
    "AWS::S3::BucketPolicy": ("PolicyDocument", _is_of_bucket),
    "AWS::KMS::Key": ("KeyPolicy", _is_it),
    "AWS::ECR::Repository": ("RepositoryPolicyText", _is_it),
    "AWS::SageMaker::ModelPackageGroup": ("ModelPackageGroupPolicy", _is_of_group),
    "AWS::Events::EventBusPolicy": ("Statement", _is_of_bus),
}
"""Policies of resources: the member that holds one, and whether it is that of an ARN."""


def allowing(account: Account) -> list[tuple[str, dict[str, Any]]]:
    """Every allowing statement of the template, resolved, with the logical name of what holds it."""
    statements = []
    for logical, resource in account.resources.items():
        for statement in _statements(account.resolve(resource.get("Properties", {}))):
            if statement["Effect"] == "Allow":
                statements.append((logical, statement))
    return statements


def _statements(value: Any) -> list[dict[str, Any]]:
    """The statements anywhere in a resource's properties."""
    if isinstance(value, list):
        return [statement for item in value for statement in _statements(item)]
    if not isinstance(value, dict):
        return []
    if "Effect" in value and ("Action" in value or "NotAction" in value):
        return [value]
    return [statement for item in value.values() for statement in _statements(item)]

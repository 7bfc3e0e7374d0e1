"""A synthesised template, with its references resolved to names of a test's account."""

from __future__ import annotations

import json
import re
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT

REGION = "us-east-1"
PSEUDO = {
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "Medloop",
}
VARIABLE = re.compile(r"\$\{([^}]+)\}")
_NAMES = (
    "FunctionName",
    "StateMachineName",
    "RoleName",
    "TopicName",
    "QueueName",
    "AlarmName",
    "BucketName",
    "LogGroupName",
)


class Template:
    """A template.

    Args:
        document: As CDK wrote it.
        account: Where it is deployed.
    """

    def __init__(self, document: dict[str, Any], account: str = ACCOUNT) -> None:
        """Keep it."""
        self.account = account
        self.resources: dict[str, dict[str, Any]] = document["Resources"]
        self.document = document

    def by_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The resources of a kind by logical name."""
        return {logical: resource for logical, resource in self.resources.items() if resource["Type"] == kind}

    def properties(self, logical: str) -> dict[str, Any]:
        """A resource's properties, unresolved."""
        return dict(self.resources[logical].get("Properties", {}))

    def definition(self, logical: str) -> str:
        """A state machine's definition as the service gets it."""
        properties = self.properties(logical)
        values = self.resolve(properties.get("DefinitionSubstitutions", {}))
        return VARIABLE.sub(lambda match: str(values[match[1]]), self.resolve(properties["DefinitionString"]))

    def name(self, logical: str) -> str:
        """A resource's physical name."""
        properties = self.properties(logical)
        return next((str(self.resolve(properties[key])) for key in _NAMES if key in properties), logical)

    def arn(self, logical: str) -> str:
        """A resource's ARN."""
        kind, name, account = self.resources[logical]["Type"], self.name(logical), self.account
        forms = {
            "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{account}:function:{name}",
            "AWS::StepFunctions::StateMachine": f"arn:aws:states:{REGION}:{account}:stateMachine:{name}",
            "AWS::SNS::Topic": f"arn:aws:sns:{REGION}:{account}:{name}",
            "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{account}:{name}",
            "AWS::IAM::Role": f"arn:aws:iam::{account}:role/{name}",
            "AWS::S3::Bucket": f"arn:aws:s3:::{name.lower()}",
            "AWS::KMS::Key": f"arn:aws:kms:{REGION}:{account}:key/{name}",
        }
        return forms.get(kind, f"arn:aws:other:{REGION}:{account}:{name}")

    def resolve(self, value: Any) -> Any:
        """The value with its references and functions replaced."""
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((key, argument),) = value.items()
            if key == "Ref":
                return self._ref(argument)
            if key.startswith("Fn::"):
                return self._call(key.removeprefix("Fn::"), argument)
        return {key: self.resolve(item) for key, item in value.items()}

    def _ref(self, logical: str) -> Any:
        if logical == "AWS::AccountId":
            return self.account
        if logical in PSEUDO:
            return PSEUDO[logical]
        if logical not in self.resources:
            return self.document["Parameters"][logical].get("Default", f"parameter-{logical}")
        by_arn = self.resources[logical]["Type"] in ("AWS::SNS::Topic", "AWS::StepFunctions::StateMachine")
        name = self.arn(logical) if by_arn else self.name(logical)
        return name.lower() if self.resources[logical]["Type"] == "AWS::S3::Bucket" else name

    def _call(self, name: str, argument: Any) -> Any:
        if name == "Join":
            return argument[0].join(str(self.resolve(item)) for item in self.resolve(argument[1]))
        if name == "GetAtt":
            return self.arn(argument[0]) if argument[1] == "Arn" else f"{argument[0]}.{argument[1]}"
        if name == "Sub":
            text, more = (argument, {}) if isinstance(argument, str) else argument
            return VARIABLE.sub(lambda match: str(self.resolve(more.get(match[1], {"Ref": match[1]}))), text)
        if name == "Select":
            return self.resolve(argument[1])[int(argument[0])]
        if name == "FindInMap":
            table, first, second = self.resolve(argument)
            return self.document["Mappings"][table][first][second]
        if name == "GetAZs":
            return [f"{REGION}a", f"{REGION}b", f"{REGION}c"]
        return json.dumps({name: argument}, sort_keys=True)

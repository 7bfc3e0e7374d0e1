"""The synthesised stack, deployed into moto's CloudFormation as `cdk deploy` does it: assets first, then the template.

What moto lacks is added (richer_cloudformation.py). What moto reads otherwise than CloudFormation is written otherwise
before: see `_as_moto_reads`.
"""

from __future__ import annotations

import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT

from infra.stack import STACK_NAME
from tests.infra.richer_cloudformation import add_kinds
from tests.infra.template import REGION

_BOOTSTRAP = "/cdk-bootstrap/hnb659fds/version"


class Deployed:
    """The stack in the mocked account.

    Args:
        assembly: The folder that CDK wrote.
        stack_name: One of its stacks.
    """

    def __init__(self, assembly: Path, stack_name: str = STACK_NAME) -> None:
        """Bootstrap the account, upload, create the stack, and read the resources that were created."""
        add_kinds()
        boto3.client("ssm").put_parameter(Name=_BOOTSTRAP, Value="21", Type="String")
        cloudformation = boto3.client("cloudformation")
        cloudformation.create_stack(
            StackName=stack_name,
            TemplateURL=_upload(assembly, stack_name),
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        )
        (stack,) = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE", stack
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        summaries = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack_name)
        self._resources = [summary for page in summaries for summary in page["StackResourceSummaries"]]
        self.kinds = {resource["LogicalResourceId"]: resource["ResourceType"] for resource in self._resources}
        """The kind of each resource that stands, by its logical name."""

    def by_type(self, kind: str) -> dict[str, str]:
        """The physical ids of the resources of a kind, by logical name."""
        resources = {
            r["LogicalResourceId"]: r["PhysicalResourceId"] for r in self._resources if r["ResourceType"] == kind
        }
        assert resources, f"the stack has no {kind}"
        return resources

    def only(self, kind: str, part: str) -> str:
        """The physical id of the one resource of a kind whose logical name holds this part."""
        (matching,) = [physical for logical, physical in self.by_type(kind).items() if part in logical]
        return matching


def _upload(assembly: Path, stack_name: str) -> str:
    """Put the assembly's files where its manifest says; returns the template's URL."""
    bucket = f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    template = ""
    for (name, key), body in _files(assembly, stack_name).items():
        client.put_object(Bucket=bucket, Key=key, Body=body)
        template = key if name == f"{stack_name}.template.json" else template
    return f"https://{bucket}.s3.amazonaws.com/{template}"


@cache
def _files(assembly: Path, stack_name: str) -> dict[tuple[str, str], bytes]:
    """The files of an assembly by their names and keys."""
    manifest = json.loads((assembly / f"{stack_name}.assets.json").read_text(encoding="utf-8"))
    values = {}
    for file in manifest["files"].values():
        (destination,) = file["destinations"].values()
        source = assembly / file["source"]["path"]
        values[source.name, destination["objectKey"]] = _zipped(source) if source.is_dir() else _as_moto_reads(source)
    return values


def _zipped(folder: Path) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return target.getvalue()


def _as_moto_reads(template: Path) -> bytes:
    """The template, without what moto trips over.

    Tags of keys have other names in moto than in CloudFormation; a rule of a protocol without ports has none.
    """
    document = json.loads(template.read_text(encoding="utf-8"))
    for resource in document["Resources"].values():
        properties: dict[str, Any] = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::KMS::Key":
                properties.pop("Tags", None)
            case "AWS::EC2::SecurityGroupIngress":
                properties |= {"FromPort": properties.get("FromPort", -1), "ToPort": properties.get("ToPort", -1)}
    return json.dumps(document).encode()

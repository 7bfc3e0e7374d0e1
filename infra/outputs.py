"""The stack's outputs as what medloop's command line reads: `eval "$(python -m infra.outputs)"` (docs/deploy.md)."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra.names import STACK_NAME
from medloop.errors import MedloopError, TargetError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient


VARIABLE = "Medloop"
"""Outputs that begin with it are variables: MedloopRoleArn is MEDLOOP_ROLE_ARN."""
SHELL_NAMES = ("DataBucket",)
"""Outputs that a person's commands name: DATA_BUCKET."""


def read_outputs(client: CloudFormationClient) -> dict[str, str]:
    """The deployed stack's outputs.

    Raises:
        TargetError: There is no such stack, or it can't be read.
    """
    try:
        (stack,) = client.describe_stacks(StackName=STACK_NAME)["Stacks"]
    except (ClientError, BotoCoreError) as error:
        raise TargetError(f"stack {STACK_NAME} can't be read ({error}); sign in, or deploy it: make deploy") from None
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def as_variables(outputs: Mapping[str, str]) -> dict[str, str]:
    """Environment variables of medloop, and the target."""
    return {_upper(name): value for name, value in outputs.items() if name.startswith(VARIABLE)} | {
        "MEDLOOP_TARGET": "aws"
    }


def as_exports(outputs: Mapping[str, str]) -> str:
    """Lines for a shell: medloop's variables, the target, and what docs/deploy.md's commands name."""
    variables = as_variables(outputs)
    variables |= {_upper(name): outputs[name] for name in SHELL_NAMES if name in outputs}
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items()))


def pipeline_settings(outputs: Mapping[str, str]) -> tuple[str, ...]:
    """Settings of pipelines that run in this account, `NAME=VALUE`: key, isolation, and its VPC where there is one."""
    settings = {"network.kms_key": outputs["ArtefactKeyArn"]}
    if isolated := outputs.get("IsolatedJobs"):
        settings["network.isolation" if isolated == "all" else "network.isolate_processing"] = "true"
    if "Subnets" in outputs:
        settings |= {
            "network.subnets": f"[{outputs['Subnets']}]",
            "network.security_group_ids": f"[{outputs['SecurityGroup']}]",
        }
    return tuple(f"{name}={value}" for name, value in settings.items())


def as_settings(outputs: Mapping[str, str]) -> str:
    """The same as `--set` options."""
    return " ".join(f"--set {shlex.quote(setting)}" for setting in pipeline_settings(outputs))


def _upper(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def main(arguments: Sequence[str]) -> int:
    """Print exports, or with `--settings` the options."""
    try:
        outputs = read_outputs(boto3.client("cloudformation"))
        print(as_settings(outputs) if "--settings" in arguments else as_exports(outputs))
    except (MedloopError, BotoCoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

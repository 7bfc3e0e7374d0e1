"""The function behind approval.asl.json: what follows from an event about a version, or from the clock's question.

Standard library and boto3 only: the function's runtime has no other package.
"""

from __future__ import annotations

import os
from typing import Any

import boto3

from infra.deployment.check import CHECK, check
from infra.deployment.plan import Place, plan


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point; `event` holds EventBridge's event, or under `check` a group's name."""
    said, place, sagemaker = event["event"], Place.read(os.environ["PLACE"]), boto3.client("sagemaker")
    if CHECK in said:
        return check(said[CHECK], place, sagemaker)
    return plan(said["detail"]["ModelPackageArn"], place, sagemaker)

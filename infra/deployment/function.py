"""The function behind approval.asl.json: what follows from an event about a version, or from the clock's question.

Standard library and boto3 only: the function's runtime has no other package.
"""

from __future__ import annotations

import os
from typing import Any

import boto3

from infra.deployment.check import CHECK, check
from infra.deployment.plan import Serving, plan
from infra.deployment.promotion import check_promoted, respond_to


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point; `event` holds EventBridge's event, or under `check` a group's name."""
    cause, serving, sagemaker = event["event"], Serving.read(os.environ["PLACE"]), boto3.client("sagemaker")
    if CHECK in cause:
        return (check_promoted if serving.registry else check)(cause[CHECK], serving, sagemaker)
    if serving.registry:
        return respond_to(cause, serving, sagemaker)
    return plan(cause["detail"]["ModelPackageArn"], serving, sagemaker)

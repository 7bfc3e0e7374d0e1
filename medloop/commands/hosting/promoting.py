"""Promote a version to production in another account, whose own stack deploys it (infra/production)."""

from __future__ import annotations

import os

from medloop.cloud.promotion import BUS_VARIABLE, promotion_entry, refusal_of
from medloop.cloud.target import Target
from medloop.commands.registry.evidence_files import check_artefact
from medloop.commands.registry.versions import name_of
from medloop.errors import TargetError, UserError


def promote_model(target: Target, arn: str, *, back: bool = False) -> str:
    """Check that a version is what was approved, and send the event that promotes it; return `GROUP/N`.

    With `back` it may be older than the version that production serves.

    Raises:
        UserError: The version isn't Approved, its model or image was changed, or they aren't known by digest.
        TargetError: There is no other account, or its event bus refuses the event.
    """
    if target.name != "aws":
        raise UserError("endpoints promote: is from account to account; add --target aws, or use endpoints deploy")
    if not (bus := os.environ.get(BUS_VARIABLE)):
        raise TargetError(
            f"endpoints promote: {BUS_VARIABLE} is not set; set it to the stack's output MedloopProductionBusArn, "
            "which it has if production is in another account"
        )
    package = target.boto.client("sagemaker").describe_model_package(ModelPackageName=arn)
    model = name_of(package)
    if refusal := refusal_of(package):
        raise UserError(f"{model}: {refusal}")
    if warning := check_artefact(target, package):
        raise UserError(warning)
    entry = promotion_entry(bus, arn, package["ModelPackageGroupName"], back=back)
    response = target.boto.client("events").put_events(Entries=[entry])
    if response["FailedEntryCount"]:
        (result,) = response["Entries"]
        reason = f"{result.get('ErrorCode')}: {result.get('ErrorMessage')}"
        raise TargetError(f"{bus}: {reason}; compare the caller's role with the policy of the bus")
    return model

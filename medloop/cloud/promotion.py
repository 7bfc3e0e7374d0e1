"""Promotion of a version to production in another account: what may be promoted, and the event that asks for it.

Standard library only: a function's runtime has no other package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from medloop.documents.artefact import IMAGE, MODEL_DIGEST, recorded_digest
from medloop.documents.metadata import decoded

SOURCE, DETAIL_TYPE = "medloop", "medloop Promotion"
"""Of the event, by which production's rule and the bus's policy know it."""
BUS_VARIABLE = "MEDLOOP_PRODUCTION_BUS_ARN"
"""Environment variable: the ARN of production's event bus, an output of the stack."""
_BY_DIGEST = re.compile(r"[^@]+@sha256:[0-9a-f]{64}")


def refusal_of(package: Mapping[str, Any]) -> str:
    """The reason for which a version isn't promoted; "" if it can be.

    Without the digests of model and image, nothing would be compared with what was approved; both sides compare them.

    Args:
        package: DescribeModelPackage's response.
    """
    if package["ModelApprovalStatus"] != "Approved":
        return f"it is {package['ModelApprovalStatus']}; promote an Approved version"
    if not recorded_digest(package, MODEL_DIGEST):
        return "it was registered without its model's digest; run the pipeline again, it registers a new version"
    if not _BY_DIGEST.fullmatch(decoded(package.get("CustomerMetadataProperties")).get(IMAGE, "")):
        return "it was registered without its image's digest; push the images and run the pipeline again"
    return ""


def promotion_entry(bus: str, arn: str, group: str, *, back: bool = False) -> dict[str, Any]:
    """PutEvents' one entry.

    Args:
        bus: The ARN of production's event bus.
        arn: The version's ARN.
        group: Its group.
        back: Also in the place of a newer version.
    """
    detail = {"ModelPackageArn": arn, "ModelPackageGroupName": group, **({"Back": True} if back else {})}
    return {"EventBusName": bus, "Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": json.dumps(detail)}

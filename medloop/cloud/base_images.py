"""AWS's accounts of base images by region, and the domain of a region's registries.

The accounts are in the SDK's own table, which is read without importing the SDK: 19 of the 35 regions of PyTorch 2.14
use another account than us-east-1 does.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medloop.errors import SettingError

TABLES = {
    "pytorch": "core/image_uri_config/pytorch-amzn2023.json",
    "pytorch-training": "core/image_uri_config/pytorch.json",
}
"""The SDK's tables of AWS's images by repository."""
_BASE = re.compile(
    r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.[a-z.]+/(?P<name>(?P<repository>pytorch|pytorch-training):(?P<version>[0-9.]+)-.+)"
)


def base_image_uri(base: str, region: str) -> str:
    """Return the URI of a base image in a region; an image of another registry is unchanged.

    Args:
        base: The URI in container.toml, in any region.
        region: Where it is pulled.

    Raises:
        SettingError: AWS publishes no such images in that region.
    """
    match = _BASE.fullmatch(base)
    if match is None:
        return base
    accounts = base_accounts(match["version"], match["repository"])
    if region not in accounts:
        known = ", ".join(sorted(accounts))
        raise SettingError(f"region {region}: AWS publishes no image {match['name']} there; use one of {known}")
    return f"{accounts[region]}.{registry_domain(region)}/{match['name']}"


@functools.cache
def base_accounts(version: str, repository: str = "pytorch") -> Mapping[str, str]:
    """Return AWS's accounts of the images of a PyTorch version, such as `2.14`, by region; empty for an unknown one.

    Args:
        version: As in the image's tag.
        repository: A key of TABLES.

    Raises:
        SettingError: The SDK has no such table.
    """
    spec = importlib.util.find_spec("sagemaker")
    folders = spec.submodule_search_locations if spec else None
    tables = (Path(folder) / TABLES[repository] for folder in folders or ())
    path = next((table for table in tables if table.is_file()), None)
    if path is None:
        raise SettingError(f"the SDK's {TABLES[repository]} is missing; run `make install`")
    versions = json.loads(path.read_text(encoding="utf-8"))["training"]["versions"]
    return dict(versions.get(version, {}).get("registries", {}))


def registry_domain(region: str) -> str:
    """Return the domain of a region's registries, such as `dkr.ecr.cn-north-1.amazonaws.com.cn`."""
    return f"dkr.ecr.{region}.{partition_of(region)['outputs']['dnsSuffix']}"


def partition_of(region: str) -> dict[str, Any]:
    """Return botocore's record of a region's partition (aws, aws-cn, ...); that of `aws` for an unknown region."""
    partitions = _partitions()
    return next((p for p in partitions if re.match(p["regionRegex"], region)), partitions[0])


@functools.cache
def _partitions() -> list[dict[str, Any]]:
    from botocore.loaders import create_loader

    return list(create_loader().load_data("partitions")["partitions"])

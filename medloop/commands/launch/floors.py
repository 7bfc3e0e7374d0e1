"""Floors of classes that the data don't have: refused before a run on data on S3 starts, where no file is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medloop.documents.names import known_keys, tidy
from medloop.errors import SettingError
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from medloop.settings import Resolved

SETTING = "evaluate.floors"


def check_floors_of_labels(resolved: Resolved) -> None:
    """Check the structures that have a floor against the names of labels, which the settings give.

    Raises:
        SettingError: One is unknown.
    """
    facts = resolved.facts
    if resolved.spec.task != "segmentation" or not facts.floors:
        return
    if facts.labels:
        known_keys(SETTING, facts.floors, facts.labels[1:])
    elif unknown := [name for name in facts.floors if not re.fullmatch(r"label [1-9]\d{0,2}", name)]:
        raise SettingError(
            f"{SETTING}: class {unknown[0]!r} is unknown: without data.labels structures are named label 1, label 2, "
            "...; set data.labels, or use these names"
        )


def check_floors_on_s3(s3: S3Client, uri: str, resolved: Resolved) -> None:
    """Check the classes that have a floor against the class folders of an image data set.

    Raises:
        SettingError: One is unknown.
    """
    if resolved.spec.task == "classification" and resolved.facts.floors:
        known_keys(SETTING, resolved.facts.floors, class_folders(s3, uri))


def class_folders(s3: S3Client, uri: str) -> list[str]:
    """Names of the class folders below a prefix, or below its folder of the training split."""
    from medloop.imaging.layouts import split_of_folder

    folders = _folders(s3, uri)
    if train := next((name for name in folders if split_of_folder(name) == "train"), None):
        folders = _folders(s3, f"{uri.rstrip('/')}/{train}/")
    return sorted({tidy(name) for name in folders})


def _folders(s3: S3Client, uri: str) -> list[str]:
    bucket, key = split_s3_uri(uri)
    prefix = f"{key.rstrip('/')}/" if key else ""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    names = [
        each["Prefix"].removeprefix(prefix).rstrip("/") for page in pages for each in page.get("CommonPrefixes", [])
    ]
    return [name for name in names if not name.startswith((".", "__MACOSX"))]

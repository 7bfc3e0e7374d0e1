"""Rules for the name of an execution's InputData, and the DataVersion of the data in it.

One answer for `medloop run` and for the guard of scheduled starts (infra/scheduling), whose function's runtime brings
boto3 and nothing else: standard library only, clients are handed in.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from medloop.documents.file_names import CARD_FILE
from medloop.documents.metadata import MAX_VALUE, encode
from medloop.errors import DataError
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MANIFEST = "manifest.json"
"""The file in a data set's folder that says it is complete, written last; its content is no data."""
NO_DATA = frozenset({MANIFEST, CARD_FILE})
"""Files in a data set's folder that aren't data."""


def recordable(uri: str) -> str:
    """The prefix, which the version's metadata and model card repeat as it is.

    Raises:
        DataError: CreateModelPackage would refuse it, after all jobs have run.
    """
    if len(uri) > MAX_VALUE:
        raise DataError(f"--data {uri}: has {len(uri)} characters; a version records {MAX_VALUE}: use a shorter one")
    # `=` is in the service's set, though `encode` needs it for itself: dt=2026-11-24/ is a usual prefix.
    if strange := sorted({sign for sign in uri if sign != "=" and encode(sign) != sign}):
        raise DataError(f"--data {uri}: a version can't record {' '.join(strange)}; use a prefix without")
    return uri


def data_version(s3: S3Client, uri: str) -> str | None:
    """A digest of the objects under a prefix: SHA-256 over sorted keys (relative to it), sizes and ETags.

    Two files don't count: the arrival's manifest, which may come again with the same data (under KMS with another ETag
    each time), and the model card, from which no model is trained.

    Args:
        s3: S3 client.
        uri: `s3://bucket/prefix`, with or without a slash at the end.

    Returns:
        64 hexadecimal digits; None without data.

    Raises:
        UserError: It is no S3 URI.
    """
    bucket, prefix = split_s3_uri(uri)
    prefix = prefix.rstrip("/") + "/" if prefix else ""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    objects = [(o["Key"].removeprefix(prefix), o) for page in pages for o in page.get("Contents", [])]
    lines = [f"{name}\t{o['Size']}\t{o['ETag']}\n" for name, o in objects if name not in NO_DATA]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest() if lines else None

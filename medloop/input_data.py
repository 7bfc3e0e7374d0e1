"""Rules for the name of an execution's InputData, and the DataVersion of the data in it.

One answer for `medloop run` and for the guard of scheduled starts (infra/scheduling), whose function's runtime brings
boto3 and nothing else: standard library only, clients are handed in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from medloop.documents.file_names import CARD_FILE
from medloop.documents.metadata import MAX_VALUE, encode
from medloop.errors import DataError
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

MANIFEST = "manifest.json"
"""The file in a data set's folder that says it is complete, written last; its content is no data."""
NO_DATA = frozenset({MANIFEST, CARD_FILE})
"""Files in a data set's folder that aren't data."""
_MARKER = re.compile(r"\.content-(?P<number>\d+)-(?P<bytes>\d+)-(?P<digest>[0-9a-f]{64})")


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


def content_marker(sizes: Mapping[str, int], digests: Mapping[str, str]) -> str:
    """Return the name of the empty object that an upload ends with: number, bytes and a digest of all files.

    Args:
        sizes: Bytes by the file's key, relative to the data set's prefix.
        digests: SHA-256 of each file.
    """
    lines = "".join(sorted(f"{name}\t{digests[name]}\n" for name in sizes))
    return f".content-{len(sizes)}-{sum(sizes.values())}-{hashlib.sha256(lines.encode()).hexdigest()}"


def data_version(s3: S3Client, uri: str) -> str | None:
    """A digest of the objects under a prefix: their content's, if an upload noted it, else that of the listing.

    The listing's is SHA-256 over sorted keys (relative to the prefix), sizes and ETags. Under SSE-KMS the same bytes
    get other ETags at each upload, so `medloop data upload` notes a digest of the content in the name of an empty
    object. It counts if it is the newest of all, and the objects are as many and as large as it says.

    Two files don't count: the arrival's manifest, which may come again with the same data, and the model card, from
    which no model is trained.

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
    objects = {o["Key"].removeprefix(prefix): o for page in pages for o in page.get("Contents", [])}
    markers = {name: o for name, o in objects.items() if _MARKER.fullmatch(name)}
    data = {name: o for name, o in objects.items() if name not in NO_DATA and name not in markers}
    if (noted := _noted_content(markers, data)) is not None:
        return noted
    lines = [f"{name}\t{o['Size']}\t{o['ETag']}\n" for name, o in data.items()]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest() if lines else None


def _noted_content(markers: Mapping[str, ObjectTypeDef], data: Mapping[str, ObjectTypeDef]) -> str | None:
    """The digest in the newest marker's name; None if the objects are others, or newer, than those it was made for."""
    if not markers or not data:
        return None
    newest = max(markers, key=lambda name: (markers[name]["LastModified"], name))
    match = _MARKER.fullmatch(newest)
    assert match is not None  # noqa: S101 (markers are what matches)
    sizes = [o["Size"] for o in data.values()]
    is_same = (int(match["number"]), int(match["bytes"])) == (len(sizes), sum(sizes))
    is_newest = all(o["LastModified"] <= markers[newest]["LastModified"] for o in data.values())
    return match["digest"] if is_same and is_newest else None

"""Rules for the name of an execution's InputData, and the DataVersion of the data in it.

One answer for `medloop run` and for the guard of scheduled starts (infra/scheduling), whose function's runtime brings
boto3 and nothing else: standard library only, clients are handed in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
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


def content_marker(files: Iterable[tuple[str, int, str]]) -> str:
    """Return the name of the empty object that an upload ends with: number, bytes and a digest of all files.

    Args:
        files: Key of each file, relative to the data set's prefix, its bytes, and its SHA-256.
    """
    lines, num_bytes = [], 0
    for name, size, digest in files:
        lines.append(f"{name}\t{digest}\n")
        num_bytes += size
    return f".content-{len(lines)}-{num_bytes}-{_digest_of_lines(lines)}"


def _digest_of_lines(lines: list[str]) -> str:
    """SHA-256 over the lines, which are sorted in place: there may be a million."""
    digest = hashlib.sha256()
    lines.sort()
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


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
    markers: dict[str, datetime] = {}
    data, num_bytes, newest = [], 0, None
    for listed in (o for page in pages for o in page.get("Contents", [])):
        name, modified = listed["Key"].removeprefix(prefix), listed["LastModified"]
        if _MARKER.fullmatch(name):
            markers[name] = modified
        elif name not in NO_DATA:
            data.append(f"{name}\t{listed['Size']}\t{listed['ETag']}\n")
            num_bytes += listed["Size"]
            newest = modified if newest is None else max(newest, modified)
    if newest is None:
        return None
    return _noted_content(markers, (len(data), num_bytes), newest) or _digest_of_lines(data)


def _noted_content(markers: Mapping[str, datetime], size: tuple[int, int], newest: datetime) -> str | None:
    """The digest in the newest marker's name; None if the objects are others, or newer, than those it was made for.

    Args:
        markers: Time of each marker.
        size: Number and bytes of the objects.
        newest: The objects' last time of change.
    """
    if not markers:
        return None
    name = max(markers, key=lambda name: (markers[name], name))
    match = _MARKER.fullmatch(name)
    assert match is not None  # noqa: S101 (markers are what matches)
    is_same = (int(match["number"]), int(match["bytes"])) == size
    return match["digest"] if is_same and newest <= markers[name] else None

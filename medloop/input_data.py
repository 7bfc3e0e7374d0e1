"""What an execution's InputData may be called, and the DataVersion of what lies there.

One answer for `medloop run` and for the guard of scheduled starts (infra/scheduling), whose function's runtime brings
boto3 and nothing else: standard library only, clients are handed in.
"""

from __future__ import annotations

import hashlib
from typing import Any

from medloop.documents.metadata import MAX_VALUE, encode
from medloop.errors import DataError, UserError

MANIFEST = "manifest.json"
"""The file in a data set's folder that says it is complete, written last; no data, whatever is in it."""


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


def data_version(s3: Any, uri: str) -> str | None:
    """A digest of what lies under a prefix: SHA-256 over sorted keys (relative to it), sizes and ETags.

    The arrival's manifest doesn't count: it may come again with the same data (under KMS with another ETag each time).

    Args:
        s3: S3 client.
        uri: `s3://bucket/prefix`, with or without a slash at the end.

    Returns:
        64 hexadecimal digits; None where no data lie there.

    Raises:
        UserError: It is no such address.
    """
    bucket, prefix = _bucket_and_prefix(uri)
    prefix = prefix.rstrip("/") + "/" if prefix else ""
    lines: list[str] = []
    token = None
    while True:
        more: dict[str, str] = {"ContinuationToken": token} if token else {}
        answer = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, **more)
        listing = answer.get("Contents", [])
        named = [(o["Key"].removeprefix(prefix), o) for o in listing]
        lines += [f"{name}\t{o['Size']}\t{o['ETag']}\n" for name, o in named if name != MANIFEST]
        if not (token := answer.get("NextContinuationToken")):
            break
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest() if lines else None


def _bucket_and_prefix(uri: str) -> tuple[str, str]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise UserError(f"{uri!r} is no s3://bucket/prefix address")
    return bucket, prefix

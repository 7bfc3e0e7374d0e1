"""Objects of the target's store, read or fetched as files of this computer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from medloop.cloud.target import Target


def read_object(target: Target, uri: str) -> bytes:
    """The content of an object."""
    bucket, key = split_s3_uri(uri)
    return bytes(target.boto.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())


def sibling(uri: str, name: str) -> str:
    """URI of the object with this name in the same folder."""
    return f"{uri.rsplit('/', 1)[0]}/{name}"


def local_path(target: Target, home: Path, uri: str) -> Path:
    """An object as a file of this computer, fetched unless it is one already.

    Raises:
        UserError: There is no such object.
    """
    bucket, key = split_s3_uri(uri)
    stored = home / "s3" / bucket / key
    if target.name == "local" and stored.is_file():
        return stored
    copy = home / "fetched" / bucket / key
    content = read_object(target, uri)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(content)
    return copy


def digest_of(content: bytes) -> str:
    """SHA-256 as the registry stores it: `sha256:<hexadecimal>`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"

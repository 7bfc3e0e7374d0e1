"""Upload of a data set, so that its DataVersion follows the files' content, however S3 encrypts them.

Under SSE-KMS the same bytes get another ETag at each upload, and the step cache would train again. So the upload ends
with an empty object whose name is a digest of all files (`medloop.input_data.content_marker`): a role that may
list the prefix, and read no image, knows the content. `manifest.json` comes last of all: it starts the retraining of
a deployed stack.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medloop.errors import DataError, UserError
from medloop.input_data import MANIFEST, NO_DATA, content_marker, data_version, recordable
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WORKERS = 8
"""Files that are read and sent at once."""


@dataclass(frozen=True)
class Upload:
    """A data set as it is on S3 after an upload.

    Args:
        uri: Its prefix, with a slash at the end.
        num_files: Files of the folder.
        num_bytes: Their size.
        version: DataVersion.
        by_content: False if DataVersion depends on ETags, because other objects are below the prefix.
    """

    uri: str
    num_files: int
    num_bytes: int
    version: str
    by_content: bool


def upload_data(s3: S3Client, folder: Path, uri: str) -> Upload:
    """Upload a folder's files, except hidden ones, then the marker of their content, then `manifest.json`.

    Args:
        s3: S3 client.
        folder: The data set.
        uri: `s3://bucket/prefix`.

    Raises:
        DataError: The folder has no files, or a version couldn't record the prefix.
        UserError: It is no S3 URI.
    """
    uri = recordable(uri.rstrip("/") + "/")
    bucket, prefix = split_s3_uri(uri)
    files = _files(folder)
    if not files:
        raise DataError(f"{folder}: has no files; give the folder of a data set")
    if not prefix:
        raise UserError(f"{uri}: is a whole bucket; give a prefix, such as {uri}raw/segmentation/spleen/")
    with ThreadPoolExecutor(WORKERS) as pool:
        digests = dict(zip(files, pool.map(_digest, files.values()), strict=True))
        sent = pool.map(lambda name: s3.upload_file(str(files[name]), bucket, prefix + name), files)
        for _ in sent:  # raises the first failure
            pass
    data = {name: path.stat().st_size for name, path in files.items() if name not in NO_DATA}
    marker = content_marker(data, digests)
    s3.put_object(Bucket=bucket, Key=prefix + marker, Body=b"")
    s3.put_object(Bucket=bucket, Key=prefix + MANIFEST, Body=json.dumps({"content": marker}).encode())
    version = data_version(s3, uri)
    assert version is not None  # noqa: S101 (the folder has files)
    return Upload(uri, len(files), sum(data.values()), version, by_content=marker.endswith(version))


def _files(folder: Path) -> Mapping[str, Path]:
    """The folder's files by relative path, sorted; hidden files and folders, and an older manifest, are left out."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {path.relative_to(folder): path for path in paths}
    return {
        name.as_posix(): path
        for name, path in named.items()
        if name.as_posix() != MANIFEST and not any(part.startswith(".") for part in name.parts)
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Upload of a data set, so that its DataVersion follows the files' content, however S3 encrypts them.

Under SSE-KMS the same bytes get another ETag at each upload, and the step cache would train again. So the upload ends
with an empty object whose name is a digest of all files (`medloop.input_data.content_marker`): a role that may
list the prefix, and read no image, knows the content. `manifest.json` comes last of all: it starts the retraining of
a deployed stack.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from medloop.errors import DataError, UserError
from medloop.input_data import MANIFEST, NO_DATA, content_marker, data_version, recordable
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WORKERS = 8
"""Files that are read and sent at once."""
_BATCH = 256 * WORKERS
Result = TypeVar("Result")


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
        digests = b"".join(_in_batches(pool, lambda name: _digest(folder / name), files))
        for _ in _in_batches(pool, lambda name: s3.upload_file(str(folder / name), bucket, prefix + name), files):
            pass  # the first failure is raised
    named = ((name, digests[32 * row : 32 * row + 32].hex()) for row, name in enumerate(files))
    marker = content_marker(
        (name, (folder / name).stat().st_size, digest) for name, digest in named if name not in NO_DATA
    )
    s3.put_object(Bucket=bucket, Key=prefix + marker, Body=b"")
    s3.put_object(Bucket=bucket, Key=prefix + MANIFEST, Body=json.dumps({"content": marker}).encode())
    version = data_version(s3, uri)
    assert version is not None  # noqa: S101 (the folder has files)
    return Upload(uri, len(files), int(marker.split("-")[2]), version, by_content=marker.endswith(version))


def _files(folder: Path) -> list[str]:
    """The folder's files by relative path, sorted; hidden files and folders, and an older manifest, are left out."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    shown = (name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))
    return sorted(name for name in shown if name != MANIFEST)


def _in_batches(pool: ThreadPoolExecutor, function: Callable[[str], Result], names: Sequence[str]) -> Iterator[Result]:
    """Apply a function in threads; only a batch's calls are in memory."""
    for start in range(0, len(names), _BATCH):
        yield from pool.map(function, names[start : start + _BATCH])


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()

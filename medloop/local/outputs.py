"""What a job left, put into the object store: moved where it can be, packed where SageMaker packs it."""

from __future__ import annotations

import gzip
import os
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from medloop.local.backend import Backend
from medloop.local.objects import split_uri
from medloop.local.staging import Folder
from medloop.local.store import Document

_MAX_TEXT = 1024


def store_training(backend: Backend, job: Document, folder: Folder) -> str:
    """Pack the model (and output/data when it holds anything); returns the model archive's S3 URI."""
    bucket, prefix = split_uri(f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/output")
    data = folder.ml / "output" / "data"
    if not is_empty(data):
        _pack(backend, data, bucket, f"{prefix}/output.tar.gz")
    _pack(backend, folder.ml / "model", bucket, f"{prefix}/model.tar.gz")
    return f"s3://{bucket}/{prefix}/model.tar.gz"


def is_empty(folder: Path) -> bool:
    """Whether a folder holds no file, or doesn't exist."""
    return not any(_files(folder))


def store_processing(backend: Backend, job: Document, folder: Folder) -> None:
    """Move the files of every output below its S3 URI."""
    for output in job.get("ProcessingOutputConfig", {}).get("Outputs") or []:
        bucket, prefix = split_uri(output["S3Output"]["S3Uri"].rstrip("/"))
        source = folder.local(output["S3Output"]["LocalPath"])
        for file in list(_files(source)):
            key = f"{prefix}/{file.relative_to(source).as_posix()}".lstrip("/")
            if file.is_symlink():  # what it points to is the user's, or the store's: copied, never moved
                with file.open("rb") as body:
                    backend.objects.put(bucket, key, body)
            else:
                backend.objects.adopt(bucket, key, file)


def read_text(path: Path) -> str:
    """What a job said in its failure or message file, as far as the service shows it; empty when it said nothing."""
    try:
        with path.open("rb") as file:
            return file.read(4 * _MAX_TEXT).decode("utf-8", errors="replace").strip()[:_MAX_TEXT]
    except OSError:
        return ""


def _files(folder: Path) -> Iterator[Path]:
    """Regular files (or links to some) below a folder, in the order of their names."""
    for directory, folders, names in os.walk(folder):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(directory) / name).is_file())


def _pack(backend: Backend, source: Path, bucket: str, key: str) -> None:
    """Pack a folder as a tar.gz whose bytes depend on names and contents only."""
    temporary = backend.home.folder("tmp") / uuid.uuid4().hex
    try:
        # Weights hardly compress, so the fastest level loses nothing.
        with (
            temporary.open("xb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=1, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in _files(source):
                member = tarfile.TarInfo(path.relative_to(source).as_posix())
                member.size, member.mode = path.stat().st_size, 0o644
                with path.open("rb") as file:
                    archive.addfile(member, file)
        backend.objects.adopt(bucket, key, temporary)
    finally:
        temporary.unlink(missing_ok=True)

"""What a job left, put into the object store: moved where it can be, packed where SageMaker packs it."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from medloop.local.jobs.jobs import STORED
from medloop.local.jobs.staging import Folder
from medloop.local.state.backend import Backend
from medloop.local.state.objects import Object, split_uri
from medloop.local.state.store import Document

_MAX_TEXT = 1024


def store_training(backend: Backend, job: Document, folder: Folder) -> str:
    """Pack the model (and output/data when it holds anything); returns the model archive's S3 URI."""
    bucket, prefix = split_uri(f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/output")
    sources = {"output": folder.ml / "output" / "data", "model": folder.ml / "model"}
    if is_empty(sources["output"]):
        del sources["output"]
    store_files(
        backend,
        folder,
        [(bucket, f"{prefix}/{name}.tar.gz", _pack(folder, source)) for name, source in sources.items()],
    )
    return f"s3://{bucket}/{prefix}/model.tar.gz"


def is_empty(folder: Path) -> bool:
    """Whether a folder holds no file, or doesn't exist."""
    return not any(_files(folder))


def store_processing(backend: Backend, job: Document, folder: Folder) -> None:
    """Move the files of every output below its S3 URI."""
    planned: list[tuple[str, str, Path]] = []
    for output in job.get("ProcessingOutputConfig", {}).get("Outputs") or []:
        bucket, prefix = split_uri(output["S3Output"]["S3Uri"].rstrip("/"))
        source = folder.local(output["S3Output"]["LocalPath"])
        planned += [
            (bucket, f"{prefix}/{file.relative_to(source).as_posix()}".lstrip("/"), file) for file in _files(source)
        ]
    store_files(backend, folder, planned)


def store_files(backend: Backend, folder: Folder, planned: list[tuple[str, str, Path]]) -> None:
    """Store files under buckets and keys; which ones is written down first (see `jobs.withdraw`)."""
    stamps = [(bucket, key, Object.at(bucket, key, file).stamp) for bucket, key, file in planned]
    (folder.root / STORED).write_text(json.dumps(stamps), encoding="utf-8")
    for bucket, key, file in planned:
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


def _pack(folder: Folder, source: Path) -> Path:
    """Pack a folder as a tar.gz, in the job's own, whose bytes depend on names and contents only."""
    target = folder.root / f"{uuid.uuid4().hex}.tar.gz"
    # Weights hardly compress, so the fastest level loses nothing.
    with (
        target.open("xb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in _files(source):
            member = tarfile.TarInfo(path.relative_to(source).as_posix())
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                archive.addfile(member, file)
    return target

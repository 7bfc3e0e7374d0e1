"""The outputs of a job on their way into the object store: moved if possible, packed if SageMaker packs them."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from medloop.documents.file_names import ARCHIVE_FILE
from medloop.local.jobs.job import STORED, Job
from medloop.local.state.objects import split_uri
from medloop.local.state.store import Document
from medloop.local.state.stored_object import Object

_MAX_TEXT = 1024


def store_training(job: Job, document: Document) -> str:
    """Pack the model (and output/data unless it is empty); returns the model archive's S3 URI."""
    bucket, prefix = split_uri(f"{document['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job.name}/output")
    ml = job.folder.ml
    sources = {"output": ml / "output" / "data", "model": ml / "model"}
    if is_empty(sources["output"]):
        del sources["output"]
    packed = [(bucket, f"{prefix}/{name}.tar.gz", _pack(source, job.folder.root)) for name, source in sources.items()]
    store_files(job, packed)
    return f"s3://{bucket}/{prefix}/{ARCHIVE_FILE}"


def is_empty(folder: Path) -> bool:
    """True if a folder contains no file, or doesn't exist."""
    return not any(_files(folder))


def store_processing(job: Job, document: Document) -> None:
    """Move the files of every output below its S3 URI."""
    planned: list[tuple[str, str, Path]] = []
    for output in document.get("ProcessingOutputConfig", {}).get("Outputs") or []:
        bucket, prefix = split_uri(output["S3Output"]["S3Uri"].rstrip("/"))
        source = job.folder.local(output["S3Output"]["LocalPath"])
        planned += [
            (bucket, f"{prefix}/{file.relative_to(source).as_posix()}".lstrip("/"), file) for file in _files(source)
        ]
    store_files(job, planned)


def store_files(job: Job, planned: list[tuple[str, str, Path]]) -> None:
    """Store files under buckets and keys; which ones is written down first (see `Job.withdraw_outputs`)."""
    fingerprints = [(bucket, key, Object.at(bucket, key, file).fingerprint) for bucket, key, file in planned]
    (job.folder.root / STORED).write_text(json.dumps(fingerprints), encoding="utf-8")
    objects = job.backend.objects
    for bucket, key, file in planned:
        if file.is_symlink():  # its target belongs to the user or to the store: copied, never moved
            with file.open("rb") as body:
                objects.put(bucket, key, body)
        else:
            objects.adopt(bucket, key, file)


def read_text(path: Path) -> str:
    """The text of a job's failure or message file, as much as the service shows; empty if there is none."""
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


def _pack(source: Path, folder: Path) -> Path:
    """Pack a folder as a tar.gz in another one; its bytes depend on names and contents only."""
    target = folder / f"{uuid.uuid4().hex}.tar.gz"
    # Weights compress by 7 % only, and the fastest level takes 2 s of CPU time for 50 MB: they are stored as they are.
    with (
        target.open("xb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=0, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in _files(source):
            member = tarfile.TarInfo(path.relative_to(source).as_posix())
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                archive.addfile(member, file)
    return target

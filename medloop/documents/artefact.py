"""Digests that bind a version to its model: in its metadata, of the artefact and of the files that are served.

Two digests, as the archive and its files are never in one place: S3 has model.tar.gz, and hosting unpacks it before the
container starts. Standard library only: functions import it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from medloop.documents.file_names import MODEL_FILE, WEIGHTS_FILE
from medloop.documents.metadata import decoded

ARTEFACT_DIGEST = "artefact_digest"
"""Metadata: SHA-256 of model.tar.gz."""
MODEL_DIGEST = "model_digest"
"""Metadata: `digest_of_model` of the unpacked model."""
IMAGE = "image"
"""Metadata: the serving image that was registered."""
MODEL_DIGEST_VARIABLE = "MEDLOOP_MODEL_SHA256"
"""Environment variable of a serving container: the digest that its model must have."""
SERVED_FILES = (MODEL_FILE, WEIGHTS_FILE)
"""The only files of a model that a container reads."""
NOT_RECORDED = ("", "none")
_CHUNK_BYTES = 1 << 20


class Readable(Protocol):
    """An open file, or the body of an S3 response."""

    def read(self, size: int, /) -> bytes:
        """Read at most so many bytes."""


def digest_of_stream(stream: Readable) -> str:
    """SHA-256 of the rest of a stream, as the registry stores it: `sha256:<hexadecimal>`."""
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def digest_of_model(folder: Path) -> str:
    """SHA-256 over one line `<name> <bytes> <digest>` for each of the served files, in the order of their names.

    Other files of the folder change nothing: none is read, and hosting may add some.

    Raises:
        OSError: A file can't be read.
    """
    lines = []
    for name in sorted(SERVED_FILES):
        with (folder / name).open("rb") as file:
            lines.append(f"{name} {(folder / name).stat().st_size} {digest_of_stream(file)}\n")
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def recorded_digest(package: Mapping[str, Any], name: str) -> str:
    """A digest in the metadata of DescribeModelPackage's response; "" for a version that was registered without it."""
    value = decoded(package.get("CustomerMetadataProperties")).get(name, "")
    return "" if value in NOT_RECORDED else value


def environment_of(package: Mapping[str, Any]) -> dict[str, str]:
    """The variable with which a version's containers check their model; none for a version without a digest."""
    digest = recorded_digest(package, MODEL_DIGEST)
    return {MODEL_DIGEST_VARIABLE: digest} if digest else {}


def changed_image(package: Mapping[str, Any]) -> str:
    """The reason for which a version's container isn't the one that was registered; "" if it is, or isn't recorded."""
    registered = decoded(package.get("CustomerMetadataProperties")).get(IMAGE, "")
    containers = package.get("InferenceSpecification", {}).get("Containers") or []
    images = [str(container.get("Image")) for container in containers]
    if not registered or images == [registered]:
        return ""
    return f"it names the image {', '.join(images) or 'none'}, and {registered} was registered: it was changed since"

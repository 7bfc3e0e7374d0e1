"""A job's input channels: links to the stored objects that a prefix or a manifest names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from medloop.local.errors import ServiceError, StagingError
from medloop.local.state.backend import Backend
from medloop.local.state.home import REGION
from medloop.local.state.objects import split_uri
from medloop.local.state.store import Document
from medloop.local.state.stored_object import Object


def link_inputs(backend: Backend, source: Document, folder: Path) -> set[Path]:
    """Link the objects of a channel below a folder; returns the folders that their files are in.

    Args:
        backend: The backend.
        source: The channel's S3 part: S3Uri and S3DataType (S3Prefix or ManifestFile).
        folder: Made where it doesn't exist.

    Raises:
        StagingError: There are no objects, or they can't be laid out as files.
    """
    uri, kind = source["S3Uri"], source["S3DataType"]
    list_objects = {"S3Prefix": _objects_of_prefix, "ManifestFile": _objects_of_manifest}.get(kind)
    if list_objects is None:
        raise StagingError(f"S3DataType {kind} of {uri} must be S3Prefix or ManifestFile on the local backend")
    stored = _Stored()
    made: set[Path] = set()
    for path, item in list_objects(backend, uri):
        link = folder / path
        if link.parent not in made:
            link.parent.mkdir(parents=True, exist_ok=True)
            made.add(link.parent)
        try:
            link.symlink_to(stored.real(item.path))
        except FileExistsError:
            path_text = f": {link.relative_to(folder)}" if kind == "S3Prefix" else ""
            raise StagingError(f"two objects under {uri} have the same path{path_text}") from None
    if not made:
        raise StagingError(
            f'Data download failed:No S3 objects found under S3 URL "{uri}" given in input data source. '
            f"Please ensure that the bucket exists in the selected region ({REGION}) and that objects exist under it"
        )
    return stored.folders


class _Stored:
    """Stored files without links in their paths; each folder is resolved once."""

    def __init__(self) -> None:
        self.resolved: dict[Path, str] = {}
        self.folders: set[Path] = set()

    def real(self, path: Path) -> str:
        """A file's path without links."""
        if path.parent not in self.resolved:
            self.resolved[path.parent] = os.path.realpath(path.parent)
            self.folders.add(path.parent)
        real = os.path.join(self.resolved[path.parent], path.name)
        if os.path.islink(real):
            real = os.path.realpath(real)
            self.folders.add(Path(os.path.dirname(real)))
        return real


def _objects_of_prefix(backend: Backend, uri: str) -> Iterator[tuple[str, Object]]:
    bucket, prefix = split_uri(uri)
    return ((_relative(item.key, prefix), item) for item in backend.objects.walk(bucket, prefix))


def _relative(key: str, prefix: str) -> str:
    """An object's path in the channel: below a folder's prefix, else its name after the prefix's last slash."""
    if key.startswith(prefix.rstrip("/") + "/"):
        return key[len(prefix.rstrip("/")) + 1 :]
    return key[prefix.rfind("/") + 1 :]


def _objects_of_manifest(backend: Backend, uri: str) -> Iterator[tuple[str, Object]]:
    """The objects that a manifest lists: `[{"prefix": "s3://b/p/"}, "a.png", ...]`, each at its name after the prefix.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3DataSource.html (S3Uri).
    """
    try:
        document = backend.objects.read_json(uri)
    except (ServiceError, ValueError) as error:
        raise StagingError(f"Data download failed:the manifest {uri} can't be read: {error}") from error
    if not _is_manifest(document):
        raise StagingError(f'Data download failed:the manifest {uri} must be [{{"prefix": "s3://..."}}, "name", ...]')
    bucket, prefix = split_uri(document[0]["prefix"])
    for index, name in enumerate(document[1:], 1):  # a name may be a patient's: entries are reported by number
        if ".." in name.split("/") or name.startswith("/"):
            raise StagingError(f"Data download failed:entry {index} of the manifest {uri} leaves its folder")
        try:
            yield name, backend.objects.head(bucket, prefix + name)
        except ServiceError:
            raise StagingError(f"Data download failed:no object is at entry {index} of the manifest {uri}") from None


def _is_manifest(document: object) -> bool:
    if not isinstance(document, list) or not document or not isinstance(document[0], dict):
        return False
    prefix = document[0].get("prefix")
    return isinstance(prefix, str) and prefix.startswith("s3://") and all(isinstance(n, str) for n in document[1:])

"""S3's objects as files: `s3://bucket/key` is `<home>/s3/bucket/key`.

Prefixes are key prefixes, as in S3: `a/b` names `a/b/c` and `a/bc` alike. A user's folder is registered by reference: a
symbolic link below the bucket, through which its files are objects that can be listed and read but never written.

Two things differ from S3, because the objects are files: a key can't be below another object's key, and key
parts that are empty, `.` or `..` are refused. An object's ETag is the MD5 of its content, however it was uploaded.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from medloop.cloud.layout import PSEUDONYM_KEY
from medloop.documents.file_names import IMPORT_FOLDER
from medloop.documents.json_text import MAX_BYTES, read_json
from medloop.errors import DataError, UserError, printable
from medloop.local.errors import ServiceError
from medloop.local.state.database import private_mode
from medloop.local.state.etag_index import EtagIndex
from medloop.local.state.home import BUCKET, Home
from medloop.local.state.store import Store
from medloop.local.state.stored_object import Object
from medloop.s3_uri import split_s3_uri

_CHUNK = 1 << 20
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key (possibly empty) of an `s3://` URI.

    Raises:
        ServiceError: Not an S3 URI.
    """
    try:
        return split_s3_uri(uri)
    except UserError as error:
        raise ServiceError("ValidationException", str(error)) from None


class Objects:
    """All buckets below a home.

    Args:
        home: The home with the buckets.
        store: The store of the home's records.
    """

    def __init__(self, home: Home, store: Store) -> None:
        self.home = home
        self.store = store
        self.index = EtagIndex(home, store)
        self.paused_listings: dict[tuple[str, ...], Iterator[Any]] = {}
        """The rest of the listing that was paged last, by bucket, prefix, delimiter and continuation token."""

    def bucket(self, name: str) -> Path:
        """The folder of a bucket; the local bucket always exists.

        Raises:
            ServiceError: NoSuchBucket.
        """
        if name == BUCKET:
            return self.home.folder("s3", BUCKET)
        if not _BUCKET_NAME.fullmatch(name) or not (self.home.buckets / name).is_dir():
            raise ServiceError("NoSuchBucket", f"The specified bucket does not exist: {name}", 404)
        return self.home.buckets / name

    def create_bucket(self, name: str) -> None:
        """Make a bucket; one that exists stays."""
        if not _BUCKET_NAME.fullmatch(name):
            raise ServiceError("InvalidBucketName", f"The specified bucket is not valid: {name}")
        self.home.folder("s3", name)

    def path(self, bucket: str, key: str) -> Path:
        """The file of a key, whether or not it exists; never outside the bucket.

        Raises:
            ServiceError: NoSuchBucket, or InvalidRequest for a key that can't be a file's path.
        """
        parts = key.split("/")
        if "\0" in key or any(part in ("", ".", "..") for part in parts):
            raise ServiceError("InvalidRequest", f"The local backend can't store '{key}': a part is empty, . or ..")
        return self.bucket(bucket).joinpath(*parts)

    def head(self, bucket: str, key: str) -> Object:
        """The object under a key.

        Raises:
            ServiceError: NoSuchKey.
        """
        path = self.path(bucket, key)
        with suppress(OSError):  # a name too long for the file system can't have been put either
            if path.is_file():
                return Object.at(bucket, key, path)
        raise ServiceError("NoSuchKey", f"The specified key does not exist: {key}", 404)

    def walk(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[Object]:
        """The objects whose keys begin with prefix and come after a key, in S3's order (the bytes of the key)."""
        root = self.bucket(bucket)
        folder, _, stem = prefix.rpartition("/")
        if folder and any(part in ("", ".", "..") for part in folder.split("/")):
            return
        base = root / folder if folder else root
        # The home itself is no data, even if it is in a folder registered by reference.
        hidden = frozenset({os.path.realpath(self.home.root)})
        for key, path in _walk(base, f"{folder}/" if folder else "", stem, hidden, os.fsencode(after)):
            with suppress(FileNotFoundError):  # deleted since it was found
                yield Object.at(bucket, key, path)

    def etags(self, objects: Iterable[Object]) -> dict[str, str]:
        """ETag by key; a file is read again only if its state has changed."""
        return self.index.etags(list(objects))

    def put(self, bucket: str, key: str, body: BinaryIO | bytes, *, if_absent: bool = False) -> str:
        """Store an object at once or not at all; returns its ETag.

        Args:
            bucket: An existing bucket.
            key: The object's key.
            body: Its content.
            if_absent: Refuse with PreconditionFailed when the key exists (S3's `If-None-Match: *`).
        """
        path = self._writable(bucket, key)
        temporary = self.home.folder("tmp") / uuid.uuid4().hex
        self.store.create()
        try:
            etag = _write(temporary, body)
            if key == PSEUDONYM_KEY:
                temporary.chmod(private_mode(self.home.root.stat().st_mode))
            with temporary.open("rb") as written:  # another writer may replace the path, never this file
                _rename(temporary, path, key, if_absent=if_absent)
                temporary.unlink(missing_ok=True)
                self.index.put(Object(bucket, key, path, os.fstat(written.fileno())), etag)
        finally:
            temporary.unlink(missing_ok=True)
        return etag

    def adopt(self, bucket: str, key: str, file: Path) -> None:
        """Move a file into the store (a copy if it is on another file system)."""
        path = self._writable(bucket, key)
        try:
            _rename(file, path, key, if_absent=False)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with file.open("rb") as body:
                self.put(bucket, key, body)

    def read(self, uri: str) -> bytes:
        """The content of the object at an S3 URI. Raises ServiceError NoSuchKey."""
        return self.head(*split_uri(uri)).path.read_bytes()

    def read_json(self, uri: str) -> Any:
        """The value of the JSON object at an S3 URI. Raises ServiceError NoSuchKey, JsonError."""
        return read_json(self.head(*split_uri(uri)).path, MAX_BYTES)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; a key that doesn't exist is deleted already, as in S3."""
        path = self._writable(bucket, key)
        if not path.is_file():
            return
        path.unlink(missing_ok=True)
        for parent in path.relative_to(self.bucket(bucket)).parents[:-1]:
            try:
                (self.bucket(bucket) / parent).rmdir()
            except OSError:
                return

    def withdraw(self, bucket: str, key: str, fingerprint: str) -> None:
        """Delete an object that still is the file with this fingerprint; any other under its key stays."""
        with suppress(ServiceError):
            if self.head(bucket, key).fingerprint == fingerprint:
                self.delete(bucket, key)

    def folder(self, bucket: str, prefix: str) -> Path:
        """The stored folder of a prefix, made when missing (a job's checkpoints live in it)."""
        path = self._writable(bucket, prefix.strip("/"))
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _writable(self, bucket: str, key: str) -> Path:
        path = self.path(bucket, key)
        root = self.bucket(bucket)
        for parent in (path, *path.parents):
            if parent == root:
                return path
            if parent.is_symlink():
                raise ServiceError("AccessDenied", f"s3://{bucket}/{key} is a folder of the user: it is read-only", 403)
        raise AssertionError(f"{path} is outside {root}")


def reference(home: Home, folder: Path) -> str:
    """Register a user's folder by reference: its files become objects that are read in place and can't be written.

    Args:
        home: The local backend's home.
        folder: An existing folder.

    Returns:
        The S3 URI under which its files are found; the same folder always has the same one.

    Raises:
        DataError: Not a folder.
    """
    target = folder.expanduser().absolute()
    if not target.is_dir():
        raise DataError(f"{folder}: is not a folder; name the folder with the data")
    plain = unicodedata.normalize("NFKD", target.resolve().name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40] or "data"
    name = f"{slug}-{hashlib.sha256(os.fsencode(target.resolve())).hexdigest()[:8]}"
    link = home.folder("s3", BUCKET, "data") / name
    if not link.is_symlink():
        temporary = home.folder("tmp") / uuid.uuid4().hex
        temporary.symlink_to(target.resolve(), target_is_directory=True)
        temporary.replace(link)
    return f"s3://{BUCKET}/data/{name}"


def _walk(base: Path, prefix: str, stem: str, above: frozenset[str], after: bytes) -> Iterator[tuple[str, Path]]:
    """Files below base whose names begin with stem, with their keys, in the order of the keys' bytes.

    Links are followed, never in a circle. Folders whose keys all come before `after` aren't read, so that each page of
    a long listing takes the time of a page.
    """
    real = os.path.realpath(base)
    if real in above or not base.is_dir():
        return
    for key, entry in _entries(base, prefix, stem):
        if entry.is_dir():
            if entry.name == IMPORT_FOLDER:
                continue
            below = os.fsencode(f"{key}/")
            if below > after or after.startswith(below):
                yield from _walk(Path(entry.path), f"{key}/", "", above | {real}, after)
        elif os.fsencode(key) > after and entry.is_file():
            yield key, Path(entry.path)


def _entries(base: Path, prefix: str, stem: str) -> list[tuple[str, os.DirEntry[str]]]:
    """A folder's entries with their keys; a folder's key sorts as the keys below it."""
    with os.scandir(base) as entries:
        keyed = [(f"{prefix}{entry.name}", entry) for entry in entries if entry.name.startswith(stem)]
    for _, entry in keyed:
        _require_utf8(entry.name)
    return sorted(keyed, key=lambda pair: os.fsencode(f"{pair[1].name}/" if pair[1].is_dir() else pair[1].name))


def _require_utf8(name: str) -> None:
    """Refuse what can't be a part of a key.

    Raises:
        DataError: The name of a file or folder of the user is not in UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{printable(name)}: its name is not in UTF-8, and keys in S3 must be; rename it") from None


def _write(path: Path, body: BinaryIO | bytes) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("xb") as file:
        for chunk in [body] if isinstance(body, bytes | bytearray) else iter(lambda: body.read(_CHUNK), b""):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _rename(file: Path, path: Path, key: str, *, if_absent: bool) -> None:
    """Rename a finished file to its key; the folder may vanish in the meantime, when its last object is deleted."""
    for attempt in range(10):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if if_absent:
                os.link(file, path)
            else:
                os.replace(file, path)
        except FileNotFoundError:
            if attempt == 9 or not file.exists():
                raise
        except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            raise _taken(error, path, key) from error
        else:
            return


def _taken(error: OSError, path: Path, key: str) -> ServiceError:
    if path.is_file():
        return ServiceError("PreconditionFailed", f"At least one of the pre-conditions did not hold: {key} exists", 412)
    return ServiceError("InvalidRequest", f"The local backend can't store '{key}' next to a key that it is a part of")

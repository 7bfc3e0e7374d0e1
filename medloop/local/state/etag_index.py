"""ETags of files that were read before, so that an unchanged data set isn't read again.

The index contains no file name: a row's key is a keyed hash of the path. The key is a file of the home.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile

from medloop.errors import TargetError
from medloop.file_state import is_settled
from medloop.local.state.home import Home
from medloop.local.state.store import Document, Store, Table
from medloop.local.state.stored_object import Object

_KEY_BYTES = 32


class EtagIndex:
    """The ETags of a home's files.

    Args:
        home: The home with the key.
        store: The store with the index.
    """

    def __init__(self, home: Home, store: Store) -> None:
        self.home = home
        self.store = store

    def etags(self, objects: Sequence[Object]) -> dict[str, str]:
        """ETag by key: the MD5 of a file's content. A file whose state is the recorded one isn't read."""
        if not objects:
            return {}
        rows = {item.key: self._row(item.path) for item in objects}
        with self.store.read() as read:
            known = read.get_many(Table.ETAGS, list(rows.values()))
        etags, fresh = {}, {}
        for item in objects:
            record = known.get(rows[item.key], {})
            if record.get("state") == item.state:
                etags[item.key] = record["etag"]
                continue
            etags[item.key] = _digest(item.path)
            if is_settled(item.status):
                fresh[rows[item.key]] = {"state": item.state, "etag": etags[item.key]}
        self._put(fresh)
        return etags

    def put(self, item: Object, etag: str) -> None:
        """Record the ETag of an object whose content was just written."""
        self._put({self._row(item.path): {"state": item.state, "etag": etag}})

    def _put(self, records: dict[str, Document]) -> None:
        if records:
            with suppress(TargetError), self.store.write() as write:  # a home that can't be written has no new ETags
                for row, record in records.items():
                    write.put(Table.ETAGS, row, record)

    def _row(self, path: Path) -> str:
        return hashlib.blake2b(os.fsencode(path), key=self._key, digest_size=16).hexdigest()

    @cached_property
    def _key(self) -> bytes:
        """The home's key, made when it is first needed; a home that can't be written gets none that lasts."""
        path = self.home.root / "etags.key"
        new = secrets.token_bytes(_KEY_BYTES)
        with suppress(TargetError, OSError), NamedTemporaryFile(dir=self.home.folder("tmp")) as temporary:
            temporary.write(new)
            temporary.flush()
            os.link(temporary.name, path)  # refused if it is there already
        try:
            return path.read_bytes()
        except OSError:
            return new


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

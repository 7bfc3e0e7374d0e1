"""A document from outside is read within limits of memory."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from medloop.documents.model import ModelRecord
from medloop.documents.reading import MAX_BYTES
from medloop.documents.split import SplitRecord
from medloop.errors import DataError


@pytest.mark.slow
@pytest.mark.parametrize("document", [ModelRecord, SplitRecord])
def test_a_document_of_gigabytes_is_refused_unread(
    tmp_path: Path, document: type[ModelRecord] | type[SplitRecord]
) -> None:
    """The message names the file and the fix."""
    path = tmp_path / document.FILE
    path.write_bytes(b'{"version": 1, "network": "')
    os.truncate(path, 4 << 30)  # sparse: takes no disk
    tracemalloc.start()
    with pytest.raises(DataError, match=f"{document.FILE}: has more than {MAX_BYTES >> 20} MiB"):
        document.read(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 2 * MAX_BYTES
    tracemalloc.stop()

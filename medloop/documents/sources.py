"""sources.json: the file of each case in the raw data, where the split's layout is `manifest`.

Written by the split job next to split.json, read by training and evaluation. Contains original names. Torch-free.
"""

from __future__ import annotations

from medloop.documents.file_names import SOURCES_FILE
from medloop.documents.reading import DocumentFile
from medloop.documents.split import Split


class Sources(DocumentFile):
    """The whole of sources.json."""

    FILE = SOURCES_FILE
    FIX = "run the split step again"

    version: int = 1
    files: dict[Split, dict[str, str]]
    """By split: path below the split's folder, as in split.json, to path below the raw data."""

"""The installed botocore's models of services, parsed once for all that a process does with them."""

from __future__ import annotations

import gzip
import json
import os
from functools import cache
from typing import Any

from botocore.loaders import JSONFileLoader, Loader, create_loader


@cache
def service_models() -> Loader:
    """A loader that all sessions of the process share: it keeps what it has parsed."""
    loader = create_loader()
    loader.file_loader = _PlainJson()
    return loader


class _PlainJson(JSONFileLoader):
    """JSON as plain dictionaries, which keep the order as well: twice as fast."""

    def load_file(self, file_path: str) -> Any:
        for suffix, opener in ((".json", open), (".json.gz", gzip.open)):
            if os.path.isfile(file_path + suffix):
                with opener(file_path + suffix, "rb") as file:
                    return json.load(file)
        return None

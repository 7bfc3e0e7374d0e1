"""The installed botocore's models of services, parsed once for all that a process does with them."""

from __future__ import annotations

import gzip
import json
import os
from functools import cache
from typing import Any

from botocore.loaders import JSONFileLoader, Loader, create_loader

_LISTED_BY_FOLDER = frozenset({"service-2", "paginators-1"})
"""Types whose absence botocore treats as it treats an unknown service."""


@cache
def service_models() -> Loader:
    """A loader that all sessions of the process share: it keeps what it has parsed."""
    paths = create_loader().search_paths
    return _ServiceModels(paths, _PlainJson(), include_default_search_paths=False)


class _ServiceModels(Loader):
    """A loader that knows the services by their folders: botocore looks into each of 400 for the type of model."""

    def list_available_services(self, type_name: str) -> list[str]:
        """See Loader; a service without this type of model is reported by the search for the model itself."""
        if type_name not in _LISTED_BY_FOLDER:
            return super().list_available_services(type_name)
        folders = (path for path in self.search_paths if os.path.isdir(path))
        return sorted({name for path in folders for name in os.listdir(path)})


class _PlainJson(JSONFileLoader):
    """JSON as plain dictionaries, which keep the order as well: twice as fast."""

    def load_file(self, file_path: str) -> Any:
        for suffix, opener in ((".json", open), (".json.gz", gzip.open)):
            if os.path.isfile(file_path + suffix):
                with opener(file_path + suffix, "rb") as file:
                    return json.load(file)
        return None

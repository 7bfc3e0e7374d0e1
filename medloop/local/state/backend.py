"""The backend: one home with its records and its objects, which every part of the local backend works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medloop.local.state.database import is_writable
from medloop.local.state.home import Home
from medloop.local.state.objects import Objects
from medloop.local.state.runtime import PROCESS, chosen_runtime
from medloop.local.state.store import Store


@dataclass(frozen=True)
class Backend:
    """One home's records and objects."""

    home: Home
    store: Store
    objects: Objects
    runtime: str = PROCESS
    """The runtime of its jobs and endpoints (`state.runtime`)."""

    @property
    def is_writable(self) -> bool:
        """True if records can be changed; a home on a read-only disk can only be read."""
        return is_writable(self.home.database)

    @classmethod
    def open(cls, home: Path | None = None) -> Backend:
        """The backend of a home (see `Home.find`), which is made when something is first written.

        Raises:
            TargetError: The home can't be one, or MEDLOOP_RUNTIME is none.
        """
        root = Home.find(home)
        store = Store(root.database, root.folder, root.num_leftovers)
        return cls(root, store, Objects(root, store), chosen_runtime())

"""Runs first in every Python process of a job: staged as `sitecustomize.py`, next to `job_site.json`.

It makes a local job see what a container would: of this project, only the bundle's code (an editable install's finder,
or an installed copy, would otherwise supply modules missing from the bundle), and input files that can't be changed
(they are links to the user's own). Standard library only: it runs in the job, before anything else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = ("medloop", "pipelines", "steps", "infra")
"""Top-level packages of this project: a job or a function gets them from its bundle or not at all."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT | os.O_APPEND

# Audit events that change a file: (index of the path, index of its dir_fd or None, whether a link is followed).
_CHANGES: dict[str, tuple[tuple[int, int | None, bool], ...]] = {
    "os.truncate": ((0, None, True),),
    "os.chmod": ((0, 2, True),),
    "os.chown": ((0, 3, True),),
    "os.utime": ((0, 3, True),),
    "os.setxattr": ((0, None, True),),
    "os.removexattr": ((0, None, True),),
    "os.remove": ((0, 1, False),),
    "os.rmdir": ((0, 1, False),),
    "os.mkdir": ((0, 2, False),),
    "os.rename": ((0, 2, False), (1, 3, False)),
    "os.link": ((0, 2, True), (1, 3, False)),
    "os.symlink": ((1, 2, False),),
}


class BundleFinder:
    """Finds this project's packages, and `packages` of a user's project, in the unpacked bundle `code` or nowhere."""

    def __init__(self, code: str, packages: Sequence[str] = ()) -> None:
        self.code = code
        self.packages = frozenset((*PACKAGES, *packages))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec; None for packages of others. Raises ModuleNotFoundError if the bundle lacks it."""
        if fullname.partition(".")[0] not in self.packages:
            return None
        spec = PathFinder.find_spec(fullname, [self.code] if path is None else path, target)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {fullname!r} in this job's bundle", name=fullname)
        return spec


class InputGuard:
    """An audit hook that refuses to change files below protected folders.

    Args:
        protected: Folders of the user and of the object store, real paths.
        allowed: Folders below them that the job owns, real paths.
    """

    def __init__(self, protected: Sequence[str], allowed: Sequence[str]) -> None:
        self.protected = tuple(protected)
        self.allowed = tuple(allowed)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Raise PermissionError when this event would change a protected file."""
        if event == "open":
            if isinstance(args[2], int) and args[2] & _WRITES and not isinstance(args[0], int):
                self._check(args[0], None, follow=True)
            return
        for index, directory, follow in _CHANGES.get(event, ()):
            self._check(args[index], None if directory is None else args[directory], follow=follow)

    def _check(self, path: Any, directory: int | None, *, follow: bool) -> None:
        if isinstance(path, int):
            name = f"/proc/self/fd/{path}"
        else:
            name = os.fsdecode(path)
            if isinstance(directory, int) and directory >= 0:
                name = os.path.join(f"/proc/self/fd/{directory}", name)
        folder, base = os.path.split(os.path.abspath(name))
        real = os.path.realpath(name) if follow else os.path.join(os.path.realpath(folder), base)
        if _below(real, self.protected) and not _below(real, self.allowed):
            raise PermissionError(f"{name}: is an input of this job; inputs are only read")


def _below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


def leave_checkout(checkout: str, path: list[str], finders: list[Any]) -> None:
    """Take the checkout off the import path, and the finders of editable installs that lead there off the finders.

    An installed wheel (`checkout` is empty) lies among the packages that jobs need: there, BundleFinder comes first.
    """
    if not checkout:
        return
    path[:] = [entry for entry in path if not entry or os.path.realpath(entry) != checkout]
    finders[:] = [finder for finder in finders if not _leads_to(finder, checkout)]


def _leads_to(finder: Any, checkout: str) -> bool:
    module = sys.modules.get(getattr(finder, "__module__", ""))
    mapping: dict[str, str] = getattr(module, "MAPPING", {})
    return any(_below(os.path.realpath(folder), [checkout]) for folder in mapping.values())


def install(settings: dict[str, Any]) -> None:
    """Apply `job_site.json`: `code`, `checkout`, `protected`, `allowed`, and `packages` of users' projects."""
    leave_checkout(settings["checkout"], sys.path, sys.meta_path)
    sys.meta_path.insert(0, BundleFinder(settings["code"], settings.get("packages", ())))
    sys.addaudithook(InputGuard(settings["protected"], settings["allowed"]))


if __name__ == "sitecustomize":
    install(json.loads(Path(__file__).with_name("job_site.json").read_text(encoding="utf-8")))

"""Packages that offer pipelines: this project's `pipelines`, and those of users' installed projects.

An entry point of the group `medloop.pipelines` names such a package. Its folder contains `presets/` and `containers/`
(this project's own containers are next to medloop instead). Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from medloop.checkout import REPOSITORY

GROUP = "medloop.pipelines"
"""The group of entry points of pipelines."""


@cache
def pipeline_points() -> tuple[EntryPoint, ...]:
    """The installed pipelines' entry points; finding them reads a file of each installed package."""
    return tuple(entry_points(group=GROUP))


def package_of(point: EntryPoint) -> str:
    """The top-level package of a pipeline."""
    return point.module.partition(".")[0]


@cache
def package_folders() -> Mapping[str, Path]:
    """Folders of the packages that offer pipelines, by name, sorted; imports none of them."""
    packages = sorted({package_of(point) for point in pipeline_points()})
    specs = {package: find_spec(package) for package in packages}
    return {
        package: Path(next(iter(spec.submodule_search_locations))).resolve()
        for package, spec in specs.items()
        if spec is not None and spec.submodule_search_locations
    }


def source_folder(module: str) -> Path:
    """The folder that contains the top-level package of a pipeline's module: a project's root; else medloop's own."""
    folder = package_folders().get(module.partition(".")[0])
    return REPOSITORY if folder is None else folder.parent

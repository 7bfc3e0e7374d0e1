"""Presets: named choices of settings and parameters, shipped next to the pipelines or in a file of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from medloop.documents.wandb_keys import refuse_keys
from medloop.errors import SettingError
from medloop.projects import package_of, pipeline_points
from medloop.setting_errors import parse_settings, suggest
from medloop.yaml_text import read_yaml


class Preset(BaseModel):
    """A named choice of settings and parameters: one YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    pipeline: str
    extends: str | None = None
    """The preset that this one builds on."""
    lab: str | None = None
    """The workshop's lab that it covers."""
    settings: dict[str, Any] = Field(default_factory=dict)
    parameters: dict[str, str | int | float] = Field(default_factory=dict)


def load_presets() -> dict[str, Preset]:
    """The shipped presets by name: `presets/*.yaml` next to the modules that the entry points name, sorted.

    Raises:
        SettingError: A preset's file is malformed.
    """
    return {name: _parse_shipped(file) for name, file in sorted(_shipped_files().items())}


def shipped_names() -> list[str]:
    """Names of the shipped presets, sorted; reads none of them."""
    return sorted(_shipped_files())


def read_preset(path: Path) -> Preset:
    """A preset from a file of the user's own.

    Raises:
        SettingError: The file can't be read or is malformed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingError(f"preset {path}: can't be read ({error.strerror}); name an existing YAML file") from None
    except UnicodeDecodeError:
        raise SettingError(f"preset {path}: is no UTF-8 text; write it as YAML") from None
    return _parse_preset(text, str(path))


def preset_chain(preset: str | None, pipeline: str) -> list[tuple[str, Preset]]:
    """From the preset that extends none to the requested one."""
    if preset is None:
        return []
    shipped = _shipped_files()
    chain: list[tuple[str, Preset]] = []
    label: str | None = preset
    while label is not None:
        if label in (seen for seen, _ in chain):
            raise SettingError(f"preset {label}: extends itself by way of {chain[-1][0]}; remove one `extends`")
        layer = _find_preset(label, shipped)
        if layer.pipeline != pipeline:
            raise SettingError(f"preset {label}: is for pipeline {layer.pipeline!r}, not {pipeline!r}; choose another")
        chain.insert(0, (label, layer))
        label = layer.extends
    return chain


def _shipped_files() -> dict[str, Traversable]:
    """The shipped presets' files by name."""
    packages = sorted({package_of(point) for point in pipeline_points()})
    shipped = (file for package in packages for file in files(package).joinpath("presets").iterdir())
    return {file.name.removesuffix(".yaml"): file for file in shipped if file.name.endswith(".yaml")}


def _parse_shipped(file: Traversable) -> Preset:
    return _parse_preset(file.read_text(encoding="utf-8"), file.name)


def _find_preset(label: str, shipped: Mapping[str, Traversable]) -> Preset:
    if "/" in label or label.endswith((".yaml", ".yml")):
        return read_preset(Path(label))
    if label not in shipped:
        raise SettingError(f"preset {label!r} is unknown; {suggest(label, list(shipped))}")
    return _parse_shipped(shipped[label])


def _parse_preset(text: str, label: str) -> Preset:
    content = read_yaml(text, f"preset {label}")
    if not isinstance(content, dict):
        raise SettingError(f"preset {label}: must be a mapping with description and pipeline; write `key: value` lines")
    refuse_keys(content, f"preset {label}")
    return parse_settings(Preset, content, f"preset {label}")

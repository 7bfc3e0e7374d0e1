"""`medloop presets`, `pipelines list` and `samples`: what the installation ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_presets_are_listed_with_their_pipelines(medloop: Any) -> None:
    """Each demo's preset is listed with the pipeline that it is for."""
    assert medloop("presets", "list", "--json") == 0

    pipelines = {row["name"]: row["pipeline"] for row in medloop.json}
    assert pipelines["plane-demo"] == "classification"
    assert pipelines["brain-tissue-demo"] == "segmentation"


def test_a_preset_is_shown_with_everything_it_chooses(medloop: Any) -> None:
    """`presets show` gives all settings, those that the preset leaves alone with their defaults."""
    assert medloop("presets", "show", "plane-demo", "--json") == 0

    assert medloop.json["pipeline"] == "classification"
    assert medloop.json["settings"]["split"]["seed"] == 0
    assert medloop("presets", "show", "plain-demo") == 2
    assert "plane-demo" in medloop.err


def test_pipelines_are_listed(medloop: Any) -> None:
    """Both pipelines are installed, each with its task."""
    assert medloop("pipelines", "list", "--json") == 0

    assert [(row["name"], row["task"]) for row in medloop.json] == [
        ("classification", "classification"),
        ("segmentation", "segmentation"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("sample", ["plane", "brain-tissue"])
def test_samples_below_a_file_are_refused(medloop: Any, tmp_path: Path, sample: str) -> None:
    """A folder that can't be made: one line, exit code 2, the file in the way untouched."""
    file = tmp_path / "file"
    file.write_text("mine")

    assert medloop("samples", sample, str(file / "below")) == 2

    assert str(file) in medloop.err
    assert medloop.err.count("\n") == 1
    assert file.read_text() == "mine"


def test_samples_never_mix_into_a_folder_in_use(medloop: Any, tmp_path: Path) -> None:
    """A folder that holds something is refused and left as it is."""
    (tmp_path / "notes.txt").write_text("mine")

    assert medloop("samples", "plane", str(tmp_path)) == 2

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

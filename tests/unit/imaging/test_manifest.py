"""The layout `manifest`: nothing is copied, names stay in two files, and jobs go by pseudonym."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medloop.documents.file_names import MANIFEST_FILE, SOURCES_FILE
from medloop.documents.split import SPLITS, SplitRecord, Task
from medloop.errors import DataError, MedloopError
from medloop.imaging.formats import read_image
from medloop.imaging.manifest import channel_folder
from medloop.imaging.split_job import SplitOutputs, SplitSettings, split_dataset
from tests.unit.imaging.datasets import write_classes, write_subjects

KEY = bytes(32)


def divided(root: Path, out: Path, task: Task, layout: str) -> SplitRecord:
    """Split a data set in a layout; outputs are folders of `out`."""
    settings = SplitSettings(task=task, layout=layout, data_uri="s3://bucket/raw/", seed=1)  # type: ignore[arg-type]
    outputs = SplitOutputs(*(out / name for name in (*SPLITS, "split")))
    return split_dataset(root, KEY, settings, outputs)


def staged(root: Path, out: Path, channel: Path, split: str) -> Path:
    """What a job gets through a manifest: the files that it lists, by the names that they were given."""
    prefix, *names = json.loads((out / split / MANIFEST_FILE).read_text(encoding="utf-8"))
    assert prefix == {"prefix": "s3://bucket/raw/"}
    for name in names:
        (channel / name).parent.mkdir(parents=True, exist_ok=True)
        (channel / name).symlink_to(root / name)
    return channel


def files_below(folder: Path) -> set[str]:
    """Relative paths of all files."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_images_are_found_under_pseudonyms_and_are_the_same(tmp_path: Path) -> None:
    """Both layouts divide alike, and a job sees the same pixels under the same pseudonym; only suffixes stay."""
    root = write_classes(tmp_path / "Jane Doe's")
    copied = divided(root, tmp_path / "copied", "classification", "copy")
    listed = divided(root, tmp_path / "listed", "classification", "manifest")
    assert (listed.counts, listed.data_digest) == (copied.counts, copied.data_digest)
    for split in SPLITS:
        assert files_below(tmp_path / "listed" / split) == {MANIFEST_FILE}
        channel = staged(root, tmp_path / "listed", tmp_path / f"channel {split}", split)
        view = channel_folder(channel, tmp_path / "listed" / "split", split)
        assert files_below(view) == set(listed.patient_of(split))
        for path in files_below(view):
            twin = (tmp_path / "copied" / split / path).with_suffix(".png")
            assert np.array_equal(read_image(view / path), read_image(twin))


def test_volumes_are_found_under_pseudonyms(tmp_path: Path) -> None:
    """A subject's two volumes, in a folder named by the pseudonym."""
    root = write_subjects(tmp_path / "data")
    record = divided(root, tmp_path / "out", "segmentation", "manifest")
    channel = staged(root, tmp_path / "out", tmp_path / "channel", "train")
    view = channel_folder(channel, tmp_path / "out" / "split", "train")
    subjects = set(record.patient_of("train"))
    assert {path.name for path in view.iterdir()} == subjects
    assert len(files_below(view)) == 2 * len(subjects)


def test_names_stand_in_the_manifests_and_sources_alone(tmp_path: Path) -> None:
    """split.json holds none, in either layout."""
    root = write_classes(tmp_path / "data")
    names = {path.stem for path in root.rglob("*.png")}
    divided(root, tmp_path / "out", "classification", "manifest")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            holds = any(name in path.read_text(encoding="utf-8") for name in names)
            assert holds == (path.name in (MANIFEST_FILE, SOURCES_FILE)), path.name


def test_copies_need_no_view(tmp_path: Path) -> None:
    """Without sources.json the channel is what it is."""
    assert channel_folder(tmp_path / "train", tmp_path / "split", "train") == tmp_path / "train"


def test_a_file_that_is_not_there_is_named_by_its_pseudonym(tmp_path: Path) -> None:
    """A manifest of another split, or data removed since."""
    sources = {"version": 1, "files": {"train": {"a/p1_0000.png": "a/Jane Doe.png"}}}
    (tmp_path / SOURCES_FILE).write_text(json.dumps(sources))
    with pytest.raises(DataError, match=r"^train/a/p1_0000\.png: is not in the channel's manifest") as caught:
        channel_folder(tmp_path / "channel", tmp_path, "train")
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "sources.json"),
        ("[]", "sources.json"),
        ('{"version": 2, "files": {}}', "newer than 1"),
        ('{"version": 1, "files": {"train": {"a/../../x.png": "a.png"}}}', "outside its folder"),
        ('{"version": 1, "files": {"train": {"a.png": "/etc/hostname"}}}', "outside its folder"),
        ('{"version": 1, "files": {"other": {}}}', "sources.json"),
    ],
)
def test_broken_sources_are_one_line(tmp_path: Path, text: str, reason: str) -> None:
    """Empty, of another kind, newer, or leading out of the folders."""
    (tmp_path / SOURCES_FILE).write_text(text)
    with pytest.raises(DataError, match=reason) as caught:
        channel_folder(tmp_path, tmp_path, "train")
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_key_is_refused(tmp_path: Path) -> None:
    """S3 has no key that isn't UTF-8; nothing is left behind."""
    root = write_classes(tmp_path / "data")
    first = next(root.rglob("*.png"))
    first.rename(first.with_name("\udce9.png"))
    with pytest.raises(MedloopError, match="not in UTF-8"):
        divided(root, tmp_path / "out", "classification", "manifest")
    assert files_below(tmp_path / "out") == set()


def test_a_manifest_needs_to_know_where_the_data_lies() -> None:
    """By hand, without the URI."""
    with pytest.raises(ValueError, match="needs --data-uri"):
        SplitSettings(task="classification", layout="manifest")

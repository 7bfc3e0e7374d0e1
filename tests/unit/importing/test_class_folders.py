"""Class folders: pixels, classes, splits and patients are those of the source."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medloop.errors import DataError
from medloop.imaging.validation import check_dataset
from tests.unit.importing.image_sources import (
    picture,
    require_sound,
    run,
    write_table,
)


def test_class_folders_in_all_formats(tmp_path: Path) -> None:
    """What the product reads is linked, the rest becomes PNG; splits and patients stay; names stay apart."""
    rows = ["path,patient,sex"]
    ends = (".png", ".gif", ".tga", ".pgm", ".bmp", ".tif", ".webp", ".jp2")
    pixels = {}
    for split in ("train", "test"):
        for group in ("Test", "cyst"):
            for number, end in enumerate(ends):
                path = f"{split}/{group}/x{end}"
                pixels[path] = picture(tmp_path / "src" / path, len(pixels))
                rows.append(f"{path},P{number}{split},F")
    (tmp_path / "src/patients.csv").write_text("\n".join(rows))
    (tmp_path / "src/train/cyst/readme.doc").write_text("x")
    picture(tmp_path / "src/train/stray.png", 999)
    (tmp_path / "src/train/cyst/deeper").mkdir()

    report = run(tmp_path / "src", tmp_path / "out")

    assert report.source == "classes"
    assert len(report.cases) == len(pixels)
    assert os.path.samefile(tmp_path / "out/train/cyst/x.png", tmp_path / "src/train/cyst/x.png")
    files = {
        path.name: np.asarray(Image.open(path).convert("L")) for path in (tmp_path / "out/test/case-Test").iterdir()
    }
    assert sorted(files) == [
        *("x.bmp", "x.gif.png", "x.jp2.png", "x.pgm.png", "x.png", "x.tga.png", "x.tif", "x.webp"),
    ]
    contents = {value.tobytes() for value in files.values()}
    expected = {
        value.tobytes()
        for path, value in pixels.items()
        if path.startswith("test/Test") and "jp2" not in path and "webp" not in path
    }
    assert expected <= contents
    assert report.num_patients == 16
    reasons = {omission.path: omission.reason for omission in report.left_out}
    assert set(reasons) == {"train/cyst/deeper", "train/cyst/readme.doc", "train/stray.png"}
    checked = check_dataset(tmp_path / "out", "classification")
    assert [problem.line for problem in checked.problems] == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.png", b"\x89PNG\r\n\x1a\n", "is truncated or damaged"),
        ("bad.gif", b"GIF89a" + bytes(10), "damaged"),
        ("bad.pgm", b"P5 60000 60000 255\n", "pixels"),
        ("bad.tga", bytes(3), "damaged"),
        ("bad.jpg", b"", "is empty"),
    ],
)
def test_a_bad_picture_doesnt_stop_the_others(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """One line with file and reason; a link out of the source is one, too."""
    for seed, path in enumerate(("a/1.png", "a/2.png", "b/1.png", "b/2.png")):
        picture(tmp_path / "src" / path, seed)
    (tmp_path / "src/a" / name).write_bytes(content)
    picture(tmp_path / "outside.png", 9)
    (tmp_path / "src/b/link.png").symlink_to(tmp_path / "outside.png")
    report = run(tmp_path / "src", tmp_path / "out")
    reasons = {omission.path: omission.reason for omission in report.left_out}
    assert set(reasons) == {f"a/{name}", "b/link.png"}
    assert message in reasons[f"a/{name}"]
    assert "is a link that leads out of the source" in reasons["b/link.png"]
    require_sound(tmp_path / "out", report)


def test_pictures_and_masks_are_no_classes(tmp_path: Path) -> None:
    """Images and their masks of two folders would be learnt as two classes."""
    for seed in range(3):
        picture(tmp_path / f"src/images/{seed}.png", seed)
        picture(tmp_path / f"src/masks/{seed}_mask.png", 9 + seed)
    with pytest.raises(DataError, match=r"src: contains images and their masks \(images, masks\), not classes"):
        run(tmp_path / "src", tmp_path / "out")


def test_a_class_folder_that_is_not_in_utf8(tmp_path: Path) -> None:
    """Its images are left out by name, and the report can be written."""
    for seed in range(4):
        picture(tmp_path / f"src/{'ab'[seed % 2]}/{seed}.png", seed)
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "src") + b"/b\xf6se"))
    folder.mkdir()
    picture(tmp_path / "x.png", 9)
    os.rename(tmp_path / "x.png", folder / "x.png")
    report = run(tmp_path / "src", tmp_path / "out")
    assert len(report.cases) == 4
    [omission] = report.left_out
    assert omission.path == "b\\udcf6se/x.png"
    assert "its name is not in UTF-8" in omission.reason


@pytest.mark.parametrize("names", [("+ve", "-ve"), ("=1", "@x"), ("a,-b", "a;=b"), ("'x", "y")])
def test_classes_that_begin_like_formulas(tmp_path: Path, names: tuple[str, str]) -> None:
    """They stay apart, and patients.csv names their files."""
    for number in range(6):
        picture(tmp_path / f"src/{names[number % 2]}/{number}.png", number)
    table = [(f"{names[number % 2]}/{number}.png", f"P{number}") for number in range(6)]
    write_table(tmp_path / "src/patients.csv", table, ("path", "patient"))
    report = run(tmp_path / "src", tmp_path / "out")
    assert len({case.name.split("/")[0] for case in report.cases}) == 2
    require_sound(tmp_path / "out", report)

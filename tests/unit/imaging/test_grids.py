"""Grids of image and label: what counts as one, what is used with a warning, what is refused, and the advice."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medloop.imaging.files import FileError, Volume
from medloop.imaging.grids import GridDifference, compare_grids, displacement
from medloop.imaging.validation import Subject, read_subject

SHAPE = (24, 20, 16)
GRID = np.array([[0.35, 0, 0, -90.7466812], [0, 0.35, 0, 103.5292664], [0, 0, 2.5, -57.1777191], [0, 0, 0, 1]])


def volume(
    affine: np.ndarray, shape: tuple[int, ...] = SHAPE, second: np.ndarray | None = None, unit: str = "mm"
) -> Volume:
    """A volume without voxels."""
    return Volume(np.broadcast_to(np.uint8(0), shape), affine, unit, second)


def turned(degrees: float, axes: tuple[int, int] = (0, 2)) -> np.ndarray:
    """A cube grid of 1 mm, turned around its first voxel."""
    affine = np.eye(4)
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    first, second = axes
    affine[first, first] = affine[second, second] = cosine
    affine[first, second], affine[second, first] = sine, -sine
    return affine


def moved(*millimetres: float) -> np.ndarray:
    """GRID with another origin."""
    affine = GRID.copy()
    affine[:3, 3] += millimetres
    return affine


def difference(image: Volume, label: Volume) -> GridDifference:
    """The difference, which is there."""
    compared = compare_grids(image, label)
    assert compared is not None
    return compared


def test_displacement_is_in_voxels_of_the_image() -> None:
    """A shift of half a slice is 0.5, by whichever spacing; a turn moves the far corner by its arc."""
    assert displacement(GRID, moved(0, 0, 1.25), SHAPE) == pytest.approx(0.5)
    assert displacement(GRID, moved(0.35, 0, 1.25), SHAPE) == pytest.approx(1)
    assert displacement(np.eye(4), turned(0.1), (24, 20, 400)) == pytest.approx(np.sin(np.radians(0.1)) * 399, abs=0.01)
    assert displacement(GRID, GRID, (1, 1, 1)) == 0


@pytest.mark.parametrize(
    "label",
    [
        GRID.astype(np.float32).astype(float),
        np.vstack([np.hstack([GRID[:3, :3], np.round(GRID[:3, 3:], 2)]), GRID[3:]]),
        GRID @ np.diag([1, 1, 1.0005, 1]),
        moved(0.01, -0.01, 0.1),
    ],
    ids=["float32", "origin of two decimals", "spacing of three decimals", "a thirtieth of a voxel"],
)
def test_rounded_headers_are_one_grid(label: np.ndarray) -> None:
    """Below a twentieth of a voxel there is nothing to say."""
    assert compare_grids(volume(GRID), volume(label)) is None


@pytest.mark.parametrize(
    ("image", "label", "shape", "fields"),
    [
        (GRID, moved(0.1, 0, 0), SHAPE, "(origin)"),
        (np.eye(4), turned(0.05), (24, 20, 400), "(direction)"),
        (np.eye(4), np.diag([1, 1, 1.001, 1]), (24, 20, 400), "(spacing)"),
        (GRID, moved(0, 0, 1.2), SHAPE, "0.48 voxels from its image's grid (origin)"),
    ],
)
def test_less_than_half_a_voxel_is_used_with_a_warning(
    image: np.ndarray, label: np.ndarray, shape: tuple[int, ...], fields: str
) -> None:
    """The nearest voxel is the corresponding one; the warning names the header's field and the distance."""
    compared = difference(volume(image, shape), volume(label, shape))
    assert compared.corresponds
    assert fields in compared.message
    assert "resample" not in compared.message


@pytest.mark.parametrize(
    ("label", "fields"),
    [
        (moved(0.35, 0, 0), "1 voxels apart (origin)"),
        (moved(0, 0, 1.3), "0.52 voxels apart (origin)"),
        (np.diag([1, 1, 1.2, 1]) @ GRID, "spacing"),
        (GRID @ np.diag([-1, 1, 1, 1]), "(direction)"),
        (GRID @ turned(90, (0, 1)), "direction"),
        (np.eye(4), "origin, spacing"),
    ],
)
def test_other_grids_are_refused_by_field(label: np.ndarray, fields: str) -> None:
    """The advice is safe: nothing is resampled before someone has seen if the arrays correspond."""
    compared = difference(volume(GRID), volume(label))
    assert not compared.corresponds
    assert compared.message.startswith("is on another grid than its image: ")
    assert fields in compared.message
    assert "if it fits the image voxel by voxel" in compared.message


@pytest.mark.parametrize("codes", ["LAS", "LPS", "SRA", "PIL"])
def test_axes_in_another_order_are_reordered(tmp_path: Path, codes: str) -> None:
    """A program turned the label's array and wrote the right affine: each voxel comes back to its place."""
    voxels, labels = _arrays()
    oblique = GRID @ turned(20, (0, 1)) @ turned(10, (1, 2))
    axes = nib.orientations.axcodes2ornt(codes)
    label = nib.Nifti1Image(labels, oblique).as_reoriented(axes)
    subject = read_subject(_write(tmp_path, nib.Nifti1Image(voxels, oblique), label), None)
    np.testing.assert_array_equal(subject.label.voxels, labels)
    np.testing.assert_allclose(subject.label.affine, oblique, rtol=1e-5)
    ((path, message),) = subject.warnings
    assert path.name == "label.nii.gz"
    assert message.startswith("has axes ")
    assert message.endswith(" where its image has RAS; its voxels are reordered")


def test_a_unit_is_named_where_it_is_the_difference() -> None:
    """Equal numbers in two units: the unit is to be corrected; else it isn't, whichever the units are."""
    image, micrometres = volume(GRID), np.vstack([GRID[:3] * 1e-3, GRID[3:]])
    assert "(xyzt_units)" in difference(image, volume(micrometres, unit="micron")).message
    assert "(xyzt_units)" not in difference(image, volume(moved(9, 0, 0), unit="micron")).message
    assert compare_grids(image, volume(GRID, unit="micron")) is None


def test_another_shape_is_refused() -> None:
    """No array corresponds to one of another shape, not even on the same affine."""
    compared = difference(volume(GRID), volume(GRID, (24, 20, 15)))
    assert not compared.corresponds
    assert compared.message.startswith("has shape (24, 20, 15) where its image has (24, 20, 16)")


def test_a_label_on_the_images_qform_corresponds() -> None:
    """A program that reads the qform drew it: to resample it would move a right label."""
    compared = difference(volume(GRID, second=moved(5, -3, 7)), volume(moved(5, -3, 7.001)))
    assert compared.corresponds
    assert compared.message.startswith(
        "is on its image's qform, and the image's sform and qform are up to 14.3 voxels apart"
    )
    assert "(origin)" in compared.message
    assert "don't resample" in compared.message


def test_a_label_on_a_mirrored_qform_is_not_mirrored() -> None:
    """The image's own transforms are mirror images: its label was drawn on the same array."""
    mirrored = GRID @ nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt("LAS"), SHAPE)
    grids = difference(volume(GRID, second=mirrored), volume(mirrored))
    assert grids.corresponds
    assert grids.axes is None
    assert difference(volume(GRID), volume(mirrored)).axes is not None


def test_a_label_whose_qform_is_the_images_grid_corresponds() -> None:
    """The label's sform is the one that is wrong."""
    compared = difference(volume(GRID), volume(np.eye(4), second=GRID))
    assert compared.corresponds
    assert compared.message.startswith("has its image's grid as its qform, and the label's sform and qform are up to")


def test_equal_qforms_prove_nothing() -> None:
    """A program that resamples may write the sform alone."""
    compared = difference(volume(GRID, second=np.eye(4)), volume(moved(9, 9, 9), second=np.eye(4)))
    assert not compared.corresponds


def _write(folder: Path, image: nib.Nifti1Image, label: nib.Nifti1Image) -> Path:
    nib.save(image, folder / "img.nii.gz")
    nib.save(label, folder / "label.nii.gz")
    return folder


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 99, (6, 5, 4)).astype(np.int16), np.resize(np.array([0, 1, 2], np.uint8), (6, 5, 4))


def _read(folder: Path, image_affine: np.ndarray, label_affine: np.ndarray, qform: np.ndarray | None = None) -> Subject:
    voxels, labels = _arrays()
    image = nib.Nifti1Image(voxels, image_affine)
    image.set_sform(image_affine, 1)
    image.set_qform(image_affine if qform is None else qform, 1)
    return read_subject(_write(folder, image, nib.Nifti1Image(labels, label_affine)), None)


@pytest.mark.parametrize(
    ("label", "qform", "texts"),
    [
        (moved(5, -3, 7), moved(5, -3, 7), ["is on its image's qform"]),
        (moved(0.1, 0, 0), None, ["is up to 0.29 voxels"]),
        (moved(0.001, 0, 0), None, []),
    ],
)
def test_a_subject_has_the_images_grid(
    tmp_path: Path, label: np.ndarray, qform: np.ndarray | None, texts: list[str]
) -> None:
    """Training and evaluation get the label's own array on the image's affine, and the check a warning by file."""
    subject = _read(tmp_path, GRID, label, qform)
    np.testing.assert_array_equal(subject.label.voxels, _arrays()[1])
    np.testing.assert_allclose(subject.label.affine, subject.image.affine)
    assert len(subject.warnings) == len(texts)
    for (path, message), text in zip(subject.warnings, texts, strict=True):
        assert path.name == "label.nii.gz"
        assert message.startswith(text)


UNUSED_SFORM = "sform (srow_x, srow_y, srow_z), whose sform_code is 0"
UNUSED_QFORM = "qform (quatern_b, c, d, qoffset_x, y, z), whose qform_code is 0"
STORED = [
    pytest.param(moved(5, -3, 7), 1, 0, moved(5, -3, 7), UNUSED_SFORM, id="sform"),
    pytest.param(turned(30), 1, 0, turned(30), UNUSED_SFORM, id="turned sform"),
    pytest.param(moved(5, -3, 7), 0, 0, moved(5, -3, 7), UNUSED_SFORM, id="neither has a code"),
    pytest.param(GRID, 0, 1, moved(-4, 2, 5), UNUSED_QFORM, id="qform"),
]


def _with_codes(sform: np.ndarray, qform: np.ndarray, qcode: int, scode: int) -> nib.Nifti1Image:
    image = nib.Nifti1Image(_arrays()[0], None)
    image.header.set_sform(sform, scode)
    image.header.set_qform(qform, qcode, strip_shears=True)
    image.header["sform_code"], image.header["qform_code"] = scode, qcode
    return nib.Nifti1Image(image.dataobj, None, image.header)


@pytest.mark.parametrize(("sform", "qcode", "scode", "label", "name"), STORED)
def test_a_label_on_a_transform_without_a_code_corresponds(
    tmp_path: Path, sform: np.ndarray, qcode: int, scode: int, label: np.ndarray, name: str
) -> None:
    """The image's header still has the transform on which the label was drawn: the array is the same."""
    qform = moved(-4, 2, 5) if scode else GRID
    image = _with_codes(sform, qform, qcode, scode)
    subject = read_subject(_write(tmp_path, image, nib.Nifti1Image(_arrays()[1], label)), None)
    np.testing.assert_array_equal(subject.label.voxels, _arrays()[1])
    (message,) = [text for path, text in subject.warnings if path.name == "label.nii.gz"]
    assert message.startswith(f"is on its image's {name}")
    assert "don't resample it" in message
    assert "set sform_code" not in message


def test_a_transform_without_a_code_proves_nothing_about_other_labels(tmp_path: Path) -> None:
    """A label elsewhere is refused as before, and so is one at the place of a qform of zeros."""
    image = _with_codes(moved(5, -3, 7), GRID, 1, 0)
    with pytest.raises(FileError, match="is on another grid than its image"):
        read_subject(_write(tmp_path, image, nib.Nifti1Image(_arrays()[1], moved(50, 0, 0))), None)
    plain = nib.Nifti1Image(_arrays()[0], GRID)
    with pytest.raises(FileError, match="is on another grid than its image"):
        read_subject(_write(tmp_path, plain, nib.Nifti1Image(_arrays()[1], np.diag([0.35, 0.35, 2.5, 1]))), None)


def test_contradicting_transforms_are_warned_about(tmp_path: Path) -> None:
    """Other voxel sizes or axes in the qform: programs that read it see another volume."""
    subject = _read(tmp_path, np.diag([2.0, 2, 3, 1]), np.diag([2.0, 2, 3, 1]), np.diag([-1.0, 2, 3, 1]))
    ((path, message),) = subject.warnings
    assert path.name == "img.nii.gz"
    assert "its sform and qform differ (voxels of 2 x 2 x 3 RAS and 1 x 2 x 3 LAS); the sform is used" in message


@pytest.mark.parametrize("offset", [0.0, 6e-8, -6e-8, 9e-4, -9e-4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_are_rounded(tmp_path: Path, offset: float, dtype: type) -> None:
    """0.99999994 after resampling is 1, not 0; -6e-8 is 0, not 255."""
    voxels, labels = _arrays()
    stored = nib.Nifti1Image((labels + offset).astype(dtype), GRID)
    subject = read_subject(_write(tmp_path, nib.Nifti1Image(voxels, GRID), stored), ["none", "grey", "white"])
    np.testing.assert_array_equal(subject.label.voxels, labels)
    assert subject.label.voxels.dtype == np.uint8
    assert subject.values == (0, 1, 2)


@pytest.mark.parametrize(("slope", "intercept", "stored"), [(2, 0, [0, 1, 2]), (1 / 255, 0, [0, 255]), (1, -3, [3, 4])])
def test_labels_of_a_scale(tmp_path: Path, slope: float, intercept: float, stored: list[int]) -> None:
    """scl_slope and scl_inter apply to labels, rounded as float32 has them."""
    voxels, _ = _arrays()
    image = nib.Nifti1Image(np.resize(np.array(stored, np.uint8), (6, 5, 4)), GRID)
    image.header.set_slope_inter(slope, intercept)
    content = bytearray(image.to_bytes())
    nib.save(nib.Nifti1Image(voxels, GRID), tmp_path / "img.nii.gz")
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    content[352:] = np.resize(np.array(stored, np.uint8), (6, 5, 4)).tobytes(order="F")
    (tmp_path / "label.nii").write_bytes(bytes(content))
    subject = read_subject(tmp_path, None)
    assert subject.values == tuple(round(value * slope + intercept) for value in stored)


@pytest.mark.parametrize("value", [0.5, 1.002, 254.9, -0.5])
def test_means_of_labels_are_refused(tmp_path: Path, value: float) -> None:
    """Linear resampling is no rounding: the value is named."""
    voxels, labels = _arrays()
    wrong = labels.astype(np.float32)
    wrong[0, 0, 0] = value
    _write(tmp_path, nib.Nifti1Image(voxels, GRID), nib.Nifti1Image(wrong, GRID))
    with pytest.raises(FileError, match=rf"label\.nii\.gz: has label values {value:g} that are no whole numbers"):
        read_subject(tmp_path, None)

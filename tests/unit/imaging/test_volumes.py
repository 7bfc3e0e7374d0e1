"""Volumes on their way to the network and back."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel import orientations

from medloop.documents.model import Intensity, VolumePreprocessing
from medloop.errors import DataError
from medloop.imaging.files import Volume
from medloop.imaging.network_grid import target_shape
from medloop.imaging.volumes import (
    from_ras,
    label_map,
    preprocess,
    read_case,
    resize_image,
    resize_label,
    to_ras,
)

SHAPE = (7, 9, 11)
CLASSES = ["background", "ball"]
ALL_48 = [
    np.array(list(zip(axes, signs, strict=True)), dtype=float)
    for axes in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def volume_in(orientation: np.ndarray, spacing: tuple[float, float, float] = (0.5, 1.0, 3.0)) -> Volume:
    """A volume of distinct voxels whose axes lie as `orientation` says."""
    voxels = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(orientation):
        affine[int(world), axis] = sign * spacing[axis]
    affine[:, 3] = (10.0, -20.0, 30.0, 1.0)
    return Volume(voxels, affine)


def rule(**changes: object) -> VolumePreprocessing:
    """Intensity left as it is between 0 and 1."""
    values: dict[str, object] = {"mode": "patch", "size": None, "spacing": (1.0, 1.0, 1.0)}
    values["intensity"] = Intensity(rule="window", low=0, high=1, mean=0, std=1)
    return VolumePreprocessing.model_validate(values | changes)


def world(affine: np.ndarray, index: np.ndarray) -> np.ndarray:
    """World coordinates of a voxel index."""
    return affine[:3, :3] @ index + affine[:3, 3]


class TestOrientation:
    """RAS and back."""

    @pytest.mark.parametrize("orientation", ALL_48, ids=lambda o: "".join(orientations.ornt2axcodes(o)))
    def test_round_trip(self, orientation: np.ndarray) -> None:
        """From each of the 48 orientations to RAS and back, every voxel comes back to its place."""
        volume = volume_in(orientation)
        ras = to_ras(volume)
        assert nib.aff2axcodes(ras.affine) == ("R", "A", "S")
        np.testing.assert_array_equal(from_ras(ras.voxels, volume.affine), volume.voxels)

    @pytest.mark.parametrize("orientation", ALL_48[::5], ids=lambda o: "".join(orientations.ornt2axcodes(o)))
    def test_landmark(self, orientation: np.ndarray) -> None:
        """A voxel keeps its world coordinates."""
        volume = volume_in(orientation)
        ras = to_ras(volume)
        value = volume.voxels[1, 2, 3]
        index = np.argwhere(ras.voxels == value)[0]
        np.testing.assert_allclose(world(ras.affine, index), world(volume.affine, np.array([1, 2, 3])))

    def test_oblique(self) -> None:
        """A scan tilted by 20 degrees keeps its tilt: axes are permuted, never resampled."""
        cos, sin = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
        affine = np.eye(4)
        affine[:2, :2] = [[-2 * cos, sin], [2 * sin, cos]]
        volume = Volume(np.arange(24).reshape(2, 3, 4), affine)
        ras = to_ras(volume)
        assert ras.spacing == pytest.approx((2.0, 1.0, 1.0))
        np.testing.assert_array_equal(from_ras(ras.voxels, affine), volume.voxels)

    @pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1.0, 0.0, 1.0])])
    def test_no_orientation(self, affine: np.ndarray) -> None:
        """A singular affine is refused."""
        with pytest.raises(DataError, match="affine is singular"):
            to_ras(Volume(np.zeros(SHAPE), affine))


class TestResampling:
    """Images linearly, labels by the nearest voxel."""

    def test_labels_stay_labels(self) -> None:
        """No label value appears that was not there, in any new shape."""
        label = torch.from_numpy(np.random.default_rng(0).choice([0, 2, 7], SHAPE).astype(np.uint8))
        for shape in [(3, 4, 5), (20, 9, 6), (1, 1, 1), (14, 18, 22)]:
            assert set(resize_label(label, shape).unique().tolist()) <= {0, 2, 7}

    def test_identity(self) -> None:
        """The same shape leaves every voxel as it is."""
        image = torch.rand(SHAPE)
        assert torch.equal(resize_image(image, SHAPE), image)

    def test_a_ramp_stays_a_ramp(self) -> None:
        """Values linear in world coordinates stay so at the new voxel centres, on each axis."""
        for axis in range(3):
            shape = [4, 4, 4]
            shape[axis] = 8
            view = [1, 1, 1]
            view[axis] = 4
            image = torch.arange(4.0).view(view).expand(4, 4, 4)
            fine = resize_image(image, (shape[0], shape[1], shape[2])).moveaxis(axis, 0)[:, 0, 0]
            expected = (torch.arange(8) + 0.5) / 2 - 0.5
            torch.testing.assert_close(fine[1:-1], expected[1:-1])

    def test_upsampling_is_trilinear(self) -> None:
        """The two passes agree with torch's trilinear interpolation."""
        image, shape = torch.rand(5, 6, 7), (11, 9, 16)
        expected = torch.nn.functional.interpolate(image[None, None], size=shape, mode="trilinear")[0, 0]
        torch.testing.assert_close(resize_image(image, shape), expected, atol=1e-5, rtol=0)

    def test_no_aliasing(self) -> None:
        """A pattern finer than the new grid becomes its mean, on each axis, not one of its phases."""
        for axis in range(3):
            shape = [15, 15, 15]
            shape[axis] = 5
            view = [1, 1, 1]
            view[axis] = 15
            stripes = (torch.arange(15) % 2).float().view(view).expand(15, 15, 15)
            coarse = resize_image(stripes, (shape[0], shape[1], shape[2]))
            assert float((coarse - 0.5).abs().max()) < 0.15

    def test_image_and_label_lie_on_one_grid(self) -> None:
        """A sphere's mask, resampled as an image and as a label, agrees: neither is shifted."""
        grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in (30, 24, 20)), indexing="ij"))
        ball = ((grid - torch.tensor([12, 11, 9]).view(3, 1, 1, 1)) ** 2).sum(0) < 49
        for shape in [(20, 30, 13), (41, 17, 29)]:
            soft = resize_image(ball.float(), shape) > 0.5
            hard = resize_label(ball.to(torch.uint8), shape) > 0
            overlap = 2 * int((soft & hard).sum()) / int(soft.sum() + hard.sum())
            assert overlap > 0.93

    def test_spacing_to_shape(self) -> None:
        """The shape keeps the extent: 10 voxels of 3 mm are 30 of 1 mm."""
        assert target_shape((10, 20, 5), (3.0, 0.5, 1.0), rule()) == (30, 10, 5)
        resized = rule(mode="resize", size=(8, 8, 8), spacing=None)
        assert target_shape((10, 20, 5), (3.0, 0.5, 1.0), resized) == (8, 8, 8)

    def test_absurd_voxel_size(self) -> None:
        """A header that would make a volume of a terabyte is refused before memory is taken."""
        with pytest.raises(DataError, match="correct the header"):
            target_shape((100, 100, 100), (1000.0, 1000.0, 1000.0), rule())


class TestPreprocess:
    """The whole path, there and back."""

    @pytest.mark.parametrize("orientation", ALL_48[::7], ids=lambda o: "".join(orientations.ornt2axcodes(o)))
    def test_landmark_survives(self, orientation: np.ndarray) -> None:
        """A bright ball on an anisotropic grid is found at its world coordinates, in the input and in the answer."""
        shape, spacing = (24, 20, 16), (0.8, 1.5, 2.0)
        template = volume_in(orientation, spacing)
        centre = np.array([9.0, 8.0, 7.0])
        where = world(template.affine, centre)
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
        distance = np.linalg.norm((grid - centre) * spacing, axis=-1)
        volume = Volume((distance < 5).astype(np.float32), template.affine)

        ras = to_ras(volume)
        image = preprocess(volume, rule())
        step = np.array(ras.voxels.shape) / np.array(image.shape)
        resampled = (np.argwhere(image.numpy() > 0.5).mean(axis=0) + 0.5) * step - 0.5
        np.testing.assert_allclose(world(ras.affine, resampled), where, atol=0.3)

        x, y, z = ras.voxels.shape
        label = from_ras(label_map(torch.stack([1 - image, image]), (x, y, z)).numpy(), volume.affine)
        assert label.shape == shape
        np.testing.assert_allclose(world(volume.affine, np.argwhere(label == 1).mean(axis=0)), where, atol=0.3)

    def test_label_map_is_argmax(self) -> None:
        """One class at a time gives what argmax over all gives."""
        probabilities = torch.rand(4, 5, 6, 7).softmax(0)
        resized = torch.stack([resize_image(p, (9, 8, 7)) for p in probabilities])
        assert torch.equal(label_map(probabilities, (9, 8, 7)).long(), resized.argmax(0))


def write_case(folder: Path, image: np.ndarray, label: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """A subject's folder."""
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "img.nii.gz")
    nib.save(nib.Nifti1Image(label, np.eye(4) if affine is None else affine), folder / "label.nii.gz")
    return folder


class TestReading:
    """Files that can't be used are refused in one line that names them."""

    IMAGE = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    LABEL = np.ones((3, 4, 5), np.uint8)

    def test_reads(self, tmp_path: Path) -> None:
        """Labels stored as floating point are whole numbers afterwards."""
        image, label = read_case(write_case(tmp_path / "Jürgen 1", self.IMAGE, self.LABEL.astype(np.float64)), CLASSES)
        np.testing.assert_array_equal(image.voxels, self.IMAGE)
        assert label.voxels.dtype == np.uint8

    def test_bad_values(self, tmp_path: Path) -> None:
        """NaN voxels, other grids and label values outside the classes are refused."""
        nan = self.IMAGE.copy()
        nan[0, 0, 0] = np.nan
        cases = {
            "img.nii.gz: has voxels that are NaN": (nan, self.LABEL, None),
            "label.nii.gz: has label values 3 that are no whole numbers from 0 to 1": (
                self.IMAGE,
                self.LABEL * 3,
                None,
            ),
            "label.nii.gz: has label values 0.5": (self.IMAGE, self.LABEL * 0.5, None),
            "label.nii.gz: is on another grid": (self.IMAGE, self.LABEL, np.diag([2.0, 1.0, 1.0, 1.0])),
            "img.nii.gz: has 2 dim": (self.IMAGE[0], self.LABEL, None),
        }
        for number, (message, arrays) in enumerate(cases.items()):
            with pytest.raises(DataError, match=f"s{number}/{message}"):
                read_case(write_case(tmp_path / f"s{number}", *arrays), CLASSES)

    def test_bad_files(self, tmp_path: Path) -> None:
        """A truncated file, a text file and a missing one are refused."""
        folder = write_case(tmp_path / "s", self.IMAGE, self.LABEL)
        image = folder / "img.nii.gz"
        image.write_bytes(image.read_bytes()[:-20])
        with pytest.raises(DataError, match=r"s/img.nii.gz: is truncated"):
            read_case(folder, CLASSES)
        image.write_text("hello")
        with pytest.raises(DataError, match=r"s/img.nii.gz: is no NIfTI"):
            read_case(folder, CLASSES)
        image.unlink()
        with pytest.raises(DataError, match=r"s/img.nii.gz: is missing"):
            read_case(folder, CLASSES)

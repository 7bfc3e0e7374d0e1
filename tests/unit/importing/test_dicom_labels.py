"""Label maps from SEG and RTSTRUCT: their voxels are the image's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import generate_uid

from medloop.errors import SettingError
from medloop.imaging.validation import check_dataset
from tests.unit.dicom.scanners import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    MadeSeries,
    item,
    oblique,
    save,
    segmentation,
)
from tests.unit.importing.importer import read_volume, reasons, run

ORIENTATIONS = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL, "oblique": oblique(20, -15, 40)}
SHAPE = (12, 10, 6)


def made(seed: int = 1, **changes: Any) -> MadeSeries:
    """A series of twelve rows, ten columns and six slices."""
    return replace(MadeSeries(seed=seed, patient=f"P{seed}", shape=SHAPE), **changes)


def two_structures() -> NDArray[np.uint8]:
    """Segment numbers [slices, rows, columns]: two blocks that touch no edge, of different sizes along each axis."""
    numbers = np.zeros((SHAPE[2], *SHAPE[:2]), np.uint8)
    numbers[1:4, 2:7, 3:9] = 1
    numbers[3:5, 8:11, 1:3] = 2
    return numbers


def contours(series: MadeSeries, numbers: NDArray[Any], names: list[str], **changes: Any) -> Dataset:
    """An RTSTRUCT whose contours are the outlines of rectangles in each slice, half a pixel outside of the centres."""
    dataset = series.common()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), "RTSTRUCT"
    dataset.StructureSetROISequence = DicomSequence(
        [item(ROINumber=number, ROIName=name) for number, name in enumerate(names, 1)]
    )
    dataset.ROIContourSequence = DicomSequence(
        [
            item(
                ReferencedROINumber=number,
                ContourSequence=DicomSequence(
                    [
                        rectangle(series, index, plane == number)
                        for index, plane in enumerate(numbers)
                        if number in plane
                    ]
                ),
            )
            for number in range(1, len(names) + 1)
        ]
    )
    series_item = item(SeriesInstanceUID=series.uid("series"), ContourImageSequence=DicomSequence([]))
    study = item(RTReferencedSeriesSequence=DicomSequence([series_item]))
    frame = item(FrameOfReferenceUID=series.uid("frame"), RTReferencedStudySequence=DicomSequence([study]))
    dataset.ReferencedFrameOfReferenceSequence = DicomSequence([frame])
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def rectangle(series: MadeSeries, index: int, mask: NDArray[np.bool_]) -> Dataset:
    """The contour around the pixels of a slice."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0] - 0.5, rows[-1] + 0.5, columns[0] - 0.5, columns[-1] + 0.5
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    points = np.array([(*corner, index, 1) for corner in corners]) @ series.affine.T
    values = (points[:, :3] * (-1, -1, 1)).ravel()
    return item(
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(corners),
        ContourData=[f"{value:.6f}" for value in values],
    )


def labelled(report: Any, target: Path) -> NDArray[Any]:
    """The label map as [slices, rows, columns]."""
    label, affine = read_volume(report, target, stem="label")
    np.testing.assert_array_equal(affine, read_volume(report, target)[1])
    return label.transpose(2, 1, 0)


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "RTSTRUCT"])
def test_structures_are_at_their_voxels(tmp_path: Path, kind: str, name: str) -> None:
    """In each orientation; the data set passes the check."""
    series, numbers = made(orientation=ORIENTATIONS[name]), two_structures()
    series.write(tmp_path / "src")
    names = ["Liver", "Tumour"]
    label = (
        contours(series, numbers, names)
        if kind == "RTSTRUCT"
        else segmentation(series.datasets(), numbers, names, kind)
    )
    save(label, tmp_path / "src" / "label.dcm")

    report = run(tmp_path / "src", tmp_path / "out", unlabelled=False)

    assert report.labels == ["background", "Liver", "Tumour"]
    assert reasons(report) == []
    np.testing.assert_array_equal(labelled(report, tmp_path / "out"), numbers)
    problems = check_dataset(tmp_path / "out", "segmentation", labels=report.labels).problems
    assert [problem for problem in problems if problem.path] == []


@pytest.mark.parametrize("kind", ["PROBABILITY", "OCCUPANCY"])
def test_a_fraction_of_a_half_is_inside(tmp_path: Path, kind: str) -> None:
    """Of voxels, and of probabilities."""
    series, fractions = made(), np.zeros((SHAPE[2], *SHAPE[:2]), np.float32)
    fractions[2, 3:6, 2:5], fractions[3, 3:6, 2:5] = 0.6, 0.4
    series.write(tmp_path / "src")
    options = {"fractional_type": kind, "max_fractional_value": 200}
    save(segmentation(series.datasets(), fractions, ["Liver"], "FRACTIONAL", **options), tmp_path / "src" / "seg")

    label = labelled(run(tmp_path / "src", tmp_path / "out"), tmp_path / "out")

    np.testing.assert_array_equal(label, fractions > 0.5)


def test_overlaps_are_reported_and_the_higher_value_has_the_voxels(tmp_path: Path) -> None:
    """--labels orders the structures."""
    series, masks = made(), np.zeros((SHAPE[2], *SHAPE[:2], 2), np.uint8)
    masks[1:4, 2:7, 3:9, 0], masks[2, 3:5, 4:6, 1] = 1, 1
    series.write(tmp_path / "src")
    save(segmentation(series.datasets(), masks, ["zone", "Lesion"]), tmp_path / "src" / "seg")

    by_name = run(tmp_path / "src", tmp_path / "out")
    ordered = run(tmp_path / "src", tmp_path / "out2", labels=("background", "ZONE", "lesion"))

    assert "structures Lesion and zone overlap in 4 voxels, which zone has" in by_name.cases[0].warnings[0]
    assert np.unique(labelled(by_name, tmp_path / "out")).tolist() == [0, 2]
    assert (labelled(ordered, tmp_path / "out2") == 2).sum() == 4


def test_structures_that_labels_leaves_out(tmp_path: Path) -> None:
    """They are named, as is one that no file has."""
    series = made()
    series.write(tmp_path / "src")
    save(segmentation(series.datasets(), two_structures(), ["Liver", "Tumour"]), tmp_path / "src" / "seg")

    report = run(tmp_path / "src", tmp_path / "out", labels=("background", "tumour", "cyst"))

    assert "structures that --labels doesn't name are left out: Liver" in report.warnings
    assert any("no segmentation has the structures cyst" in warning for warning in report.warnings)
    assert (labelled(report, tmp_path / "out") == (two_structures() == 2)).all()


def test_another_grid_is_resampled_to_the_nearest_voxel(tmp_path: Path) -> None:
    """A SEG of half the resolution on the same frame of reference, without a reference to the series."""
    series = made(spacing=(1.0, 1.0, 2.0))
    coarse = replace(series, shape=(6, 5, 6), spacing=(2.0, 2.0, 2.0), origin=(-101.0, -87.75, 40.0), seed=2)
    series.write(tmp_path / "src")
    numbers = np.zeros((6, 6, 5), np.uint8)
    numbers[2:4, 1:3, 2:4] = 1
    label = segmentation(coarse.datasets(), numbers, ["Liver"], omit_empty_frames=False)
    label.FrameOfReferenceUID = series.uid("frame")
    del label.ReferencedSeriesSequence
    save(label, tmp_path / "src" / "seg")

    report = run(tmp_path / "src", tmp_path / "out")

    assert "segments are on another grid: resampled" in report.cases[0].warnings[0]
    expected = numbers.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(labelled(report, tmp_path / "out"), expected)


def test_segmentations_find_their_series(tmp_path: Path) -> None:
    """Two series of one frame of reference: the referenced one has the label; a stranger's label is left out."""
    first, second, stranger = made(1), made(2), made(3)
    numbers = two_structures()
    first.write(tmp_path / "src" / "1")
    same_frame = lambda index, dataset: setattr(dataset, "FrameOfReferenceUID", first.uid("frame"))  # noqa: E731
    second.write(tmp_path / "src" / "2", same_frame)
    save(segmentation(second.datasets(), numbers, ["a", "b"]), tmp_path / "src" / "seg2")
    save(segmentation(stranger.datasets(), numbers, ["a", "b"]), tmp_path / "src" / "seg3")

    report = run(tmp_path / "src", tmp_path / "out", unlabelled=False)

    assert len(report.cases) == 1
    assert report.cases[0].num_files == 7
    np.testing.assert_allclose(read_volume(report, tmp_path / "out")[0], second.values)
    assert sorted(reasons(report))[1].startswith("segments a series that is not in the source")
    assert sorted(reasons(report))[0].startswith("has no segmentation")


def test_of_a_structure_in_two_files_the_newest_counts(tmp_path: Path) -> None:
    """By the content's date."""
    series, numbers = made(), two_structures()
    series.write(tmp_path / "src")
    old = segmentation(series.datasets(), numbers, ["a", "b"])
    new = segmentation(series.datasets(), (numbers == 2).astype(np.uint8), ["A"])
    old.ContentDate, new.ContentDate = "20200101", "20210101"
    save(old, tmp_path / "src" / "z-old")
    save(new, tmp_path / "src" / "a-new")

    report = run(tmp_path / "src", tmp_path / "out", labels=("background", "a"))

    np.testing.assert_array_equal(labelled(report, tmp_path / "out"), numbers == 2)


def test_holes_points_and_contours_off_the_slices(tmp_path: Path) -> None:
    """A contour in another one is a hole; what can't be filled is left out with a warning."""
    series, numbers = made(), np.zeros((SHAPE[2], *SHAPE[:2]), np.uint8)
    numbers[2, 1:9, 1:9] = 1
    inner = numbers[2] * 0
    inner[3:6, 3:6] = 1
    series.write(tmp_path / "src")
    label = contours(series, numbers, ["ring"])
    sequence = label.ROIContourSequence[0].ContourSequence
    sequence.append(rectangle(series, 2, inner == 1))
    point, outside = rectangle(series, 2, inner == 1), rectangle(series, 40, inner == 1)
    point.ContourGeometricType = "POINT"
    sequence.extend([point, outside])
    save(label, tmp_path / "src" / "rt")

    report = run(tmp_path / "src", tmp_path / "out")

    assert (labelled(report, tmp_path / "out")[2] == numbers[2] - inner).all()
    [warning] = report.cases[0].warnings
    assert "contours of type POINT are left out" in warning
    assert "contours outside the image are left out" in warning


def test_more_structures_than_label_values(tmp_path: Path) -> None:
    """The fix is to name those to import."""
    series = made()
    series.write(tmp_path / "src")
    label = contours(series, two_structures(), ["a", "b"])
    label.StructureSetROISequence = DicomSequence([item(ROINumber=n, ROIName=f"roi {n}") for n in range(300)])
    save(label, tmp_path / "src" / "rt")

    with pytest.raises(SettingError, match="--labels: the source has 300 structures"):
        run(tmp_path / "src", tmp_path / "out")

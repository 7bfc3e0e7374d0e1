"""A model of two thresholds behind an endpoint, its results, and where their voxels are."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from medloop.commands.hosting.invoking import JSON, Prediction
from medloop.commands.hosting.studies import DICOM, StudyOptions, predict_study
from medloop.dicom.results import Algorithm
from medloop.imaging.files import InMemory
from medloop.imaging.nifti import nifti_labels, read_nifti
from tests.unit.dicom.scanners import CORONAL, SAGITTAL, MadeSeries, oblique

ALGORITHM = Algorithm("medloop-segmentation", "7 sha256:0123456789ab", "0.1.0")
SECRET = "Zaphod-Q42"  # noqa: S105
SERIES = {
    "axial": MadeSeries(),
    "feet first": MadeSeries(orientation=(-1, 0, 0, 0, -1, 0)),
    "coronal": MadeSeries(modality="MR", orientation=CORONAL, intercept=0),
    "sagittal": MadeSeries(modality="MR", orientation=SAGITTAL, intercept=0),
    "oblique": MadeSeries(modality="MR", orientation=oblique(12, -7, 31), intercept=0),
    "gantry tilt": MadeSeries(shear=0.4),
}


class Endpoint:
    """A segmentation model: `bright` voxels are above a threshold, `dark` ones below another.

    Args:
        names: Its classes, without the background.
        has_header: Send the volumes next to a label map, as real-time endpoints do.
    """

    def __init__(self, names: tuple[str, ...] = ("bright", "dark"), *, has_header: bool = True) -> None:
        self.names = names
        self.has_header = has_header
        self.accepted: list[str] = []

    def __call__(self, file: Path, accept: str) -> Prediction:
        """Respond to a request."""
        self.accepted.append(accept)
        if file.suffix == ".png":
            with Image.open(file) as image:
                self.shape = image.size[::-1]
            content = {"probabilities": {"benign": 0.25, "malignant": 0.75}, "operating_point": {"malignant": 0.6}}
            return Prediction(JSON, json.dumps(content).encode(), "")
        volume = read_nifti(file)
        labels = threshold(np.asarray(volume.voxels))
        edge = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000
        sizes = {name: edge * int((labels == number).sum()) for number, name in enumerate(self.names, 1)}
        summary = json.dumps({"unit": "ml", "volumes": sizes})
        if accept == JSON:
            return Prediction(JSON, summary.encode(), "")
        return Prediction(
            accept,
            nifti_labels(labels, volume, InMemory("body", file.read_bytes())),
            summary if self.has_header else "",
        )


def threshold(voxels: NDArray[Any]) -> NDArray[np.uint8]:
    """The labels that the endpoint gives to values."""
    return ((voxels > voxels.max() * 0.7) + 2 * (voxels < voxels.min() + 200)).astype(np.uint8)


def predict(study: Path, out: str = "seg.dcm", endpoint: Endpoint | None = None, **options: Any) -> Dataset:
    """The result of a study as a dataset."""
    warnings: list[str] = options.pop("warnings", [])
    chosen = StudyOptions(out=Path(out), **options)
    response = predict_study(study, chosen, endpoint or Endpoint(), lambda: ALGORITHM, warnings.append)
    assert response.content_type == DICOM
    return pydicom.dcmread(BytesIO(response.body))


def points_of(result: Dataset, number: int) -> set[tuple[float, ...]]:
    """World coordinates (LPS, mm) of a segment's voxels, by PS3.3's formula on the SEG's own elements."""
    points: set[tuple[float, ...]] = set()
    shared = result.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    down, right = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = result.pixel_array.reshape(-1, result.Rows, result.Columns)
    for groups, mask in zip(result.PerFrameFunctionalGroupsSequence, frames, strict=True):
        if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
            continue
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in zip(*np.nonzero(mask), strict=True):
            point = origin + orientation[:3] * right * column + orientation[3:] * down * row
            points.add(tuple(np.round(point, 2) + 0.0))
    return points


def points_in(series: MadeSeries, number: int) -> set[tuple[float, ...]]:
    """World coordinates (LPS, mm) of the voxels that the endpoint gives a label."""
    indices = np.argwhere(threshold(series.values) == number)
    points = indices @ series.affine[:3, :3].T + series.affine[:3, 3]
    return {tuple(np.round(point * (-1, -1, 1), 2) + 0.0) for point in points}


def hide(index: int, dataset: Dataset) -> None:
    """Plant an identifier wherever a hospital may write one, except in the patient module's identification."""
    dataset.PatientName, dataset.PatientSex = "M\u00fcller^J\u00f6rg=\u5c71\u7530", "U"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (
        "PatientComments", "ImageComments", "SeriesDescription", "InstitutionName", "OperatorsName", "StationName",
        "ProtocolName", "AdditionalPatientHistory", "Occupation", "PerformingPhysicianName", "Manufacturer",
        "DeviceSerialNumber", "RequestedProcedureDescription", "NameOfPhysiciansReadingStudy", "InstitutionAddress",
    ):  # fmt: skip
        setattr(dataset, keyword, SECRET)
    block = dataset.private_block(0x0029, SECRET, create=True)
    block.add_new(0x10, "LO", SECRET)


def strip(index: int, dataset: Dataset) -> None:
    """Delete what old and de-identified files don't have."""
    for keyword in (
        "PatientName", "PatientID", "PatientSex", "PatientBirthDate", "StudyID", "StudyDate", "StudyTime",
        "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "SeriesNumber", "SliceThickness",
    ):  # fmt: skip
        delattr(dataset, keyword)

"""Small DICOM series as scanners write them: made in memory, with voxels that are known in world coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def oblique(*degrees: float) -> tuple[float, ...]:
    """Directions of an axial slice that is turned about x, y and z."""
    turned = np.eye(3)
    for axis, angle in enumerate(degrees):
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        turn = np.eye(3)
        first, second = [number for number in range(3) if number != axis]
        turn[[first, first, second, second], [first, second, first, second]] = (cosine, -sine, sine, cosine)
        turned = turn @ turned
    return tuple(np.round(turned[:, :2].T.ravel(), 9).tolist())


@dataclass
class MadeSeries:
    """A series of a scanner.

    Attributes:
        modality: As CT.
        orientation: Directions along a row and along a column.
        shape: Rows, columns, slices.
        spacing: Between rows, between columns, between slices, in mm.
        origin: Of the first slice, in mm (LPS).
        shear: In-plane shift along a column from slice to slice, in mm: a tilted gantry.
        slope, intercept: Of the rescale.
        seed: Decides the voxels and the UIDs.
        patient: PatientID.
        extra: Further elements of each file.
    """

    modality: str = "CT"
    orientation: Sequence[float] = AXIAL
    shape: tuple[int, int, int] = (7, 6, 5)
    spacing: tuple[float, float, float] = (0.8, 0.9, 2.5)
    origin: tuple[float, float, float] = (-101.5, -88.25, 40.0)
    shear: float = 0.0
    slope: float = 1.0
    intercept: float = -1024.0
    seed: int = 1
    patient: str = "PAT-1"
    signed: bool = False
    bits: int = 12
    extra: dict[str, Any] = field(default_factory=dict)

    def uid(self, kind: str) -> str:
        """A UID of this series, the same in each run."""
        return str(generate_uid(entropy_srcs=[kind, str(self.seed)]))

    @property
    def stored(self) -> NDArray[Any]:
        """Stored values [slices, rows, columns]."""
        rows, columns, slices = self.shape
        low, high = (-(1 << (self.bits - 1)), 1 << (self.bits - 1)) if self.signed else (0, 1 << self.bits)
        values = np.random.default_rng(self.seed).integers(low, high, (slices, rows, columns))
        return values.astype(np.int16 if self.signed else np.uint16)

    @property
    def step(self) -> NDArray[np.float64]:
        """From a slice to the next, in mm (LPS)."""
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        return np.asarray(np.cross(row, column) * self.spacing[2] + column * self.shear)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel index (column, row, slice) to mm (RAS), by PS3.3 C.7.6.2.1.1, written down independently."""
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        affine = np.eye(4)
        for axis, vector in enumerate((row * self.spacing[1], column * self.spacing[0], self.step, self.origin)):
            affine[:3, axis] = (-vector[0], -vector[1], vector[2])
        return affine

    @property
    def values(self) -> NDArray[np.float64]:
        """Rescaled values [columns, rows, slices]."""
        return np.asarray(self.stored.transpose(2, 1, 0) * float(self.slope) + self.intercept)

    def dataset(self, index: int) -> Dataset:
        """The file of a slice."""
        dataset = self.common()
        dataset.SOPInstanceUID = self.uid(f"slice {index}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = [f"{value:.9g}" for value in self.origin + index * self.step]
        dataset.ImageOrientationPatient = [f"{value:.9g}" for value in self.orientation]
        dataset.PixelSpacing = [self.spacing[0], self.spacing[1]]
        dataset.SliceThickness = self.spacing[2]
        dataset.RescaleSlope, dataset.RescaleIntercept = self.slope, self.intercept
        set_pixels(dataset, self.stored[index], self.bits)
        for keyword, value in self.extra.items():
            setattr(dataset, keyword, value)
        return dataset

    def common(self) -> Dataset:
        """The elements of patient, study and series."""
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CLASSES[self.modality]
        dataset.PatientName, dataset.PatientID, dataset.PatientSex = "Doe^Jane", self.patient, "F"
        dataset.PatientBirthDate, dataset.PatientAge, dataset.StudyDate = "19600203", "061Y", "20210304"
        dataset.Manufacturer, dataset.ManufacturerModelName = "Maker", "Model 3"
        dataset.InstitutionName, dataset.ProtocolName = "Hospital", "Abdomen"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = self.uid("study"), self.uid("series")
        dataset.StudyID, dataset.SeriesNumber, dataset.StudyTime = "1", 3, "120000"
        dataset.AccessionNumber, dataset.ReferringPhysicianName = "", ""
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = self.uid("frame"), ""
        dataset.Modality, dataset.ImageType = self.modality, ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.PatientPosition = "HFS"
        return dataset

    def datasets(self) -> list[Dataset]:
        """The files of all slices, in order."""
        return [self.dataset(index) for index in range(self.shape[2])]

    def write(self, folder: Path, change: Callable[[int, Dataset], object] = lambda index, dataset: None) -> Path:
        """Write all files.

        Args:
            folder: Made where it is missing.
            change: Changes a slice's dataset before it is written.
        """
        for index, dataset in enumerate(self.datasets()):
            change(index, dataset)
            save(dataset, folder / f"IM{index:04d}.dcm")
        return folder


def set_pixels(dataset: Dataset, pixels: NDArray[Any], bits: int | None = None) -> None:
    """Set grey pixels [rows, columns] or [frames, rows, columns], or colour [rows, columns, 3] in uint8."""
    is_colour = pixels.ndim == 3 and pixels.shape[-1] == 3 and pixels.dtype == np.uint8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3, "RGB") if is_colour else (1, "MONOCHROME2")
    if is_colour:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2] if is_colour or pixels.ndim == 2 else pixels.shape[1:]
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    content = pixels.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)


def save(dataset: Dataset, path: Path) -> Path:
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def multi_frame(series: MadeSeries, order: Sequence[int] | None = None) -> Dataset:
    """An enhanced CT or MR with the slices of a series, in any order of frames."""
    frames = list(order) if order is not None else list(range(series.shape[2]))
    dataset = series.common()
    dataset.SOPClassUID = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1"}[series.modality]
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = series.uid("multi")
    dataset.InstanceNumber, dataset.NumberOfFrames = 1, len(frames)
    set_pixels(dataset, series.stored[frames], series.bits)
    orientation = item(ImageOrientationPatient=list(series.orientation))
    measures = item(PixelSpacing=list(series.spacing[:2]), SliceThickness=series.spacing[2])
    rescale = item(RescaleSlope=series.slope, RescaleIntercept=series.intercept, RescaleType="HU")
    dataset.SharedFunctionalGroupsSequence = DicomSequence([
        item(
            PlaneOrientationSequence=DicomSequence([orientation]),
            PixelMeasuresSequence=DicomSequence([measures]),
            PixelValueTransformationSequence=DicomSequence([rescale]),
        )
    ])  # fmt: skip
    positions = [item(ImagePositionPatient=list(series.origin + index * series.step)) for index in frames]
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(
        [
            item(
                PlanePositionSequence=DicomSequence([position]),
                FrameContentSequence=DicomSequence([
                    item(StackID="1", InStackPositionNumber=number + 1, DimensionIndexValues=[1, number + 1])
                ]),
            )
            for number, position in enumerate(positions)
        ]
    )  # fmt: skip
    return dataset


def item(**elements: Any) -> Dataset:
    """An item of a sequence."""
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def segmentation(
    sources: Sequence[Dataset], masks: NDArray[Any], names: Sequence[str], kind: str = "BINARY", **options: Any
) -> Dataset:
    """A SEG of highdicom over a series.

    Args:
        sources: The series' files.
        masks: [slices, rows, columns] of segment numbers, or [slices, rows, columns, segments] of masks or fractions.
        names: The segments' labels.
        kind: BINARY, FRACTIONAL or LABELMAP.
        options: Of highdicom's Segmentation.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(names, 1)
    ]
    return hd.seg.Segmentation(
        source_images=list(sources),
        pixel_array=masks,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Maker",
        manufacturer_model_name="Model",
        software_versions="1",
        device_serial_number="1",
        **options,
    )

"""Headers of DICOM files: what an import needs of them, and nothing else. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloop.dicom.elements import first_item, in_groups, integer, items, number, numbers, text
from medloop.dicom.files import read_dataset
from medloop.imaging.files import FileError

MAX_FRAMES = 2**16
SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage."""
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_IMAGE = ("Modality", "ImageType", "Rows", "Columns", "NumberOfFrames", "InstanceNumber", "GantryDetectorTilt")
_PIXELS = ("SamplesPerPixel", "BitsStored", "BitsAllocated", "PixelRepresentation", "RescaleSlope", "RescaleIntercept")
_BURNED_IN = ("BurnedInAnnotation", "ConversionType")
_PLANE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_REPETITION = {
    "EchoTime": "echo",
    "DiffusionBValue": "b-value",
    "TemporalPositionIdentifier": "temporal position",
    "TriggerTime": "trigger time",
    "InversionTime": "inversion time",
    "FlipAngle": "flip angle",
    "AcquisitionNumber": "acquisition",
    "AcquisitionTime": "acquisition time",
    "ContentTime": "content time",
}
"""Elements by which slices at one position differ, in the order in which they are tried, and their names."""
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_LABELS = (
    *("ReferencedSeriesSequence", "SegmentSequence", "SegmentationType", "ReferencedFrameOfReferenceSequence"),
    *("StructureSetROISequence", "ContentDate", "ContentTime", "StructureSetDate", "StructureSetTime"),
)
HEADER_TAGS = (*_IDENTITY, "PatientID", *_IMAGE, *_PIXELS, *_BURNED_IN, *_PLANE, *_REPETITION, *_GROUPS, *_LABELS)
"""All that is read, besides the elements that the user's choices name."""
REPETITION_NAMES = ("image type", *_REPETITION.values())
"""Names of a plane's `repetition` values."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice of a series: a file, or a frame of it.

    Attributes:
        path: The file.
        frame: Number of the frame, from 0.
        shape: Rows and columns.
        position: Of the first pixel's centre, in mm, LPS; empty if it is unknown.
        orientation: Directions along a row and along a column (six cosines); empty if unknown.
        spacing: Distance of rows and of columns, in mm; empty if unknown.
        slope, intercept: Of the rescale.
        number: InstanceNumber, or the frame's.
        instance: SOPInstanceUID.
        repetition: Values by which slices at one position differ, in the order of REPETITION_NAMES.
        thickness: SliceThickness in mm; 0 if unknown.
    """

    path: Path
    frame: int
    shape: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    slope: float
    intercept: float
    number: int
    instance: str
    repetition: tuple[str, ...]
    thickness: float = 0.0


@dataclass(frozen=True, slots=True)
class Reference:
    """The images that a SEG or RTSTRUCT labels, and its structures.

    Attributes:
        series: SeriesInstanceUIDs.
        frames: FrameOfReferenceUIDs.
        instances: SOPInstanceUIDs, as far as they are named.
        structures: Names of the structures, by number.
        date: Date and time of the content, as text; later is greater.
    """

    series: frozenset[str]
    frames: frozenset[str]
    instances: frozenset[str]
    structures: dict[int, str]
    date: str


@dataclass(frozen=True, slots=True)
class DicomFile:
    """The header of a file.

    Attributes:
        path: The file.
        sop_class, uid, series, study, frame_of_reference: UIDs.
        modality: As CT.
        patient: PatientID in its normal form; "" if it is empty.
        image_type: Values joined by a backslash, in capitals.
        burned_in: BurnedInAnnotation, in capitals.
        conversion: ConversionType.
        num_frames: 1 for a file without frames.
        num_samples: Colour channels of a pixel.
        stored: Range of the stored values by BitsStored and PixelRepresentation.
        planes: The slices, if it is an image with a geometry; else one without.
        tilt: GantryDetectorTilt in degrees.
        reference: Of a SEG or RTSTRUCT.
        chosen: Values of the elements that the user's choices name, by keyword.
    """

    path: Path
    sop_class: str
    uid: str
    series: str
    study: str
    frame_of_reference: str
    modality: str
    patient: str
    image_type: str
    burned_in: str
    conversion: str
    num_frames: int
    num_samples: int
    stored: tuple[float, float]
    planes: tuple[Plane, ...]
    tilt: float
    reference: Reference | None
    chosen: dict[str, str]


def read_instance(path: Path, chosen: Sequence[str]) -> DicomFile:
    """Read a file's header.

    Args:
        path: The file.
        chosen: Keywords of further elements.

    Raises:
        FileError: It is no DICOM file of a series, is damaged, or exceeds a limit.
    """
    dataset = read_dataset(path, [*HEADER_TAGS, *chosen])
    if not (series := text(dataset, "SeriesInstanceUID")) or not text(dataset, "SOPClassUID"):
        raise FileError(path, "has no SeriesInstanceUID or SOPClassUID; export it again or remove it")
    sop_class = text(dataset, "SOPClassUID")
    is_label = sop_class in SEGMENTATION_CLASSES or sop_class == STRUCTURE_SET
    return DicomFile(
        path=path,
        sop_class=sop_class,
        uid=text(dataset, "SOPInstanceUID"),
        series=series,
        study=text(dataset, "StudyInstanceUID"),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
        modality=text(dataset, "Modality").upper(),
        patient=text(dataset, "PatientID"),
        image_type=text(dataset, "ImageType").upper(),
        burned_in=text(dataset, "BurnedInAnnotation").upper(),
        conversion=text(dataset, "ConversionType").upper(),
        num_frames=_num_frames(dataset, path),
        num_samples=integer(dataset, "SamplesPerPixel", 1),
        stored=_stored_range(dataset),
        planes=() if is_label or not integer(dataset, "Rows") else tuple(planes_of_dataset(dataset, path)),
        tilt=number(dataset, "GantryDetectorTilt") or 0.0,
        reference=read_reference(dataset) if is_label else None,
        chosen={keyword: text(dataset, keyword) for keyword in chosen},
    )


def _num_frames(dataset: Any, path: Path) -> int:
    num = max(1, integer(dataset, "NumberOfFrames", 1))
    if num > MAX_FRAMES:
        raise FileError(path, f"NumberOfFrames is {num}, more than {MAX_FRAMES}; export it again or remove it")
    return num


def _stored_range(dataset: Any) -> tuple[float, float]:
    """Smallest and largest value that the pixels can have; infinite for pixels in floating point."""
    if "BitsStored" not in dataset and integer(dataset, "BitsAllocated") >= 32:
        return -math.inf, math.inf
    bits = min(32, integer(dataset, "BitsStored") or integer(dataset, "BitsAllocated", 16))
    if integer(dataset, "PixelRepresentation"):
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def planes_of_dataset(dataset: Any, path: Path) -> list[Plane]:
    """The slices: one for a file without functional groups, else one for each frame."""
    return list(_planes(dataset, path))


def _planes(dataset: Any, path: Path) -> Iterator[Plane]:
    shape = integer(dataset, "Rows"), integer(dataset, "Columns")
    instance = text(dataset, "SOPInstanceUID")
    shared = first_item(dataset, _GROUPS[0])
    frames = items(dataset, _GROUPS[1])
    if not frames:
        values = (text(dataset, "ImageType").upper(), *(text(dataset, keyword) for keyword in _REPETITION))
        yield Plane(
            path, 0, shape,
            numbers(dataset, _PLANE[0], 3), numbers(dataset, _PLANE[1], 6), numbers(dataset, _PLANE[2], 2),
            *_rescale(dataset), integer(dataset, "InstanceNumber"), instance, values,
            number(dataset, "SliceThickness") or 0.0,
        )  # fmt: skip
        return
    for number_of_frame, frame in enumerate(frames):
        groups = (frame, shared)
        position, orientation = (
            in_groups(groups, "PlanePositionSequence"),
            in_groups(groups, "PlaneOrientationSequence"),
        )
        measures = in_groups(groups, "PixelMeasuresSequence")
        yield Plane(
            path, number_of_frame, shape, numbers(position, _PLANE[0], 3), numbers(orientation, _PLANE[1], 6),
            numbers(measures, _PLANE[2], 2), *_rescale(in_groups(groups, "PixelValueTransformationSequence")),
            number_of_frame, instance, _repetition_of_frame(groups), number(measures, "SliceThickness") or 0.0,
        )  # fmt: skip


def _rescale(dataset: Any) -> tuple[float, float]:
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    return 1.0 if slope is None else slope, intercept or 0.0


def _repetition_of_frame(groups: Sequence[Any]) -> tuple[str, ...]:
    """Values by which frames at one position differ, in the order of REPETITION_NAMES."""
    content = in_groups(groups, "FrameContentSequence")
    kinds = (in_groups(groups, f"{modality}ImageFrameTypeSequence") for modality in ("CT", "MR"))
    return (
        next((kind for kind in (text(item, "FrameType").upper() for item in kinds) if kind), ""),
        text(in_groups(groups, "MREchoSequence"), "EffectiveEchoTime"),
        text(in_groups(groups, "MRDiffusionSequence"), "DiffusionBValue"),
        text(content, "TemporalPositionIndex"),
        text(in_groups(groups, "CardiacSynchronizationSequence"), "NominalCardiacTriggerDelayTime"),
        text(in_groups(groups, "MRModifierSequence"), "InversionTimes"),
        text(in_groups(groups, "MRTimingAndRelatedParametersSequence"), "FlipAngle"),
        text(content, "FrameAcquisitionNumber"),
        text(content, "FrameAcquisitionDateTime"),
        text(content, "FrameReferenceDateTime"),
    )


def read_reference(dataset: Any) -> Reference:
    """Read what a SEG or RTSTRUCT says of its images and structures."""
    series, frames, instances = set[str](), {text(dataset, "FrameOfReferenceUID")}, set[str]()
    for item in items(dataset, "ReferencedSeriesSequence"):
        series.add(text(item, "SeriesInstanceUID"))
        instances |= {text(each, "ReferencedSOPInstanceUID") for each in items(item, "ReferencedInstanceSequence")}
    for frame in items(dataset, "ReferencedFrameOfReferenceSequence"):
        frames.add(text(frame, "FrameOfReferenceUID"))
        for study in items(frame, "RTReferencedStudySequence"):
            for item in items(study, "RTReferencedSeriesSequence"):
                series.add(text(item, "SeriesInstanceUID"))
                instances |= {text(each, "ReferencedSOPInstanceUID") for each in items(item, "ContourImageSequence")}
    segments = {integer(item, "SegmentNumber"): _segment_name(item) for item in items(dataset, "SegmentSequence")}
    segments.pop(0, None)  # The background of a label map.
    rois = {integer(item, "ROINumber"): text(item, "ROIName") for item in items(dataset, "StructureSetROISequence")}
    dates = (text(dataset, name) for name in ("ContentDate", "ContentTime", "StructureSetDate", "StructureSetTime"))
    return Reference(
        frozenset(series - {""}),
        frozenset(frames - {""}),
        frozenset(instances - {""}),
        segments | rois,
        " ".join(dates),
    )


def _segment_name(item: Any) -> str:
    code = first_item(item, "SegmentedPropertyTypeCodeSequence")
    return text(item, "SegmentLabel") or text(code, "CodeMeaning") or f"segment {integer(item, 'SegmentNumber')}"

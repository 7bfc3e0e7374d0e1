"""A label map as DICOM SEG on the slices of its series: binary, each frame at its source's position. Torch-free.

highdicom builds the object on stand-ins of the slices, which have their positions and no other element; then the
references are those of the real files. So frames of enhanced images, and series in several files, need no other way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.dicom.instances import DicomFile, Plane
from medloop.dicom.result_codes import ClassCode, long_text
from medloop.dicom.results import (
    NOT_FOR_DIAGNOSIS,
    Algorithm,
    ResultSource,
    coded,
    common_options,
    finish,
    load_highdicom,
    quiet,
    reference_dataset,
)
from medloop.dicom.stacks import RAS_FROM_LPS, Stack
from medloop.errors import DataError

CONTENT_LABEL = "NOT_DIAGNOSTIC"
"""ContentLabel: 16 characters at most."""
_SINGLE_FRAME = "1.2.840.10008.5.1.4.1.1.2"
"""The class of stand-ins: CT Image Storage."""


def make_segmentation(
    source: ResultSource,
    stack: Stack,
    labels: NDArray[np.uint8],
    classes: Sequence[tuple[str, ClassCode]],
    algorithm: Algorithm,
    description: str,
) -> Any:
    """Make a SEG with one segment for each class.

    Args:
        source: The series.
        stack: The slices that were segmented.
        labels: [columns, rows, slices] in the order of the stack.
        classes: Names and codes of label values 1, 2, ...
        algorithm: The model.
        description: SeriesDescription.

    Raises:
        DataError: The label map has another shape, or values without a class.
    """
    if labels.shape != stack.shape:
        raise DataError(
            f"the label map has shape {labels.shape}, and the series {stack.shape}; check the endpoint's log"
        )
    if (largest := int(labels.max(initial=0))) > len(classes):
        raise DataError(
            f"the label map has the value {largest}, and the model {len(classes)} structures; deploy it again"
        )
    hd = load_highdicom()
    files = {file.path: file for file in source.files}
    stand_ins = [_stand_in(files[plane.path], plane, stack, number) for number, plane in enumerate(stack.planes)]
    with quiet():
        result = hd.seg.Segmentation(
            source_images=stand_ins,
            pixel_array=np.ascontiguousarray(labels.transpose(2, 1, 0)),
            segmentation_type="BINARY",
            segment_descriptions=_describe_segments(classes, algorithm),
            content_label=CONTENT_LABEL,
            content_description=long_text(NOT_FOR_DIAGNOSIS.capitalize()),
            **common_options(source, algorithm, description),
        )
        _refer_to_files(
            result,
            {str(each.SOPInstanceUID): plane for each, plane in zip(stand_ins, stack.planes, strict=True)},
            files,
        )
    return finish(result, source)


def _stand_in(file: DicomFile, plane: Plane, stack: Stack, number: int) -> Any:
    """A slice as highdicom needs it; orientations that differ by rounding are those of the first slice."""
    from pydicom.uid import generate_uid
    from pydicom.valuerep import DSfloat

    first = stack.planes[0]
    distance = _distance_of_slices(stack)
    dataset = reference_dataset(file)
    dataset.SOPClassUID = _SINGLE_FRAME
    dataset.SOPInstanceUID = generate_uid()
    dataset.FrameOfReferenceUID = file.frame_of_reference or generate_uid(entropy_srcs=[file.series])
    dataset.InstanceNumber = number + 1
    dataset.Rows, dataset.Columns = plane.shape
    dataset.ImagePositionPatient = [DSfloat(value, auto_format=True) for value in plane.position]
    dataset.ImageOrientationPatient = [DSfloat(value, auto_format=True) for value in first.orientation]
    dataset.PixelSpacing = [DSfloat(value, auto_format=True) for value in first.spacing]
    dataset.SliceThickness = DSfloat(first.thickness or distance, auto_format=True)
    dataset.SpacingBetweenSlices = DSfloat(distance, auto_format=True)
    return dataset


def _distance_of_slices(stack: Stack) -> float:
    """Along their normal, in mm."""
    step = (RAS_FROM_LPS @ stack.affine)[:3, 2]
    orientation = stack.planes[0].orientation
    return abs(float(step @ np.cross(orientation[:3], orientation[3:])))


def _describe_segments(classes: Sequence[tuple[str, ClassCode]], algorithm: Algorithm) -> list[Any]:
    hd = load_highdicom()
    family = hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence")
    identification = hd.AlgorithmIdentificationSequence(
        name=long_text(algorithm.name), family=family, version=long_text(algorithm.version), source="medloop"
    )
    return [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=long_text(name),
            segmented_property_category=coded(code.category),
            segmented_property_type=coded(code),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identification,
        )
        for number, (name, code) in enumerate(classes, 1)
    ]


def _refer_to_files(result: Any, planes: Mapping[str, Plane], files: Mapping[Any, DicomFile]) -> None:
    """Replace the references to stand-ins by those to the files, and to the frames of files that have several."""
    from pydicom.dataset import Dataset

    for frame in result.PerFrameFunctionalGroupsSequence:
        for derivation in frame.DerivationImageSequence:
            for item in derivation.SourceImageSequence:
                plane = planes.get(str(item.ReferencedSOPInstanceUID))
                if plane is None:  # Segments share the items of a slice: this one was replaced before.
                    continue
                file = files[plane.path]
                item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = file.sop_class, file.uid
                if file.num_frames > 1:
                    item.ReferencedFrameNumber = plane.frame + 1
    (series,) = result.ReferencedSeriesSequence
    unique = dict.fromkeys(files[plane.path].uid for plane in planes.values())
    class_of = {file.uid: file.sop_class for file in files.values()}
    references = []
    for uid in unique:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = class_of[uid], uid
        references.append(item)
    series.ReferencedInstanceSequence = references

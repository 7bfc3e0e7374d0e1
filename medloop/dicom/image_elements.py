"""Elements that stay in a de-identified file, by keyword (PS3.15 annex E lists those that go). Torch-free."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from typing import Any

_CODE_TEXT = re.compile(r"[A-Z0-9_ ]{0,16}")

_IMAGE_NAMES = (
    # What an image is, and which objects belong together: UIDs are replaced.
    "SpecificCharacterSet ImageType SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID "
    "Modality ConversionType BurnedInAnnotation LossyImageCompression LossyImageCompressionRatio PatientPosition "
    "InstanceNumber SeriesNumber AcquisitionNumber ImagesInAcquisition NumberOfFrames Laterality ImageLaterality "
    "ViewPosition BodyPartExamined PresentationIntentType SynchronizationFrameOfReferenceUID "
    # Pixels.
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration Rows Columns BitsAllocated BitsStored HighBit "
    "PixelRepresentation PixelData FloatPixelData DoubleFloatPixelData ExtendedOffsetTable ExtendedOffsetTableLengths "
    "PixelAspectRatio PixelPaddingValue PixelPaddingRangeLimit SmallestImagePixelValue LargestImagePixelValue "
    "RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor "
    "BluePaletteColorLookupTableDescriptor "
    "RedPaletteColorLookupTableData GreenPaletteColorLookupTableData BluePaletteColorLookupTableData "
    "RescaleSlope RescaleIntercept RescaleType ModalityLUTSequence "
    "VOILUTSequence LUTDescriptor LUTData ModalityLUTType "
    "WindowCenter WindowWidth VOILUTFunction PresentationLUTShape PixelIntensityRelationship "
    "PixelIntensityRelationshipSign "
    # Positions.
    "ImagePositionPatient ImageOrientationPatient PixelSpacing ImagerPixelSpacing SliceThickness SpacingBetweenSlices "
    "SliceLocation GantryDetectorTilt ReconstructionDiameter TemporalPositionIdentifier NumberOfTemporalPositions "
    # Acquisition.
    "KVP ExposureTime XRayTubeCurrent Exposure ScanOptions DataCollectionDiameter "
    "SpiralPitchFactor CTDIvol EchoTime RepetitionTime InversionTime FlipAngle EchoNumbers EchoTrainLength "
    "MagneticFieldStrength ImagingFrequency NumberOfAverages PixelBandwidth MRAcquisitionType ScanningSequence "
    "SequenceVariant VariableFlipAngleFlag InPlanePhaseEncodingDirection DiffusionBValue TriggerTime "
    "DistanceSourceToDetector DistanceSourceToPatient CompressionForce BodyPartThickness AnodeTargetMaterial "
    # PET.
    "Units DecayCorrection CountsSource SeriesType DecayFactor FrameReferenceTime ActualFrameDuration "
    "RadiopharmaceuticalInformationSequence RadionuclideTotalDose RadionuclideHalfLife RadionuclidePositronFraction "
    "CorrectedImage SliceSensitivityFactor DoseCalibrationFactor "
    # Functional groups of multi-frame images, and segmentations.
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PlanePositionSequence PlaneOrientationSequence "
    "PixelMeasuresSequence PixelValueTransformationSequence FrameVOILUTSequence FrameContentSequence StackID "
    "InStackPositionNumber DimensionIndexValues TemporalPositionIndex FrameAcquisitionNumber "
    "CTImageFrameTypeSequence MRImageFrameTypeSequence FrameType PixelPresentation VolumetricProperties "
    "VolumeBasedCalculationTechnique MREchoSequence "
    "EffectiveEchoTime MRDiffusionSequence DimensionOrganizationSequence "
    "DimensionOrganizationUID DimensionIndexSequence DimensionIndexPointer FunctionalGroupPointer "
    "DimensionOrganizationType SegmentationType SegmentationFractionalType MaximumFractionalValue SegmentsOverlap "
    "SegmentSequence SegmentNumber SegmentAlgorithmType SegmentIdentificationSequence ReferencedSegmentNumber "
    "SegmentedPropertyCategoryCodeSequence SegmentedPropertyTypeCodeSequence AnatomicRegionSequence "
    "RecommendedDisplayCIELabValue DerivationImageSequence SourceImageSequence ReferencedSOPClassUID "
    "ReferencedSOPInstanceUID ReferencedFrameNumber ReferencedSeriesSequence ReferencedInstanceSequence "
    "DerivationCodeSequence PurposeOfReferenceCodeSequence ViewCodeSequence RadionuclideCodeSequence "
    # Structure sets: numbers and points; names of structures are free text.
    "StructureSetROISequence ROINumber ReferencedFrameOfReferenceUID ReferencedFrameOfReferenceSequence "
    "RTReferencedStudySequence RTReferencedSeriesSequence ContourImageSequence ROIContourSequence ReferencedROINumber "
    "ContourSequence ContourGeometricType NumberOfContourPoints ContourData ROIDisplayColor"
)
IMAGE_ELEMENTS = frozenset(_IMAGE_NAMES.split())
CODES = frozenset({"CodeValue", "CodingSchemeDesignator"})
"""Elements of a code, which stay if its scheme is public; its meaning is written again from the code."""
STANDARD_SCHEMES = frozenset({"DCM", "SCT", "SRT", "UCUM", "FMA", "RADLEX", "LN"})
TEXT_VRS = frozenset({"AE", "AS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
"""Types of elements in which any text fits."""
_KNOWN_TEXTS = frozenset({"HU", "US", "OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"})
"""Values of RescaleType (PS3.3 C.11.1.1.2)."""
_DEVICE_NAMES = (
    "Manufacturer ManufacturerModelName DeviceSerialNumber SoftwareVersions StationName DetectorID "
    "GantryID DetectorType"
)
DEVICE = frozenset(_DEVICE_NAMES.split())
"""Elements that the option to retain the device keeps."""
_DATES_NAMES = (
    "StudyDate SeriesDate AcquisitionDate ContentDate AcquisitionDateTime RadiopharmaceuticalStartDateTime "
    "FrameAcquisitionDateTime FrameReferenceDateTime StructureSetDate"
)
DATES = frozenset(_DATES_NAMES.split())
"""Dates that the option to retain modified dates moves; a date of birth is none of them."""
_TIMES_NAMES = "StudyTime SeriesTime AcquisitionTime ContentTime RadiopharmaceuticalStartTime StructureSetTime"
TIMES = frozenset(_TIMES_NAMES.split())
EMPTY = (
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "SeriesNumber", "InstanceNumber", "Manufacturer", "PositionReferenceIndicator"),
)
"""Elements that each image must have, empty where they go (type 2)."""


def code_texts(value: Any) -> list[str]:
    """The values of a CS element that are as the standard allows."""
    values = value if hasattr(value, "append") else [value]
    return [str(each) for each in values if each and _CODE_TEXT.fullmatch(str(each))]


def is_known_text(value: Any) -> bool:
    """True if a text is one that the standard defines, or a small number, as of a stack."""
    name = str(value)
    return name in _KNOWN_TEXTS or (name.isdigit() and len(name) <= 3)


@cache
def code_meanings() -> dict[tuple[str, str], str]:
    """Meanings of the codes that pydicom knows, by scheme and value."""
    from pydicom.sr.codedict import codes

    meanings = {}
    for scheme in (getattr(codes, name) for name in STANDARD_SCHEMES if name in codes.collections):
        for name in scheme.dir():
            with suppress(RuntimeError):  # A keyword of several codes.
                code = getattr(scheme, name)
                meanings[code.scheme_designator, code.value] = code.meaning
    return meanings

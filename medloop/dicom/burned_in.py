"""Images in whose pixels a patient's name may be. Torch-free."""

from __future__ import annotations

from medloop.dicom.instances import DicomFile

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_ULTRASOUND = ("US", "IVUS")
_CAPTURED = {"DV": "digitized video", "DI": "digital interface", "DF": "digitized film", "WSD": "workstation"}
"""ConversionType, as in PS3.3 C.8.6.1."""
_SCREENS = ("SCREEN SAVE", "SCREENSHOT", "SCREEN CAPTURE", "SCREEN_CAPTURE", "CAPTURE", "DOSE_INFO", "DOSE")


def describe_risk(instance: DicomFile) -> str:
    """The reason for which text in the pixels is likely; "" if it is not."""
    if instance.burned_in == "YES":
        return "BurnedInAnnotation is YES"
    if instance.modality in _ULTRASOUND:
        return "ultrasound images mostly show the patient's name"
    if f"{instance.sop_class}.".startswith(f"{_SECONDARY_CAPTURE}."):
        return "is a secondary capture"
    if instance.conversion in _CAPTURED:
        return f"ConversionType is {instance.conversion} ({_CAPTURED[instance.conversion]})"
    if any(kind in instance.image_type.split("\\") for kind in _SCREENS):
        return "is a screenshot (ImageType)"
    return ""

"""De-identification of DICOM files by PS3.15 annex E: basic profile, with two of its options. Torch-free.

The profile lists what is to be removed; here the elements that stay are listed instead, which is stricter: what the
list doesn't name, a private or a future element, is removed in every depth. Pseudonyms, UIDs and shifts of dates are
keyed (HMAC-SHA256), so that files of one patient, study or frame of reference still belong together in each later run.
Pixels are unchanged: images with burned-in text are the caller's to hold back (`medloop.dicom.burned_in`).
"""

from __future__ import annotations

import hmac
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from medloop.dicom.elements import integer, text
from medloop.dicom.image_elements import (
    CODES,
    DATES,
    DEVICE,
    EMPTY,
    IMAGE_ELEMENTS,
    STANDARD_SCHEMES,
    TEXT_VRS,
    TIMES,
    code_meanings,
    code_texts,
    is_known_text,
)
from medloop.dicom.library import load_pydicom
from medloop.imaging.identity import patient_pseudonym

MAX_SHIFT = 3650
"""Days by which a patient's dates move into the past, at most."""
MAX_DEPTH = 16
"""Sequences in sequences; what is deeper is removed."""
_CODE = re.compile(r"[A-Za-z0-9._\[\]{}/%-]{1,16}")
METHODS = {
    "basic": ("113100", "Basic Application Confidentiality Profile"),
    "dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "device": ("113109", "Retain Device Identity Option"),
}
"""Codes of the profile and its options (PS3.16, CID 7050)."""


@dataclass(frozen=True)
class Retained:
    """Options of the profile.

    Attributes:
        dates: Keep dates, moved by a number of days that is the patient's, and times of day.
        device: Keep the scanner's maker, model, serial number and software.
    """

    dates: bool = False
    device: bool = False


def deidentify(dataset: Any, key: bytes, retained: Retained | None = None) -> Any:
    """De-identify a file.

    Args:
        dataset: The file as pydicom reads it; it is unchanged.
        key: Of pseudonyms, UIDs and shifts.
        retained: Options of the profile; none by default.

    Returns:
        A new dataset with file meta information.
    """
    pydicom, retained = load_pydicom(), retained or Retained()
    patient = text(dataset, "PatientID") or text(dataset, "StudyInstanceUID")
    cleaner = _Cleaner(key, patient, retained)
    result = cleaner.clean(dataset, 0)
    name = patient_pseudonym(key, patient)
    result.PatientName, result.PatientID = name, name
    for keyword in EMPTY:
        if keyword not in result:
            setattr(result, keyword, "")
    _trim_pixels(result)
    _state_method(result, retained)
    result.file_meta = pydicom.dataset.FileMetaDataset()
    result.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    result.file_meta.MediaStorageSOPClassUID = result.get("SOPClassUID", "")
    result.file_meta.MediaStorageSOPInstanceUID = result.get("SOPInstanceUID", "")
    return result


def new_uid(key: bytes, uid: str) -> str:
    """The UID that replaces another one; those that the standard defines stay (PS3.5 B.2: 2.25 and a number)."""
    from pydicom.uid import UID_dictionary

    if uid in UID_dictionary:
        return str(uid)
    return f"2.25.{int.from_bytes(hmac.digest(key, f'uid:{uid}'.encode(), 'sha256')[:16], 'big')}"


def _state_method(result: Any, retained: Retained) -> None:
    """Say in the file how it was de-identified, as the profile requires."""
    from pydicom.dataset import Dataset

    names = ["basic", *(name for name in ("dates", "device") if getattr(retained, name))]
    result.PatientIdentityRemoved = "YES"
    result.DeidentificationMethod = [METHODS[name][1][:64] for name in names]
    result.LongitudinalTemporalInformationModified = "MODIFIED" if retained.dates else "REMOVED"
    result.DeidentificationMethodCodeSequence = []
    for name in names:
        item = Dataset()
        item.CodeValue, item.CodeMeaning = METHODS[name][0], METHODS[name][1][:64]
        item.CodingSchemeDesignator = "DCM"
        result.DeidentificationMethodCodeSequence.append(item)


class _Cleaner:
    """Copies the elements that stay.

    Args:
        key: Of UIDs and shifts.
        patient: Decides the shift.
        retained: Options of the profile.
    """

    def __init__(self, key: bytes, patient: str, retained: Retained) -> None:
        self._key = key
        self._retained = retained
        digest = hmac.digest(key, f"shift:{patient}".encode(), "sha256")
        self._shift = timedelta(days=1 + int.from_bytes(digest[:4], "big") % MAX_SHIFT)

    def clean(self, dataset: Any, depth: int) -> Any:
        """Copy a dataset or an item of a sequence."""
        from pydicom.dataset import Dataset

        result = Dataset()
        scheme = text(dataset, "CodingSchemeDesignator")
        for tag in sorted(dataset.keys()):
            if tag.is_private:
                continue
            # A malformed element goes: its conversion raises what it meets.
            with suppress(Exception):
                cleaned = self._element(dataset[tag], depth, scheme in STANDARD_SCHEMES)
                if cleaned is not None:
                    result[tag] = cleaned
        if "CodeValue" in result:
            result.CodeMeaning = code_meanings().get((scheme, result.CodeValue), result.CodeValue)
        return result

    def _element(self, element: Any, depth: int, is_standard_code: bool) -> Any:
        """The element as it stays; None if it goes."""
        keyword, vr = element.keyword, element.VR
        if not _has_own_type(element):
            return None
        if vr == "SQ":
            return self._sequence(element, depth) if keyword in IMAGE_ELEMENTS else None
        if keyword in CODES:
            return element if is_standard_code and _CODE.fullmatch(str(element.value)) else None
        if keyword in DEVICE:
            return element if self._retained.device else None
        if keyword in DATES or keyword in TIMES:
            return self._moment(element) if self._retained.dates else None
        return self._value(element) if keyword in IMAGE_ELEMENTS else None

    def _sequence(self, element: Any, depth: int) -> Any:
        if depth >= MAX_DEPTH:
            return None
        return _with_value(element, [self.clean(item, depth + 1) for item in element.value])

    def _value(self, element: Any) -> Any:
        """The element with another UID, and without text that the standard doesn't define."""
        value = element.value
        if element.VR == "UI":
            is_list = hasattr(value, "append")
            uids = [new_uid(self._key, uid) for uid in (value if is_list else [value])]
            return _with_value(element, uids if is_list else uids[0])
        if element.VR == "CS":
            return _with_value(element, code_texts(value))
        return element if element.VR not in TEXT_VRS or is_known_text(value) else None

    def _moment(self, element: Any) -> Any:
        """A date (DA, DT), moved by the patient's days, or a time of day; None if it is neither."""
        value = str(element.value)
        if element.VR == "TM":
            return element if _is_time(value) else None
        moved = date(int(value[:4]), int(value[4:6]), int(value[6:8])) - self._shift
        rest = value[8:]
        return _with_value(element, f"{moved:%Y%m%d}{rest}") if not rest or _is_time(rest) else None


def _has_own_type(element: Any) -> bool:
    """True if an element has the type (VR) of its tag: in another one, a text could be where a number belongs."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    if not dictionary_has_tag(element.tag):
        return False
    usual = dictionary_VR(element.tag)
    return bool(usual == element.VR or element.VR in usual.split(" or "))


def _with_value(element: Any, value: Any) -> Any:
    from pydicom.dataelem import DataElement

    return DataElement(element.tag, element.VR, value)


def _is_time(value: str) -> bool:
    """True if a text is a time of day, with or without a time zone."""
    return 0 < len(value) <= 22 and all(sign.isdigit() or sign in ".+-:" for sign in value)


def _trim_pixels(result: Any) -> None:
    """Cut what follows the pixels in their element."""
    if "PixelData" not in result or result["PixelData"].is_undefined_length:
        return
    per_frame = integer(result, "Rows") * integer(result, "Columns") * integer(result, "SamplesPerPixel", 1)
    needed = (per_frame * integer(result, "NumberOfFrames", 1) * integer(result, "BitsAllocated") + 7) // 8
    pixels = result.PixelData
    if 0 < needed < len(pixels):
        result.PixelData = pixels[:needed] + bytes(needed % 2)

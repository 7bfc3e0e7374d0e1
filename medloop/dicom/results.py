"""The common part of DICOM results: the patient and study of the source, and nothing else of it. Torch-free."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from medloop.dicom.elements import integer, tag_of
from medloop.dicom.files import read_dataset
from medloop.dicom.instances import DicomFile
from medloop.dicom.library import load_pydicom
from medloop.dicom.result_codes import PRIVATE_SCHEME, Code, long_text
from medloop.errors import UserError

NOT_FOR_DIAGNOSIS = "not for diagnosis"
MANUFACTURER = "medloop"
PATIENT_TAGS = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex"),
    *("PatientIdentityRemoved", "DeidentificationMethod"),
)
"""The patient module without its comments and other free text."""
STUDY_TAGS = (
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber"),
    "ReferringPhysicianName",
)
"""The general study module, as far as archives compare it."""
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""Elements of type 2: present in a result even where the source lacks them."""
FIRST_SERIES = 9000
MAX_SERIES = 2**31 - 1 - FIRST_SERIES


@dataclass(frozen=True)
class Algorithm:
    """The model of a result.

    Attributes:
        name: The model group.
        version: The version's number and the model's digest.
        release: medloop's version.
    """

    name: str
    version: str
    release: str


@dataclass(frozen=True)
class ResultSource:
    """A series of the archive that a result is about.

    Attributes:
        files: Its files.
        identity: Patient and study, of the first file.
        series_number: SeriesNumber; 0 if there is none.
    """

    files: tuple[DicomFile, ...]
    identity: Any
    series_number: int

    @classmethod
    def read(cls, files: Sequence[DicomFile]) -> ResultSource:
        """Read the patient and the study of a series.

        Raises:
            FileError: The file can't be read.
        """
        header = read_dataset(files[0].path, [*PATIENT_TAGS, *STUDY_TAGS, "SeriesNumber", "SpecificCharacterSet"])
        header.decode()
        return cls(tuple(files), header, integer(header, "SeriesNumber"))


def load_highdicom() -> Any:
    """Import highdicom.

    Raises:
        UserError: The extra `dicom` is not installed.
    """
    load_pydicom()
    try:
        import highdicom
    except ImportError as error:
        raise UserError(f"DICOM: package {error.name} is not installed; run pip install 'medloop[dicom]'") from None
    return highdicom


def coded(code: Code) -> Any:
    """A code as highdicom's."""
    return load_highdicom().sr.CodedConcept(code.value, code.scheme, code.meaning)


def reference_dataset(file: DicomFile) -> Any:
    """The elements that highdicom needs of an image that a result refers to; the patient is copied afterwards."""
    from pydicom.dataset import Dataset

    dataset = Dataset()
    for keyword in _EMPTY:
        setattr(dataset, keyword, "")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = file.study, file.series
    dataset.SOPClassUID, dataset.SOPInstanceUID = file.sop_class, file.uid
    dataset.Modality = file.modality
    return dataset


def common_options(source: ResultSource, algorithm: Algorithm, description: str) -> dict[str, Any]:
    """Highdicom's arguments of a result's series and equipment."""
    hd = load_highdicom()
    from pydicom.uid import generate_uid

    number = source.series_number if 0 < source.series_number <= MAX_SERIES else 0
    return {
        "series_instance_uid": generate_uid(),
        "sop_instance_uid": generate_uid(),
        "series_number": FIRST_SERIES + number,
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": long_text(algorithm.name),
        "device_serial_number": long_text(algorithm.version),
        "software_versions": (long_text(f"medloop {algorithm.release}"), long_text(algorithm.version)),
        "series_description": long_text(description),
        "coding_schemes": [
            hd.coding_schemes.CodingSchemeIdentificationItem(PRIVATE_SCHEME, name="medloop: names of a model's classes")
        ],
    }


def finish(result: Any, source: ResultSource) -> Any:
    """Copy patient and study as the source has them, and choose a character set that has all names."""
    for keyword in (*PATIENT_TAGS, *STUDY_TAGS):
        if keyword in source.identity:
            result[tag_of(keyword)] = source.identity[tag_of(keyword)]
    result.SpecificCharacterSet = "ISO_IR 192"
    return result


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out warnings of two libraries about values that are the source's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def to_bytes(result: Any) -> bytes:
    """A result as a file's content."""
    buffer = BytesIO()
    with quiet():
        result.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()

"""Predictions of DICOM studies: a series is sent as an import reads it, and the response returns as DICOM."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medloop.commands.hosting.invoking import CONTENT_TYPES, JSON, Prediction, accept_for, served_container
from medloop.documents.artefact import MODEL_DIGEST_VARIABLE
from medloop.errors import DataError, SettingError
from medloop.imaging.files import FileError, InMemory
from medloop.imaging.formats import find_suffix

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

    from medloop.dicom.result_codes import ClassCode
    from medloop.dicom.results import Algorithm, ResultSource
    from medloop.importing.dicom_study import StudySeries

DICOM = "application/dicom"
NIFTI = "application/x-nifti"
SUFFIX = ".dcm"
_REPORT = re.compile(r"(^|.*[._ -])sr\.dcm", re.IGNORECASE)
"""Names of files of structured reports."""
_DIGITS = 12
Send = Callable[[Path, str], Prediction]
"""Sends a file to the endpoint, and returns the response in a media type."""


@dataclass(frozen=True)
class StudyOptions:
    """Choices of the user.

    Attributes:
        out: The output file; its name chooses the form.
        accept: Media type of the response, if the form is the endpoint's.
        series: SeriesInstanceUID, or "" if the study has one series.
        codes: YAML with the codes of classes.
        description: SeriesDescription of the result.
        pet: Values of PET: `suv` or `stored`.
        store: URL of the DICOMweb server that gets the result; "" for none.
    """

    out: Path | None = None
    accept: str | None = None
    series: str = ""
    codes: Path | None = None
    description: str = ""
    pet: str = "suv"
    store: str = ""

    @property
    def is_dicom(self) -> bool:
        """True if the result is DICOM.

        Raises:
            SettingError: `store` is specified for another form.
        """
        has_name = self.out is not None and self.out.name.lower().endswith(SUFFIX)
        if self.store and self.out is not None and not has_name:
            raise SettingError(f"--out {self.out}: is no DICOM file, which --store sends; name it {SUFFIX}")
        return has_name or bool(self.store)

    @property
    def is_report(self) -> bool:
        """True if a structured report is requested by name."""
        return self.out is not None and _REPORT.fullmatch(self.out.name) is not None

    def require_file(self, file: Path) -> None:
        """Refuse options of studies for another file.

        Raises:
            SettingError: One is specified.
        """
        options = {"--series": self.series, "--codes": self.codes, "--description": self.description}
        options["--store"] = self.store
        for name, value in options.items():
            if value:
                raise SettingError(
                    f"{name} {value}: is for DICOM, and {file} is none; give a DICOM series, or leave it out"
                )


def is_study(file: Path) -> bool:
    """True if a path is a folder, an archive or a DICOM file; a name that a model's format has decides otherwise."""
    from medloop.dicom.files import is_dicom
    from medloop.importing.archives import is_archive

    if not file.is_file():
        return file.is_dir()
    return find_suffix(file.name, CONTENT_TYPES) is None and (is_archive(file) or is_dicom(file))


def predict_study(
    study: Path,
    options: StudyOptions,
    send: Send,
    algorithm: Callable[[], Algorithm],
    warn: Callable[[str], None],
) -> Prediction:
    """Predict a series of a study.

    Args:
        study: A folder, an archive, a DICOMDIR or a DICOM file.
        options: The user's.
        send: Sends a request to the endpoint.
        algorithm: Describes the endpoint's model; called if the result is DICOM.
        warn: Called with each warning about the series.

    Returns:
        A SEG or structured report; else the endpoint's response.

    Raises:
        UserError: The study, an option or the response can't be used.
    """
    from medloop.dicom.result_codes import read_codes
    from medloop.importing.dicom_study import open_series

    accept = JSON if options.is_dicom else accept_for(options.out, options.accept)
    codes = read_codes(options.codes) if options.codes else {}
    with (
        tempfile.TemporaryDirectory(prefix="medloop-") as scratch,
        open_series(study, options.series, Path(scratch, "archive")) as series,
    ):
        for warning in series.warnings:
            warn(f"{study}: {warning}")
        file = _write(study, series, Path(scratch), options.pet)
        if not options.is_dicom:
            return send(file, accept)
        request = ResultRequest(study, file, series, options, codes, send, algorithm, warn)
        return request.report() if options.is_report or series.volume is None else request.segmentation()


def _write(study: Path, series: StudySeries, folder: Path, pet: str) -> Path:
    try:
        return series.write(folder, pet)
    except FileError as error:
        raise DataError(f"{study}: {error}") from None


@dataclass(frozen=True)
class ResultRequest:
    """A series whose prediction is to be DICOM."""

    study: Path
    file: Path
    series: StudySeries
    options: StudyOptions
    codes: Mapping[str, ClassCode]
    send: Send
    algorithm: Callable[[], Algorithm]
    warn: Callable[[str], None]

    def segmentation(self) -> Prediction:
        """The label map as SEG."""
        from medloop.dicom.segmentation_writer import make_segmentation
        from medloop.imaging.nifti import read_nifti

        if not self.series.files[0].frame_of_reference:
            self.warn(
                f"{self.study}: FrameOfReferenceUID is missing; the result has one of its own, which viewers may refuse"
            )
        volume = self.series.volume
        assert volume is not None  # noqa: S101 (the caller's choice)
        response = self.send(self.file, NIFTI)
        label_map = read_nifti(InMemory("the endpoint's label map", response.body))
        if not np.allclose(label_map.affine, volume.stack.affine, atol=1e-3):
            raise DataError(f"{self.study}: the endpoint's label map is on another grid; check the endpoint's log")
        names = self._structures(response)
        result = make_segmentation(
            self._source(),
            volume.stack,
            label_map.voxels.astype(np.uint8),
            list(zip(names, self._codes(names), strict=True)),
            self.algorithm(),
            self._description("segmentation"),
        )
        return _as_prediction(result, response.attributes)

    def report(self) -> Prediction:
        """Volumes or probabilities as a structured report."""
        from medloop.dicom.report_writer import make_class_report, make_volume_report

        response = self.send(self.file, JSON)
        summary = response.summary
        common = self.algorithm(), self._description("report")
        if "probabilities" in summary:
            values = summary["probabilities"]
            points = summary.get("operating_point") or {}
            result = make_class_report(self._source(), values, points, self._codes(list(values)), *common)
        elif summary.get("unit") == "ml":
            values = summary["volumes"]
            result = make_volume_report(self._source(), values, self._codes(list(values)), *common)
        else:
            raise DataError(
                f"{self.study}: the response has neither probabilities nor volumes in ml; give --out x.json"
            )
        return _as_prediction(result, response.body.decode())

    def _structures(self, response: Prediction) -> list[str]:
        """Names by label value from 1: of the response's volumes, else (long names, a queue) of a second request."""
        if "volumes" in response.summary:
            return list(response.summary["volumes"])
        return list(self.send(self.file, JSON).summary["volumes"])

    def _codes(self, names: list[str]) -> list[ClassCode]:
        from medloop.dicom.result_codes import codes_of_classes
        from medloop.documents.names import normalise

        known = {normalise(name) for name in names}
        for name in self.codes:
            if name not in known:
                self.warn(
                    f"--codes {self.options.codes}: {name} is no class of the model, which has {', '.join(names)}"
                )
        return codes_of_classes(names, self.codes)

    def _source(self) -> ResultSource:
        from medloop.dicom.results import ResultSource

        return ResultSource.read(self.series.files)

    def _description(self, kind: str) -> str:
        from medloop.dicom.results import NOT_FOR_DIAGNOSIS

        return self.options.description or f"{kind}, {NOT_FOR_DIAGNOSIS}"


def _as_prediction(result: Any, attributes: str) -> Prediction:
    from medloop.dicom.results import to_bytes

    return Prediction(DICOM, to_bytes(result), attributes)


def open_archive(url: str) -> Callable[[Prediction], None]:
    """Open a DICOMweb server; the function sends it a result, and raises DataError if the server refuses.

    Raises:
        UserError: The URL can't be used.
    """
    from io import BytesIO

    from medloop.dicom.library import load_pydicom
    from medloop.dicom.web import open_client, store

    client = open_client(url)
    return lambda prediction: store(client, url, load_pydicom().dcmread(BytesIO(prediction.body)))


def describe_algorithm(sagemaker: SageMakerClient, name: str) -> Algorithm:
    """The model version that an endpoint serves, with the digest that its containers check."""
    from medloop.commands.hosting.deployment import find_endpoint
    from medloop.dicom.results import Algorithm

    endpoint = find_endpoint(sagemaker, name)
    config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    model = config["ProductionVariants"][0]["ModelName"]
    package, environment = served_container(sagemaker, model)
    group, _, number = package.partition("/")
    digest = environment.get(MODEL_DIGEST_VARIABLE, "").removeprefix("sha256:")
    parts = [number, f"sha256:{digest[:_DIGITS]}" if digest else ""]
    return Algorithm(group, " ".join(filter(None, parts)) or model, version("medloop"))

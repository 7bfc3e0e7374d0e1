"""`medloop endpoints invoke` with DICOM studies: what is sent, written, printed and stored."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medloop.cli import main
from medloop.commands.options import Services
from medloop.imaging.files import InMemory
from medloop.imaging.nifti import nifti_labels, read_nifti
from tests.unit.dicom.scanners import MadeSeries

ARN = "arn:aws:sagemaker:eu-central-1:111122223333:model-package/medloop-segmentation/7"


class Serving:
    """A session with one endpoint that labels voxels above zero."""

    def __init__(self) -> None:
        self.boto = self
        self.requests: list[dict[str, Any]] = []

    def client(self, *_: Any, **__: Any) -> Serving:
        """Every service."""
        return self

    def describe_endpoint(self, **_: Any) -> dict[str, Any]:
        """An endpoint at work."""
        return {"EndpointName": "e", "EndpointStatus": "InService", "EndpointConfigName": "c"}

    def describe_endpoint_config(self, **_: Any) -> dict[str, Any]:
        """Its configuration."""
        return {"ProductionVariants": [{"ModelName": "m"}]}

    def describe_model(self, **_: Any) -> dict[str, Any]:
        """Its model, with the digest that its container checks."""
        environment = {"MEDLOOP_MODEL_SHA256": f"sha256:{'ab' * 32}"}
        return {"PrimaryContainer": {"ModelPackageName": ARN, "Environment": environment}}

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        """A label map, or the volumes."""
        self.requests.append(request)
        volume = read_nifti(InMemory("body", request["Body"]))
        labels = (np.asarray(volume.voxels) > 0).astype(np.uint8)
        summary = json.dumps({"unit": "ml", "volumes": {"liver": 1.25}})
        if request["Accept"] == "application/json":
            return {"ContentType": request["Accept"], "Body": BytesIO(summary.encode())}
        body = BytesIO(nifti_labels(labels, volume, None))
        return {"ContentType": request["Accept"], "Body": body, "CustomAttributes": summary}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A series in a folder."""
    return MadeSeries().write(tmp_path / "study")


def invoke(serving: Serving, *arguments: object) -> int:
    """Run the command."""
    return main(["endpoints", "invoke", "e", *map(str, arguments)], Services(lambda *_: serving))  # type: ignore[arg-type, return-value]


def test_a_segmentation_is_written_and_printed(tmp_path: Path, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The series goes as NIfTI without a name; the SEG names the version and the digest."""
    serving, out = Serving(), tmp_path / "seg.dcm"

    assert invoke(serving, study, "--out", out, "--description", "Liver, trial 3") == 0

    assert "liver" in capsys.readouterr().out
    (request,) = serving.requests
    assert (request["ContentType"], request["Accept"]) == ("application/x-nifti", "application/x-nifti")
    result = pydicom.dcmread(out)
    assert (result.Modality, result.SeriesDescription) == ("SEG", "Liver, trial 3")
    identification = result.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert identification.AlgorithmName == "medloop-segmentation"
    assert identification.AlgorithmVersion == "7 sha256:abababababab"


def test_a_report_is_json_for_programs(tmp_path: Path, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The volumes, and where the report is."""
    assert invoke(Serving(), study, "--out", tmp_path / "a.sr.dcm", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["content_type"], printed["volumes"]) == ("application/dicom", {"liver": 1.25})
    assert pydicom.dcmread(tmp_path / "a.sr.dcm").Modality == "SR"


def test_a_study_needs_no_output_file(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, as for a volume."""
    assert invoke(Serving(), study / "IM0000.dcm") == 2
    assert "is a single slice, no volume" in capsys.readouterr().err
    assert invoke(Serving(), study) == 0
    assert "1.25" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.nii.gz", "--store", "http://127.0.0.1:9/dicom-web"], "is no DICOM file, which --store sends"),
        (["--out", "x.txt"], "--out x.txt: name it"),
        (["--series", "1.2.3"], "--series 1.2.3: is not in"),
        (["--codes", "missing.yaml"], "--codes missing.yaml: can't be read"),
        (["--store", "https://jane:secret@pacs/dicom-web"], "leave name and password out of the URL"),
    ],
)
def test_options_that_cant_be_used_are_one_line(
    study: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Before anything is sent, with exit code 2."""
    serving = Serving()
    assert invoke(serving, study, *arguments) == 2
    assert message in capsys.readouterr().err
    assert serving.requests == []

"""The demo's second half: approve the version, serve it, and draw what it says of a case that it never saw."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medloop.commands.execution_status import Execution, output_uri
from medloop.commands.hosting.deployment import deploy_model
from medloop.commands.hosting.invoking import Prediction, accept_for, invoke, write_response
from medloop.commands.objects import local_path
from medloop.commands.options import Services
from medloop.commands.output import print_line
from medloop.commands.registry.approval import approver_of, decide
from medloop.commands.registry.decisions import record
from medloop.errors import DataError
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from medloop.cloud.target import Target

APPROVER = "Demo approver"
REASON = "Demonstration on sample data: approved by the demo itself, looked at by no one"


@dataclass(frozen=True)
class Served:
    """A version that responds.

    Args:
        endpoint: Its endpoint.
        case: The test case that was sent, by its pseudonym.
        truth: Its class, or its structures.
        predicted: The endpoint's prediction, as text.
        picture: The prediction next to the truth.
        seconds: Time until the endpoint responded.
    """

    endpoint: str
    case: str
    truth: str
    predicted: str
    picture: Path
    seconds: float


def approve_and_predict(
    services: Services, target: Target, home: Path, task: str, execution: Execution, arn: str
) -> Served:
    """Approve a version, deploy it, and send it one of the test cases.

    Args:
        services: Progress is reported to its `err`.
        target: The local target.
        home: The home folder; the picture goes to `<home>/demo`.
        task: classification or segmentation.
        execution: The execution that made the version.
        arn: The version.

    Raises:
        MedloopError: Approval, deployment or prediction failed.
    """
    sagemaker = target.boto.client("sagemaker")
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    record(sagemaker, package, decide(target, package, "Approved", approver_of(target, APPROVER), REASON))
    print_line(services.err, f"{task}: version approved ({REASON.lower()})", "dim")
    endpoint = deploy_model(services, target, arn).endpoint
    uri = output_uri(target, execution, "test")
    if uri is None:
        raise DataError(f"execution {execution.id}: no step left the test cases; run the demo again")
    predict = _predict_volume if task == "segmentation" else _predict_image
    return predict(services, target, home, endpoint, uri)


def _predict_image(services: Services, target: Target, home: Path, endpoint: str, uri: str) -> Served:
    from medloop.evaluation.report.image_figures import image_prediction

    key = _first_object(target, uri, (".png", ".jpg"))
    file = local_path(target, home, key)
    response, seconds = _invoke(services, target, endpoint, file, home / "demo" / "classification.json")
    summary, truth = response.summary, file.parent.name
    figure = image_prediction(file, truth, summary["probabilities"])
    picture = figure.write(home / "demo" / "classification.png")
    prediction = f"{summary['predicted']} ({summary['probabilities'][summary['predicted']]:.2f})"
    return Served(endpoint, f"{truth}/{file.name}", truth, prediction, picture, seconds)


def _predict_volume(services: Services, target: Target, home: Path, endpoint: str, uri: str) -> Served:
    from medloop.evaluation.cases import HeldOut
    from medloop.evaluation.report.cropped_volume import crop_case
    from medloop.evaluation.report.volume_overlays import draw_overlays
    from medloop.imaging.nifti import read_nifti

    key = _first_object(target, uri, ("/img.nii.gz",))
    file, label = (local_path(target, home, f"{key.rpartition('/')[0]}/{name}.nii.gz") for name in ("img", "label"))
    out = home / "demo" / "segmentation.nii.gz"
    response, seconds = _invoke(services, target, endpoint, file, out)
    volumes: dict[str, float] = response.summary["volumes"]
    case = HeldOut(label.parent, label.parent.name, label.parent.name)
    figure = draw_overlays(crop_case(case, read_nifti(out).voxels), list(volumes), case.patient)
    picture = figure.write(home / "demo" / "segmentation.png")
    prediction = ", ".join(f"{name} {volume:.0f} {response.summary['unit']}" for name, volume in volumes.items())
    return Served(endpoint, case.name, ", ".join(volumes), prediction, picture, seconds)


def _invoke(services: Services, target: Target, endpoint: str, file: Path, out: Path) -> tuple[Prediction, float]:
    began = time.monotonic()
    accept = accept_for(out, None)
    response = invoke(target, endpoint, file, accept=accept, by_queue=False, sleep=services.sleep, flags="")
    seconds = time.monotonic() - began
    out.parent.mkdir(parents=True, exist_ok=True)
    write_response(response, out)
    return response, seconds


def _first_object(target: Target, uri: str, endings: tuple[str, ...]) -> str:
    """The first object below an address whose key ends so.

    Raises:
        DataError: There is none.
    """
    bucket, prefix = split_s3_uri(uri.rstrip("/") + "/")
    s3 = target.boto.client("s3")
    for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
        if item["Key"].endswith(endings):
            return f"s3://{bucket}/{item['Key']}"
    raise DataError(f"{uri}: holds no test case; run the demo again")

"""One prediction of an endpoint: the file's media type, the service's limits, and the response as a person reads it."""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import ClientError

from medloop.cloud.target import Target
from medloop.commands.hosting.deployment import find_endpoint
from medloop.commands.objects import read_object
from medloop.documents.json_text import parse_json
from medloop.errors import DataError, MedloopError, SettingError, UserError
from medloop.imaging.formats import ALL_FORMATS, VOLUME_FORMATS, find_suffix

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

MAX_BYTES = {"realtime": 6_291_456, "serverless": 4 << 20, "async": 1 << 30}
"""Limits of one request: botocore's model of InvokeEndpoint, and the service's quotas.

https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html#serverless-endpoints-how-it-works and
https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html
"""
JSON = "application/json"
CONTENT_TYPES = {suffix: form.media_types[0] for form in ALL_FORMATS for suffix in form.suffixes}
ACCEPTED = {
    ".json": JSON,
    **{suffix: form.media_types[0] for form in VOLUME_FORMATS if form.write_labels for suffix in form.suffixes},
}
"""Media types of responses by the output file's suffix."""
_ASYNC_SECONDS = 3600.0
_READ_SECONDS = 70
"""More than the 60 s that the service allows a container."""
_GZIP = b"\x1f\x8b"


class PredictionError(MedloopError):
    """The model failed in a request that was in order."""


@dataclass(frozen=True)
class Prediction:
    """An endpoint's response.

    Args:
        content_type: The body's media type; empty if the response came from S3, which doesn't keep it.
        body: The model's output.
        attributes: Unit and volumes, with a label map.
    """

    content_type: str
    body: bytes
    attributes: str

    @property
    def summary(self) -> dict[str, Any]:
        """The response's facts: its JSON, or the attributes of a label map."""
        for text in (self.body if self.content_type in ("", JSON) else b"", self.attributes.encode()):
            try:
                content = parse_json(text)
            except ValueError:
                continue
            if isinstance(content, dict):
                return content
        return {}


def kind_of(endpoint: Mapping[str, Any]) -> str:
    """realtime, serverless or async."""
    if "AsyncInferenceConfig" in endpoint:
        return "async"
    variants = endpoint.get("ProductionVariants") or []
    return "serverless" if any("CurrentServerlessConfig" in variant for variant in variants) else "realtime"


def served_container(sagemaker: SageMakerClient, model: str) -> tuple[str, Mapping[str, str]]:
    """`GROUP/N` of a model's version (the model's own name if it is of none), and its container's environment."""
    description = sagemaker.describe_model(ModelName=model)
    container = description.get("PrimaryContainer") or (description.get("Containers") or [{}])[0]
    package = str(container.get("ModelPackageName", ""))
    return package.partition(":model-package/")[2] or model, container.get("Environment") or {}


def media_type(file: Path) -> str:
    """The Content-Type of a file, by its name.

    Raises:
        DataError: It is of no kind that a model takes.
    """
    suffix = find_suffix(file.name, CONTENT_TYPES)
    if suffix is None:
        raise DataError(f"{file}: is no image or volume that a model takes; give one of {', '.join(CONTENT_TYPES)}")
    return CONTENT_TYPES[suffix]


def accept_for(out: Path | None, requested: str | None) -> str:
    """The media type of the response: the requested one, else by the output file's name, else JSON.

    Raises:
        SettingError: The output file's name tells no form.
    """
    if requested:
        return requested
    if out is None:
        return JSON
    suffix = find_suffix(out.name, ACCEPTED)
    if suffix is None:
        raise SettingError(f"--out {out}: name it {', '.join(ACCEPTED)}, or give the media type by --accept")
    return ACCEPTED[suffix]


def invoke(
    target: Target,
    name: str,
    file: Path,
    *,
    accept: str,
    by_queue: bool,
    sleep: Callable[[float], None],
    flags: str,
    study: Path | None = None,
) -> Prediction:
    """Send an image or a volume to an endpoint, and return its response in the form `accept`.

    With `by_queue`, the request is asynchronous, and `sleep` waits between two looks for its response. Messages name
    the study if the file was made of one.

    Raises:
        UserError: The endpoint, the file or its size can't be used; the model refuses it.
        PredictionError: The model failed.
    """
    content_type = media_type(file)
    try:
        body = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: can't be read ({error.strerror}); give an image or a volume") from None
    sagemaker = target.boto.client("sagemaker")
    kind = kind_of(find_endpoint(sagemaker, name))
    if by_queue and kind != "async":
        raise UserError(f"endpoint {name} is {kind}, and --async needs an asynchronous one; {_way(name, flags)}")
    if len(body) > MAX_BYTES[kind]:
        way = "cut it into parts" if kind == "async" else _way(name, flags)
        raise DataError(
            f"{study or file}: has {len(body):,} bytes, and a {kind} endpoint takes {MAX_BYTES[kind]:,}; {way}"
        )
    client = target.boto.client("sagemaker-runtime", config=Config(read_timeout=_READ_SECONDS))
    try:
        if kind == "async":
            return _by_queue(target, client, name, file, study or file, content_type, accept, sleep)
        response = client.invoke_endpoint(EndpointName=name, Body=body, ContentType=content_type, Accept=accept)
    except ClientError as error:
        raise _explain(error, study or file, name) from error
    return Prediction(response.get("ContentType", ""), response["Body"].read(), response.get("CustomAttributes", ""))


def write_response(prediction: Prediction, out: Path) -> None:
    """Write the response to a file, compressed or not as its name says.

    Raises:
        SettingError: It can't be written.
    """
    body = prediction.body
    if out.name.endswith(".nii") and body.startswith(_GZIP):
        body = gzip.decompress(body)
    elif out.name.endswith(".gz") and not body.startswith(_GZIP):
        body = gzip.compress(body, mtime=0)
    try:
        out.write_bytes(body)
    except OSError as error:
        raise SettingError(
            f"--out {out}: can't be written ({error.strerror}); give a file in a folder of yours"
        ) from None


def _way(name: str, flags: str) -> str:
    deploy = f"medloop endpoints deploy MODEL --name {name}-async --kind async{flags}"
    return f"deploy an asynchronous one (`{deploy}`) and invoke it with `--async`"


def _explain(error: ClientError, file: Path, name: str) -> Exception:
    """The error with the model's message: of the user for a refused request, of the endpoint for a failure."""
    if error.response["Error"]["Code"] != "ModelError":
        return error
    status, text = error.response.get("OriginalStatusCode"), str(error.response.get("OriginalMessage", ""))
    try:
        content = parse_json(text)
        text = str(content.get("error") or content.get("detail") or text) if isinstance(content, dict) else text
    except ValueError:
        pass
    if status == 406:  # --out's name chose the form
        return SettingError(f"{file}: the model gives no response in the form of --out or --accept ({status}): {text}")
    if isinstance(status, int) and 400 <= status < 500:
        return DataError(f"{file}: the model refuses it ({status}): {text}")
    return PredictionError(f"endpoint {name} failed ({status}): {text}; see the endpoint's log")


def _by_queue(
    target: Target,
    client: SageMakerRuntimeClient,
    name: str,
    file: Path,
    shown: Path,
    content_type: str,
    accept: str,
    sleep: Callable[[float], None],
) -> Prediction:
    """Upload the file, send the request, and wait until the response or the failure is in S3."""
    suffix = find_suffix(file.name, CONTENT_TYPES)
    # Under a name of its own: the user's may tell who the patient is.
    key = f"endpoints/{name}/input/{uuid.uuid4()}{suffix}"
    target.boto.client("s3").upload_file(str(file), target.bucket, key)
    request = client.invoke_endpoint_async(
        EndpointName=name, InputLocation=f"s3://{target.bucket}/{key}", ContentType=content_type, Accept=accept
    )
    waited = 0.0
    while waited < _ASYNC_SECONDS:
        if (body := _stored(target, request["OutputLocation"])) is not None:
            return Prediction("", body, "")
        if (failure := _stored(target, request.get("FailureLocation", ""))) is not None:
            raise DataError(f"{shown}: the endpoint failed in it: {failure.decode('utf-8', errors='replace')}")
        pause = min(5.0, 0.2 + waited / 10)
        sleep(pause)
        waited += pause
    raise PredictionError(f"endpoint {name} has not responded; the response will be at {request['OutputLocation']}")


def _stored(target: Target, uri: str) -> bytes | None:
    if not uri:
        return None
    try:
        return read_object(target, uri)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
            raise
        return None

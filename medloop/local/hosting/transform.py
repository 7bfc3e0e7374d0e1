"""Runs one transform job: sends every object of the input to the model's container, and stores each response."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medloop.local.errors import RequestError
from medloop.local.hosting.calls import BrokenError, NotSentError, TooLateError, post
from medloop.local.hosting.container import Container, GivenUpError
from medloop.local.hosting.endpoints import STARTUP_SECONDS
from medloop.local.jobs import outputs
from medloop.local.jobs.job import Job
from medloop.local.jobs.running import run_recorded, stop_requested
from medloop.local.state.log_streams import LogStream
from medloop.local.state.objects import split_uri
from medloop.local.state.store import Document
from medloop.local.state.stored_object import Object

_MAX_PAYLOAD_MB = 6
_SECONDS, _RETRIES = 600, 3
"""The time of a request in seconds, and the number of retries of an object when the container fails."""
_NO_OBJECTS = "Data download failed: no S3 objects found under"


def run_transform(job: Job, stop: threading.Event) -> Document:
    """Run a recorded transform job to its end; returns its last record.

    Args:
        job: A job in progress whose supervisor is this process.
        stop: Ends the job when set.
    """

    def work(document: Document, log: LogStream) -> Document:
        _check(document)
        try:
            completed = _run(job, document, log, stop_requested(job, stop))
        except GivenUpError:
            completed = False
        return job.end("Completed" if completed else "Stopped")

    return run_recorded(job, work)


def _check(document: Document) -> None:
    source = document["TransformInput"]["DataSource"].get("S3DataSource", {})
    if source.get("S3DataType") != "S3Prefix":
        raise RequestError("TransformInput must be an S3Prefix on the local backend")
    for field in ("CompressionType", "SplitType"):
        if document["TransformInput"].get(field, "None") != "None":
            raise RequestError(f"TransformInput.{field} must be None: an image or a volume is one request")
    if document["TransformResources"].get("InstanceCount", 1) != 1:
        raise RequestError("TransformResources.InstanceCount must be 1 on the local backend")


def _run(job: Job, document: Document, log: LogStream, stopping: Callable[[], bool]) -> bool:
    """Transform every object and store all responses; False when it was stopped before."""
    uri = document["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    bucket, prefix = split_uri(uri)
    objects = list(job.backend.objects.walk(bucket, prefix))
    if not objects:
        raise RequestError(f'{_NO_OBJECTS} "{uri}"')
    plan = {**document["_container"], "variant": {"VariantName": "transform"}, "startup": STARTUP_SECONDS}
    plan["environment"] = {**plan["environment"], **document.get("Environment", {})}
    container = Container.start(job.backend, job.folder, plan, log, document["_temporary"])
    try:
        container.wait_healthy(lambda: not stopping())
        job.change(_process=container.address["process"])
        responses = job.folder.root / "responses"
        responses.mkdir()
        if not _transform_all(document, container, objects, responses, stopping):
            return False
        target, base = split_uri(document["TransformOutput"]["S3OutputPath"].rstrip("/"))
        root = prefix if prefix.endswith("/") or not prefix else prefix.rpartition("/")[0] + "/"
        root = f"{prefix}/" if all(item.key.startswith(f"{prefix}/") for item in objects) else root
        keys = [f"{base}/{item.key.removeprefix(root)}.out".lstrip("/") for item in objects]
        outputs.store_files(job, [(target, key, responses / str(index)) for index, key in enumerate(keys)])
        return True
    except BaseException:
        job.withdraw_outputs()  # their list is deleted with the container's folder
        raise
    finally:
        container.end()


def _transform_all(
    document: Document,
    container: Container,
    objects: list[Object],
    responses: Path,
    stopping: Callable[[], bool],
) -> bool:
    with ThreadPoolExecutor(document.get("MaxConcurrentTransforms") or 1) as pool:
        futures = [
            pool.submit(_transform, document, container, item, responses / str(i)) for i, item in enumerate(objects)
        ]
        try:
            for future in futures:
                future.result()
                if stopping():
                    return False
        finally:
            for future in futures:
                future.cancel()
    return True


def _transform(document: Document, container: Container, item: Object, response: Path) -> None:
    most = (document.get("MaxPayloadInMB") or _MAX_PAYLOAD_MB) << 20
    if item.size > most:
        raise RequestError(f"{item.key} has {item.size} bytes, and MaxPayloadInMB is {most >> 20}")
    optional = {
        "Content-Type": document["TransformInput"].get("ContentType"),
        "Accept": document["TransformOutput"].get("Accept"),
    }
    headers = {name: value for name, value in optional.items() if value}
    client = document.get("ModelClientConfig", {})
    seconds = client.get("InvocationsTimeoutInSeconds", _SECONDS)
    reason = "no response"
    for _ in range(1 + client.get("InvocationsMaxRetries", _RETRIES)):
        try:
            status, _, body = post(container.port, item.path.read_bytes(), headers, seconds)
        except (NotSentError, TooLateError, BrokenError) as error:
            reason = f"{type(error).__name__}: {error}"
            continue
        if status < 400:
            response.write_bytes(body)
            return
        reason = f"{status} {body.decode('utf-8', errors='replace')}"
        if status < 500:
            break
    raise RequestError(f"{item.key}: {reason}")

"""Runs one transform job: its model's container answers for every object of the input, each answer an object."""

from __future__ import annotations

import tempfile
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medloop.local.errors import ServiceError
from medloop.local.hosting.calls import BrokenError, NotSentError, TooLateError, post
from medloop.local.hosting.container import Container, GivenUpError, StartError
from medloop.local.hosting.records import STARTUP_SECONDS
from medloop.local.jobs import jobs, outputs
from medloop.local.jobs.jobs import MAX_REASON, TRANSFORM
from medloop.local.jobs.runner import JobLog, asked_to_stop
from medloop.local.jobs.staging import Folder
from medloop.local.state.backend import Backend
from medloop.local.state.home import new_id, now
from medloop.local.state.objects import Object, split_uri
from medloop.local.state.store import Document

_MAX_PAYLOAD_MB = 6
_SECONDS, _RETRIES = 600, 3
"""How long an answer may take, and how often an object is tried again where the container is at fault."""
_POOR = "Data download failed: no S3 objects found under"


class TransformError(Exception):
    """An object that can't be transformed; the message becomes the FailureReason."""


def run_transform(backend: Backend, name: str, stop: threading.Event) -> Document:
    """Run a recorded transform job to its end; whatever happens, the record says how it ended.

    Args:
        backend: The backend.
        name: A job in progress whose supervisor is this process.
        stop: Ends the job when set.

    Returns:
        The job's last record.
    """
    temporary = str(Path(tempfile.gettempdir(), f"medloop-{new_id()}"))
    job = jobs.change(backend, TRANSFORM, name, _temporary=temporary, TransformStartTime=now())
    log = JobLog.of(backend, TRANSFORM, job)
    asked = asked_to_stop(backend, TRANSFORM, name, stop)
    try:
        _check(job)
        ended = _run(backend, job, log, temporary, asked)
        return jobs.end(backend, TRANSFORM, name, "Completed" if ended else "Stopped")
    except GivenUpError:
        return jobs.end(backend, TRANSFORM, name, "Stopped")
    except (TransformError, StartError, ServiceError) as error:
        jobs.withdraw(backend, name)
        log.say(f"ClientError: {error}")
        return jobs.end(backend, TRANSFORM, name, "Failed", FailureReason=f"ClientError: {error}"[:MAX_REASON])
    except Exception as error:
        jobs.withdraw(backend, name)
        log.say(traceback.format_exc())
        reason = f"InternalServerError: {type(error).__name__}: {error}"
        return jobs.end(backend, TRANSFORM, name, "Failed", FailureReason=reason[:MAX_REASON])
    finally:
        jobs.clear(backend, TRANSFORM, job)


def _check(job: Document) -> None:
    source = job["TransformInput"]["DataSource"].get("S3DataSource", {})
    if source.get("S3DataType") != "S3Prefix":
        raise TransformError("TransformInput must be an S3Prefix on the local backend")
    for field in ("CompressionType", "SplitType"):
        if job["TransformInput"].get(field, "None") != "None":
            raise TransformError(f"TransformInput.{field} must be None: an image or a volume is one request")
    if job["TransformResources"].get("InstanceCount", 1) != 1:
        raise TransformError("TransformResources.InstanceCount must be 1 on the local backend")


def _run(backend: Backend, job: Document, log: JobLog, temporary: str, asked: Any) -> bool:
    """Transform every object and store all answers; False when it was told to stop before."""
    uri = job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    bucket, prefix = split_uri(uri)
    found = list(backend.objects.walk(bucket, prefix))
    if not found:
        raise TransformError(f'{_POOR} "{uri}"')
    folder = Folder(backend.home.job(job["TransformJobName"]))
    plan = {**job["_container"], "variant": {"VariantName": "transform"}, "startup": STARTUP_SECONDS}
    plan["environment"] = {**plan["environment"], **job.get("Environment", {})}
    container = Container.start(backend, folder, plan, log, temporary)
    try:
        container.wait_healthy(lambda: not asked())
        jobs.change(backend, TRANSFORM, job["TransformJobName"], _process=container.address["process"])
        answers = folder.root / "answers"
        answers.mkdir()
        if not _transform_all(job, container, found, answers, asked):
            return False
        target, base = split_uri(job["TransformOutput"]["S3OutputPath"].rstrip("/"))
        root = prefix if prefix.endswith("/") or not prefix else prefix.rpartition("/")[0] + "/"
        root = f"{prefix}/" if all(item.key.startswith(f"{prefix}/") for item in found) else root
        places = [f"{base}/{item.key.removeprefix(root)}.out".lstrip("/") for item in found]
        planned = [(target, key, answers / str(index)) for index, key in enumerate(places)]
        outputs.store_files(backend, folder, planned)
        return True
    finally:
        container.end()


def _transform_all(job: Document, container: Container, found: list[Object], answers: Path, asked: Any) -> bool:
    with ThreadPoolExecutor(job.get("MaxConcurrentTransforms") or 1) as pool:
        futures = [pool.submit(_transform, job, container, item, answers / str(i)) for i, item in enumerate(found)]
        try:
            for future in futures:
                future.result()
                if asked():
                    return False
        finally:
            for future in futures:
                future.cancel()
    return True


def _transform(job: Document, container: Container, item: Object, answer: Path) -> None:
    most = (job.get("MaxPayloadInMB") or _MAX_PAYLOAD_MB) << 20
    if item.size > most:
        raise TransformError(f"{item.key} has {item.size} bytes, and MaxPayloadInMB is {most >> 20}")
    given = {"Content-Type": job["TransformInput"].get("ContentType"), "Accept": job["TransformOutput"].get("Accept")}
    headers = {name: value for name, value in given.items() if value}
    client = job.get("ModelClientConfig", {})
    seconds = client.get("InvocationsTimeoutInSeconds", _SECONDS)
    said = "no answer"
    for _ in range(1 + client.get("InvocationsMaxRetries", _RETRIES)):
        try:
            status, _, body = post(container.port, item.path.read_bytes(), headers, seconds)
        except (NotSentError, TooLateError, BrokenError) as error:
            said = f"{type(error).__name__}: {error}"
            continue
        if status < 400:
            answer.write_bytes(body)
            return
        said = f"{status} {body.decode('utf-8', errors='replace')}"
        if status < 500:
            break
    raise TransformError(f"{item.key}: {said}")

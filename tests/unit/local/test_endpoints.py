"""Endpoints: models served by processes of their own, replaced and restarted without anyone waiting in vain."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from medloop.local.errors import ServiceError
from medloop.local.hosting.calls import INVOCATION_SECONDS, send
from medloop.local.state.backend import Backend
from tests.unit.local.conftest import Local, wait_until
from tests.unit.local.hosting import Hosting, archive


@pytest.fixture
def hosting(local: Local) -> Iterator[Hosting]:
    """A backend that can serve; nothing runs when the test has ended."""
    made = Hosting.on(local)
    yield made
    made.close()


def code(error: Any) -> str:
    """The service's code of an error."""
    return str(error.value.response["Error"]["Code"])


@pytest.mark.slow
def test_endpoint_answers_with_its_model(hosting: Hosting) -> None:
    """Model, configuration, endpoint; the request's headers and the environment reach the container."""
    hosting.endpoint("one")
    response = json.loads(hosting.invoke(b"12345", ContentType="image/png", Accept="application/json"))
    assert (response["word"], response["size"], response["setting"]) == ("one", 5, "yes")
    assert (response["type"], response["accept"]) == ("image/png", "application/json")
    described = hosting.describe()
    assert described["EndpointStatus"] == "InService"
    assert described["ProductionVariants"][0]["DeployedImages"][0]["SpecifiedImage"] == hosting.image
    logs = hosting.local.boto.client("logs")
    group = "/aws/sagemaker/Endpoints/live"
    events = logs.filter_log_events(logGroupName=group)["events"]
    assert [event["message"] for event in events] == ["serving one"]


@pytest.mark.slow
def test_update_never_stops_answering(hosting: Hosting) -> None:
    """Clients that ask all the time, slowly or not, are all answered while the model is replaced; old folders go."""
    hosting.endpoint("one")
    hosting.config(hosting.model("two"))
    responses: list[Any] = []
    done = threading.Event()

    def send(body: bytes) -> None:
        while not done.is_set():
            try:
                responses.append(json.loads(hosting.invoke(body))["word"])
            except ClientError as error:
                responses.append(error)

    threads = [threading.Thread(target=send, args=(body,)) for body in (b"a", b"b", b"sleep 0.4")]
    for thread in threads:
        thread.start()
    hosting.local.sagemaker.update_endpoint(EndpointName="live", EndpointConfigName="two")
    described = hosting.settle()
    wait_until(lambda: responses[-20:].count("two") == 20)
    done.set()
    for thread in threads:
        thread.join()
    assert described["EndpointConfigName"] == "two"
    assert set(responses) == {"one", "two"}
    wait_until(lambda: len(hosting.containers()) == 1)


@pytest.mark.slow
def test_update_that_fails_leaves_the_old_model(hosting: Hosting) -> None:
    """The endpoint stays in service as it was, and says why."""
    hosting.endpoint("one")
    hosting.config(hosting.model("broken"))
    hosting.local.sagemaker.update_endpoint(EndpointName="live", EndpointConfigName="broken")
    with pytest.raises(ClientError) as second:
        hosting.local.sagemaker.update_endpoint(EndpointName="live", EndpointConfigName="one")
    described = hosting.settle()
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "one")
    assert "did not pass the ping health check" in described["FailureReason"]
    assert "the model is broken" in described["FailureReason"]
    assert json.loads(hosting.invoke(b""))["word"] == "one"
    assert code(second) == "ValidationException"
    assert "Cannot update in-progress endpoint" in str(second.value)


@pytest.mark.slow
def test_endpoint_that_never_comes_up_fails(hosting: Hosting) -> None:
    """Failed, with the reason; it can't be invoked or updated, only deleted."""
    hosting.endpoint("broken")
    described = hosting.describe()
    assert described["EndpointStatus"] == "Failed"
    assert "the model is broken" in described["FailureReason"]
    with pytest.raises(ClientError, match="not found") as refusal:
        hosting.invoke(b"")
    assert code(refusal) == "ValidationError"
    with pytest.raises(ClientError, match="in status Failed"):
        hosting.local.sagemaker.update_endpoint(EndpointName="live", EndpointConfigName="broken")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["container", "supervisor", "both"])
def test_killed_processes_come_back(hosting: Hosting, victim: str) -> None:
    """After any kill the next invocation gets its response, from one container alone."""
    hosting.endpoint("one")
    before = json.loads(hosting.invoke(b""))["pid"]
    if victim in ("supervisor", "both"):
        for process in hosting.supervisors():
            process.kill()
            process.wait()
    if victim in ("container", "both"):
        for process in hosting.containers():
            process.kill()
    wait_until(lambda: not any(process.pid == before for process in hosting.containers()))
    after = json.loads(hosting.invoke(b""))
    assert (after["word"], after["pid"] != before) == ("one", True)
    assert len(hosting.containers()) == len(hosting.supervisors()) == 1


@pytest.mark.slow
def test_supervisor_killed_in_an_update_is_replaced(hosting: Hosting) -> None:
    """The next request continues the update."""
    hosting.endpoint("one")
    hosting.config(hosting.model("two"))
    hosting.local.sagemaker.update_endpoint(EndpointName="live", EndpointConfigName="two")
    for process in hosting.supervisors():
        process.kill()
        process.wait()
    assert hosting.settle()["EndpointConfigName"] == "two"
    assert json.loads(hosting.invoke(b""))["word"] == "two"


@pytest.mark.slow
def test_what_the_container_refuses_or_fails_in_is_a_model_error(hosting: Hosting) -> None:
    """ModelError with the container's own status and words; a crash is one too, and the next request is answered."""
    hosting.endpoint("one")
    with pytest.raises(hosting.runtime.exceptions.ModelError) as refused:
        hosting.invoke(b"bad")
    assert refused.value.response["OriginalStatusCode"] == 400
    assert refused.value.response["OriginalMessage"] == '{"error": "no image"}'
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424
    (crashing,) = hosting.containers()
    with pytest.raises(hosting.runtime.exceptions.ModelError) as crashed:
        hosting.invoke(b"crash")
    crashing.wait(10)
    assert crashed.value.response["OriginalStatusCode"] == 500
    assert json.loads(hosting.invoke(b""))["word"] == "one"


@pytest.mark.slow
def test_limits_of_the_service_hold(hosting: Hosting) -> None:
    """6,291,456 bytes each way; an endpoint that doesn't exist is not found."""
    hosting.endpoint("one")
    assert json.loads(hosting.invoke(b"x" * 6_291_456))["size"] == 6_291_456
    with pytest.raises(ClientError, match="less than or equal to 6291456") as large:
        hosting.invoke(b"x" * 6_291_457)
    assert code(large) == "ValidationError"
    with pytest.raises(hosting.runtime.exceptions.ModelError, match="more than 6291456"):
        hosting.invoke(b"large 6291457")
    with pytest.raises(ClientError, match="Endpoint none of account 000000000000 not found"):
        hosting.invoke(b"", name="none")


@pytest.mark.slow
def test_an_invocation_that_takes_too_long_is_the_models_error(hosting: Hosting) -> None:
    """As the service says it, with status 0; here after less than the service's 60 s. The endpoint keeps running."""
    hosting.endpoint("one")
    backend = Backend.open(hosting.local.home)
    with pytest.raises(ServiceError, match="timed out") as late:
        send(backend, "live", b"sleep 5", {}, seconds=0.3)
    assert (late.value.code, late.value.fields["OriginalStatusCode"]) == ("ModelError", 0)
    assert INVOCATION_SECONDS == 60
    assert json.loads(hosting.invoke(b""))["word"] == "one"


@pytest.mark.slow
def test_serverless_limits_hold(hosting: Hosting) -> None:
    """4 MB a request, and no more than MaxConcurrency at once."""
    hosting.endpoint("one", variant={"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}})
    with pytest.raises(ClientError, match="4194304"):
        hosting.invoke(b"x" * 4_194_305)
    seen: list[str] = []

    def hold() -> None:
        with suppress(ClientError):  # the other came first: so it was throttled itself
            hosting.invoke(b"sleep 1")
            return
        hold()

    slow = threading.Thread(target=hold)
    slow.start()

    def throttled() -> bool:
        try:
            hosting.invoke(b"")
        except ClientError as error:
            seen.append(error.response["Error"]["Code"])
        return bool(seen)

    wait_until(throttled, 5)
    slow.join()
    assert set(seen) == {"ThrottlingException"}
    assert json.loads(hosting.invoke(b""))["word"] == "one"


@pytest.mark.slow
def test_asynchronous_endpoint_answers_in_s3(hosting: Hosting) -> None:
    """The response is stored at OutputLocation, a failure at FailureLocation; a real-time call is refused."""
    paths = {"S3OutputPath": "s3://medloop-local/async/out", "S3FailurePath": "s3://medloop-local/async/failed"}
    hosting.endpoint("one", AsyncInferenceConfig={"OutputConfig": paths})
    large = hosting.store("large", b"x" * 7_000_000)
    good = hosting.runtime.invoke_endpoint_async(EndpointName="live", InputLocation=large, ContentType="a/b")
    bad = hosting.runtime.invoke_endpoint_async(EndpointName="live", InputLocation=hosting.store("bad", b"bad"))

    def stored(uri: str) -> bytes | None:
        try:
            return hosting.local.read(uri)
        except ClientError:
            return None

    wait_until(lambda: stored(good["OutputLocation"]) and stored(bad["FailureLocation"]))
    response = json.loads(stored(good["OutputLocation"]) or b"")
    assert (response["size"], response["type"]) == (7_000_000, "a/b")
    assert b"no image" in (stored(bad["FailureLocation"]) or b"")
    with pytest.raises(ClientError, match="InvokeEndpointAsync"):
        hosting.invoke(b"")
    with pytest.raises(ClientError, match="does not exist"):
        hosting.runtime.invoke_endpoint_async(EndpointName="live", InputLocation="s3://medloop-local/none")


@pytest.mark.slow
def test_delete_ends_everything(hosting: Hosting) -> None:
    """Processes, folders and record go; the name can be used again."""
    hosting.endpoint("one")
    hosting.local.sagemaker.delete_endpoint(EndpointName="live")
    wait_until(hosting.gone)
    wait_until(lambda: not hosting.containers() and not hosting.supervisors())
    hosting.local.sagemaker.create_endpoint(EndpointName="live", EndpointConfigName="one")
    assert hosting.settle()["EndpointStatus"] == "InService"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "can't be unpacked"),
        (archive({"../../outside": b"x"}), "can't be unpacked"),
        (b"", "can't be unpacked"),
    ],
)
def test_hostile_model_archives_fail_the_endpoint(hosting: Hosting, content: bytes, message: str) -> None:
    """What is no archive, or leads outside the folder, is never served."""
    hosting.config(hosting.model("odd", content))
    hosting.local.sagemaker.create_endpoint(EndpointName="live", EndpointConfigName="odd")
    described = hosting.settle()
    assert described["EndpointStatus"] == "Failed"
    assert message in described["FailureReason"]
    assert not (hosting.local.home / "endpoints" / "outside").exists()

"""Lambda on the local backend: its operations, and the Lambda step."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from medloop.local.state.home import BUCKET, ROLE_ARN
from tests.unit.local.conftest import Local

HANDLER = """
import time
def importable():
    found = []
    for name in ("medloop.cloud", "pipelines", "steps"):
        try:
            __import__(name)
            found.append(name)
        except ImportError:
            pass
    return found
LOADED = importable()
def handler(event, context):
    if event.get("do") == "fail":
        raise ValueError("no good")
    if event.get("do") == "sleep":
        time.sleep(30)
    if event.get("do") == "loaded":
        return LOADED
    if event.get("do") == "import":
        return importable()
    return {"text": "yes", "number": 3}
"""


def made(local: Local, name: str = "tiny", timeout: int = 20) -> Any:
    """The lambda client, with a function of that name."""
    digest = local.image(HANDLER).rpartition(":")[2]
    client = local.boto.client("lambda")
    code = {"S3Bucket": BUCKET, "S3Key": f"bundles/{digest}.tar.gz"}
    request = {"FunctionName": name, "Runtime": "python3.13", "Role": ROLE_ARN, "Code": code, "Timeout": timeout}
    client.create_function(**request, Handler="containers/tiny/main.handler")
    return client


def invoked(client: Any, event: Any, name: str = "tiny") -> tuple[Any, Any]:
    """A function's answer, and FunctionError."""
    said = client.invoke(FunctionName=name, Payload=json.dumps(event))
    return json.loads(said["Payload"].read()), said.get("FunctionError")


def step(outputs: dict[str, str], **arguments: str) -> dict[str, Any]:
    """A Lambda step of the function `tiny`."""
    declared = [{"OutputName": name, "OutputType": kind} for name, kind in outputs.items()]
    arn = "arn:aws:lambda:us-east-1:000000000000:function:tiny"
    return {
        "Name": "Ask",
        "Type": "Lambda",
        "Arguments": arguments,
        "FunctionArn": arn,
        "OutputParameters": declared,
    }


def test_operations_answer_as_the_service(local: Local) -> None:
    """A function is listed, and taken names, unknown functions and absent code are the service's errors."""
    client = made(local)
    assert [item["FunctionName"] for item in client.list_functions()["Functions"]] == ["tiny"]
    absent = {"S3Bucket": BUCKET, "S3Key": "bundles/none.tar.gz"}
    codes = [
        (lambda: made(local), "ResourceConflictException"),
        (lambda: client.get_function(FunctionName="other"), "ResourceNotFoundException"),
        (lambda: client.invoke(FunctionName="other"), "ResourceNotFoundException"),
        (lambda: client.update_function_code(FunctionName="tiny", **absent), "InvalidParameterValueException"),
        (lambda: client.invoke(FunctionName="tiny", Payload=b"{"), "InvalidRequestContentException"),
    ]
    for call, code in codes:
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.response["Error"]["Code"] == code
    client.delete_function(FunctionName="tiny")
    assert client.list_functions()["Functions"] == []


@pytest.mark.slow
def test_a_handler_sees_its_bundle_alone_and_its_exception_is_returned(local: Local) -> None:
    """As on Lambda: errorType and errorMessage; while it is loaded, nothing of the checkout is there to import."""
    client = made(local, timeout=20)
    assert invoked(client, {"do": "loaded"}) == ([], None)
    said, failed = invoked(client, {"do": "fail"})
    assert (said["errorType"], said["errorMessage"], failed) == ("ValueError", "no good", "Unhandled")


@pytest.mark.slow
def test_a_handler_imports_from_its_bundle_while_it_runs_too(local: Local) -> None:
    """An import within a function, as on Lambda."""
    assert invoked(made(local), {"do": "import"}) == ([], None)


@pytest.mark.slow
def test_a_handler_that_takes_too_long_is_ended(local: Local) -> None:
    """After the function's time-out."""
    said, failed = invoked(made(local, timeout=1), {"do": "sleep"})
    assert (said["errorMessage"], failed) == ("Task timed out after 1 seconds", "Unhandled")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outputs", "do", "status", "word"),
    [
        ({"text": "String", "number": "Integer"}, "", "Succeeded", ""),
        ({"missing": "String"}, "", "Failed", "output parameter missing of type String"),
        ({"number": "String"}, "", "Failed", "output parameter number of type String"),
        ({"text": "String"}, "fail", "Failed", "ValueError: no good"),
    ],
)
def test_lambda_step(local: Local, outputs: dict[str, str], do: str, status: str, word: str) -> None:
    """It ends with the declared outputs, or says which one is missing, or what the handler raised."""
    made(local)
    _, steps = local.run([step(outputs, do=do)])
    assert steps["Ask"]["StepStatus"] == status, steps
    assert word in steps["Ask"].get("FailureReason", "")
    if status == "Succeeded":
        shown = {item["Name"]: item["Value"] for item in steps["Ask"]["Metadata"]["Lambda"]["OutputParameters"]}
        assert shown == {"text": "yes", "number": "3"}

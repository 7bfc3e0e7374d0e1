"""What a model's refusal of a request becomes for the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from medloop.commands.hosting.invoking import invoke
from medloop.errors import UserError


class Refusing:
    """A session whose one endpoint refuses every request with a status."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.boto = self

    def client(self, *_: Any, **__: Any) -> Refusing:
        """Every service."""
        return self

    def describe_endpoint(self, **_: Any) -> dict[str, Any]:
        """An endpoint at work."""
        return {"EndpointName": "e", "EndpointStatus": "InService"}

    def invoke_endpoint(self, **_: Any) -> dict[str, Any]:
        """The container's refusal, as the service passes it on."""
        details = {"OriginalStatusCode": self.status, "OriginalMessage": '{"error": "words"}'}
        raise ClientError({"Error": {"Code": "ModelError", "Message": "m"}, **details}, "InvokeEndpoint")  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("status", "message"), [(406, "in the form of --out or --accept (406): words"), (400, "refuses it (400): words")]
)
def test_a_refusal_names_what_to_fix(tmp_path: Path, status: int, message: str) -> None:
    """406 is about the answer's form, that --out or --accept chose, and not about the file."""
    file = tmp_path / "a.png"
    file.write_bytes(b"x")
    target: Any = Refusing(status)

    with pytest.raises(UserError, match=r"a\.png") as refused:
        invoke(target, "e", file, accept="x/y", by_queue=False, sleep=lambda _: None, flags="")

    assert message in str(refused.value)

"""Check `endpoints`: the model and the endpoint configuration of each kind of hosting; no endpoint is created."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aws_smoke.check import Case, NotTriedError, UnexpectedError
from aws_smoke.lab import Lab
from aws_smoke.registry import ScratchGroup
from medloop.cloud.hosting import Hosting, named_requests
from medloop.cloud.images import image_uri
from medloop.cloud.layout import EXECUTIONS

CONTAINER = "serve"


def hosting_cases(lab: Lab) -> Iterator[Case]:
    """Yield the version, and a case for each kind of hosting."""
    key, vpc = lab.stack.outputs["ArtefactKeyArn"], lab.stack.vpc
    kinds = {
        "real-time": Hosting(vpc=vpc, isolation=True, volume_key=key),
        "real-time on a GPU": Hosting(instance_type="ml.g4dn.xlarge", vpc=vpc, isolation=True),
        "asynchronous": Hosting(kind="async", vpc=vpc, isolation=True, volume_key=key, output_key=key),
        "serverless": Hosting(kind="serverless"),
    }
    check = _Configurations(lab)
    yield Case("version", check.register)
    for name, hosting in kinds.items():
        yield Case(name, partial(check.configure, hosting))


@dataclass
class _Configurations:
    lab: Lab
    package: dict[str, Any] | None = None
    models: set[str] = field(default_factory=set)
    """Names of the models, which kinds of hosting share if their requests are equal."""

    def register(self) -> str:
        """Register an approved version of the image that containers/serve has now."""
        group = ScratchGroup(self.lab, "hosting", image_uri(self.lab.target, CONTAINER))
        group.create()
        arn = group.register("Approved")
        self.package = self.lab.send("sagemaker", "DescribeModelPackage", {"ModelPackageName": arn})
        return arn

    def configure(self, hosting: Hosting) -> str:
        """Create the model and the configuration as `endpoints deploy` does."""
        if self.package is None:
            raise NotTriedError("no version could be registered")
        lab = self.lab
        folder = f"s3://{lab.target.bucket}/{EXECUTIONS}/{lab.name('hosting')}/responses"
        model, config = named_requests(hosting, self.package, lab.target.inference_role_arn, folder)
        if model["ModelName"] not in self.models:
            lab.create("model", model["ModelName"], "sagemaker:CreateModel", {**model, "Tags": lab.tags})
            self.models.add(model["ModelName"])
        name = str(config["EndpointConfigName"])
        request = {**config, "Tags": lab.tags}
        lab.create("endpoint configuration", name, "sagemaker:CreateEndpointConfig", request)
        described = lab.send("sagemaker", "DescribeEndpointConfig", {"EndpointConfigName": name})
        if problems := list(_differences(config, described, "")):
            raise UnexpectedError(f"DescribeEndpointConfig: {problems[0]}")
        return name


def _differences(sent: Any, described: Any, path: str) -> Iterator[str]:
    """Yield the members of a request that the description lacks or has differently."""
    if isinstance(sent, dict) and isinstance(described, dict):
        for name, value in sent.items():
            yield from _differences(value, described.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(sent, list) and isinstance(described, list) and len(sent) == len(described):
        for number, pair in enumerate(zip(sent, described, strict=True)):
            yield from _differences(*pair, f"{path}[{number}]")
    elif sent != described:
        yield f"{path} is {described!r}, sent as {sent!r}"

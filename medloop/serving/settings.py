"""How a serving container is set: by arguments where a person starts it, by the environment where a service does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from medloop.container.arguments import parse_arguments, read_pairs
from medloop.container.paths import is_local, model_folder
from medloop.errors import SettingError

ENVIRONMENT = "MEDLOOP_SERVE_"
PORT_VARIABLE = "SAGEMAKER_BIND_TO_PORT"
MIB = 2**20
LOOPBACK, EVERY_INTERFACE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - in its container, hosting reaches it from outside


class ServeSettings(BaseModel):
    """Each field is an argument (`--max-pixels`) and an environment variable (`MEDLOOP_SERVE_MAX_PIXELS`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_dir: Path = Field(default_factory=model_folder)
    """Holds model.json and model.safetensors, or model.tar.gz."""
    host: str = ""
    """Interface to listen on; "" is loopback on one machine and every interface in a container."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """0 takes any free one; the first line of the log says which."""
    device: str = "auto"
    """auto, cpu or cuda."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Requests at work at once; each decodes one file and runs the network on it."""
    queue: Annotated[int, Field(ge=0, le=4096)] = 128
    """Requests that may wait; more are answered 503 with Retry-After."""
    max_body_mib: Annotated[int, Field(ge=1, le=4096)] = 1024
    """Of one request; asynchronous invocations bring up to 1 GB."""
    max_waiting_mib: Annotated[int, Field(ge=1)] = 2048
    """Of all requests that wait or are at work."""
    max_pixels: Annotated[int, Field(ge=1)] = 2**26
    """Of one image, decoded."""
    max_voxels: Annotated[int, Field(ge=1)] = 2**27
    """Of one volume, decoded, and of the same volume on the network's grid."""
    body_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120
    """A body that takes longer to arrive is answered 408."""
    predict_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3600
    """A prediction that takes longer is ended between two windows; one hour is an asynchronous invocation's maximum."""


def read_settings(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> ServeSettings:
    """Settings of a serving container: arguments win over the environment, which wins over the defaults.

    Args:
        argv: `serve`, then `--name value` pairs.
        environment: SageMaker sets the port there; a model's `Environment` sets the rest.

    Raises:
        SettingError: It isn't `serve`, or a value is unknown or can't be used; the message names it.
    """
    if list(argv[:1]) != ["serve"]:
        raise SettingError("the first argument is not serve; hosting starts this container with it, by hand so do you")
    given = {
        name.removeprefix(ENVIRONMENT).lower().replace("_", "-"): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT)
    }
    if environment.get(PORT_VARIABLE):
        given["port"] = environment[PORT_VARIABLE]
    arguments = read_pairs(argv[1:])
    settings = parse_arguments(ServeSettings, given | arguments)
    if settings.host:
        return settings
    alone = is_local() or "model-dir" in arguments
    return settings.model_copy(update={"host": LOOPBACK if alone else EVERY_INTERFACE})

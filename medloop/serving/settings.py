"""Settings of a serving container: arguments if a user starts it, environment variables if the service does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from medloop.container.arguments import parse_arguments, read_pairs, with_prefix
from medloop.container.paths import is_local, model_folder
from medloop.documents.artefact import MODEL_DIGEST_VARIABLE
from medloop.errors import SettingError

ENVIRONMENT = "MEDLOOP_SERVE_"
PORT_VARIABLE = "SAGEMAKER_BIND_TO_PORT"
MIB = 2**20
LOOPBACK, EVERY_INTERFACE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - hosting connects from outside the container


class ServeSettings(BaseModel):
    """Each field is an argument (`--max-pixels`) and an environment variable (`MEDLOOP_SERVE_MAX_PIXELS`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_dir: Path = Field(default_factory=model_folder)
    """Contains model.json and model.safetensors, or model.tar.gz."""
    model_sha256: str = ""
    """The digest that the model must have (`medloop.documents.artefact.digest_of_model`); "" checks nothing. Hosting
    sets it by MEDLOOP_MODEL_SHA256."""
    host: str = ""
    """Interface to listen on; "" is loopback locally and every interface in a container."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """0 chooses a free port, which the first line of the log contains."""
    device: str = "auto"
    """auto, cpu or cuda."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Requests in work at the same time; each worker decodes one file and runs the network on it."""
    queue: Annotated[int, Field(ge=0, le=4096)] = 128
    """Requests that may wait; more are refused with 503 and Retry-After."""
    max_body_mib: Annotated[int, Field(ge=1, le=4096)] = 1024
    """MiB of one body; asynchronous invocations have up to 1 GB."""
    max_waiting_mib: Annotated[int, Field(ge=1)] = 2048
    """MiB of all bodies that wait or are in work."""
    max_pixels: Annotated[int, Field(ge=1)] = 2**26
    """Pixels of one decoded image."""
    max_voxels: Annotated[int, Field(ge=1)] = 2**27
    """Voxels of one decoded volume, and of the same volume on the network's grid."""
    body_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120
    """A body that takes longer to arrive is refused with 408."""
    predict_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3600
    """A prediction that takes longer is ended between two windows; one hour is an asynchronous invocation's maximum."""


def read_settings(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> ServeSettings:
    """Read the settings: arguments override the environment, which overrides the defaults.

    Args:
        argv: `serve`, then `--name value` pairs.
        environment: SageMaker sets the port; the `Environment` of a SageMaker model sets the rest.

    Raises:
        SettingError: It isn't `serve`, or a value is unknown or can't be used; the message names it.
    """
    if list(argv[:1]) != ["serve"]:
        raise SettingError("the first argument is not serve; begin the arguments with serve")
    values = {name.lower().replace("_", "-"): value for name, value in with_prefix(environment, ENVIRONMENT).items()}
    if environment.get(PORT_VARIABLE):
        values["port"] = environment[PORT_VARIABLE]
    if environment.get(MODEL_DIGEST_VARIABLE):
        values["model-sha256"] = environment[MODEL_DIGEST_VARIABLE]
    arguments = read_pairs(argv[1:])
    settings = parse_arguments(ServeSettings, values | arguments)
    if settings.host:
        return settings
    by_hand = is_local() or "model-dir" in arguments
    return settings.model_copy(update={"host": LOOPBACK if by_hand else EVERY_INTERFACE})

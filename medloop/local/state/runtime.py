"""The runtime of local jobs and endpoints: processes of this machine, or the images that AWS runs.

`MEDLOOP_RUNTIME` chooses it. An execution and an endpoint record the choice, and each detached process gets that of its
record, so that retries, trials and restarts follow it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from medloop.errors import TargetError

RUNTIME_VARIABLE = "MEDLOOP_RUNTIME"
PROCESS = "process"
CONTAINER = "container"
"""In containers, by the first engine that works here."""
RUNTIMES = (PROCESS, CONTAINER, "docker", "podman")


def chosen_runtime(environ: Mapping[str, str] | None = None) -> str:
    """The runtime that the environment names, else processes.

    Raises:
        TargetError: There is no such runtime.
    """
    name = (os.environ if environ is None else environ).get(RUNTIME_VARIABLE) or PROCESS
    if name not in RUNTIMES:
        raise TargetError(f"{RUNTIME_VARIABLE}={name[:20]!r}: is no runtime; use one of {', '.join(RUNTIMES)}")
    return name

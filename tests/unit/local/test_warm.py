"""Jobs forked from a process that has their packages: each is as a new process, and none depends on the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from medloop.local.jobs.warm import MINUTES_VARIABLE
from medloop.local.state.home import BUCKET
from tests.unit.local.conftest import Local
from tests.unit.local.steps import processing
from tests.unit.local.test_jobs import log_of, run_one

pytestmark = pytest.mark.slow

TOML = {"containers/tiny/container.toml": 'preload = ["numpy", "tempfile", "multiprocessing.process"]'}

DUMP = """
import builtins, os, sys
first = {name.partition(".")[0] for name in sys.modules}
import gc, json, random, resource, signal, tempfile, threading, time
from pathlib import Path
import multiprocessing.process
import numpy
root = Path(os.environ["ML_ROOT"])
job = root.parent.name
status = dict(line.partition(":")[::2] for line in Path("/proc/self/status").read_text().splitlines())
seen = {
    "argv": sys.argv, "orig": sys.orig_argv, "path": sys.path, "flags": str(sys.flags), "executable": sys.executable,
    "prefix": sys.prefix,
    "main": sorted(f"{k}={v}".partition(" at 0x")[0] for k, v in vars().items() if k.startswith("__")),
    "own": sorted(set(dir()) & {"_AT_START", "Server"}), "cwd": os.getcwd(), "env": dict(os.environ),
    "leader": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "shown": Path("/proc/self/environ").read_text().partition(chr(0) * 2)[0].rstrip(chr(0)).split(chr(0)),
    "command": Path("/proc/self/cmdline").read_text().rstrip(chr(0)).split(chr(0)),
    "status": {k: status[k] for k in ("Umask", "SigBlk", "SigIgn", "SigCgt", "CapEff", "Groups")},
    "fds": {n: os.readlink(f"/proc/self/fd/{n}").partition("[")[0] for n in os.listdir("/proc/self/fd")[:-1]},
    "finders": [getattr(f, "__name__", type(f).__name__) for f in sys.meta_path], "tmp": tempfile.gettempdir(),
    "origin": multiprocessing.process.ORIGINAL_DIR, "threads": threading.active_count(),
    "limits": [resource.getrlimit(n) for n in range(10)], "nice": os.nice(0), "cores": sorted(os.sched_getaffinity(0)),
    "stdio": [[f.encoding, f.errors, f.line_buffering, f.write_through, f.isatty()] for f in (sys.stdout, sys.stderr)],
    "hooks": [sys.excepthook is sys.__excepthook__, sys.gettrace(), sys.getswitchinterval(), gc.isenabled()],
    "project": sorted(first & {"medloop", "pipelines", "steps", "infra", "tests"}),
    "site": sys.modules["sitecustomize"].__file__, "locals": sorted(k for k in vars() if not k.startswith("_"))[:3],
}
seen = json.loads(json.dumps(seen).replace(job, "JOB").replace(os.environ["TMPDIR"], "TMP"))
(root / "processing/output/out/seen.json").write_text(json.dumps(seen))
(root / "processing/output/out/random").write_text(f"{random.random()} {numpy.random.rand()}")
"""


@pytest.fixture
def warm(local: Local, monkeypatch: pytest.MonkeyPatch) -> Iterator[Local]:
    """A local backend whose jobs start warm; its servers end with the test."""
    monkeypatch.setenv(MINUTES_VARIABLE, "5")
    yield local
    for server in servers(local):
        server.kill()


def servers(local: Local) -> list[psutil.Process]:
    """The servers of a home, keepers not counted."""
    running = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            arguments = [word for word in process.cmdline() if word]
            if (
                "warm_server.py" in str(arguments)
                and str(local.home) in str(arguments)
                and process.status() != "zombie"
            ):
                running.append(process)
    pids = {process.pid for process in running}
    return [process for process in running if process.ppid() not in pids]


def dump(local: Local, name: str, **more: Any) -> dict[str, Any]:
    """What a job sees of its process."""
    step = processing(
        name, local.image(DUMP, TOML), outputs={"out": f"s3://{BUCKET}/{name}"}, arguments=["a", "b c"], **more
    )
    record, job = run_one(local, step)
    assert record["StepStatus"] == "Succeeded", log_of(local, job)
    return dict(json.loads(local.read(f"s3://{BUCKET}/{name}/seen.json")))


def test_a_warm_job_is_as_a_new_process(warm: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments, import path, environment, working folder, signals, descriptors, limits and streams are the same."""
    first, second = dump(warm, "Same"), dump(warm, "Same2")
    assert len(servers(warm)) == 1
    monkeypatch.setenv(MINUTES_VARIABLE, "0")
    cold = dump(warm, "Same3")
    for seen in (first, second):
        different = {key: (value, cold[key]) for key, value in seen.items() if value != cold[key]}
        assert not different, json.dumps(different, indent=1)
    assert warm.read(f"s3://{BUCKET}/Same/random") != warm.read(f"s3://{BUCKET}/Same2/random")

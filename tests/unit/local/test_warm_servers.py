"""The servers of warm jobs: few, private, invisible to shells and disks, and gone with what they depend on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import medloop
from medloop.bundle import load_container
from medloop.container import memory
from medloop.local.jobs import job_site, warm_servers
from medloop.local.jobs.folders import Folder, Launch
from medloop.local.jobs.warm import start_program
from medloop.local.jobs.warm_servers import ServerLimits, surplus
from medloop.local.processes import Process
from medloop.local.session import local_session
from medloop.local.state.home import Home
from medloop.local.state.log_streams import LogStream
from tests.unit.local.conftest import Local, wait_until
from tests.unit.local.hosting import SERVER, Hosting
from tests.unit.local.steps import processing, training
from tests.unit.local.test_jobs import log_of, run_one
from tests.unit.local.test_warm import TOML, is_warm, notes, servers, warm

__all__ = ["warm"]


@pytest.mark.parametrize(
    ("limits", "ended"),
    [
        (ServerLimits(per_home=2, per_user=9), ["a/1"]),
        (ServerLimits(per_home=1, per_user=9), ["a/2", "a/1"]),
        (ServerLimits(per_home=9, per_user=4), ["b/1"]),
        (ServerLimits(per_home=2, per_user=2), ["a/2", "a/1", "b/1"]),
        (ServerLimits(per_home=3, per_user=5), []),
    ],
)
def test_the_least_recently_used_servers_end(tmp_path: Path, limits: ServerLimits, ended: list[str]) -> None:
    """Those of this home beyond its limit, and those of all homes beyond the user's."""
    used = {"a/1": 20, "a/2": 30, "a/3": 50, "b/1": 10, "b/2": 40}
    for name, at in used.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "lock").touch()
        os.utime(tmp_path / name / "lock", (at, at))
    folders = surplus([tmp_path / name for name in used], tmp_path / "a", limits)
    assert [str(folder.relative_to(tmp_path)) for folder in folders] == ended


@pytest.mark.slow
def test_a_home_has_three_servers(warm: Local) -> None:
    """A job in a fourth environment ends the server that was used least recently, which starts again for the next."""
    image = warm.image("print('ran')", TOML)
    for number in (1, 2, 3, 1, 4, 2):
        request = {"Environment": {"KIND": str(number)}}
        _, job = run_one(warm, processing(f"P{number}", image, request=request))
        assert (log_of(warm, job), notes(warm, job)) == (["ran"], [])
    wait_until(lambda: len(servers(warm)) == 3)
    kinds = {process.environ()["KIND"] for process in servers(warm)}
    assert kinds == {"1", "2", "4"}


def staged(local: Local, code: str) -> tuple[Home, Folder, Launch, LogStream]:
    """A staged program that preloads NumPy."""
    home = Home(local.home)
    folder = Folder(home.folder("jobs", "mine"))
    files = {
        "code/containers/tiny/main.py": code,
        "code/containers/tiny/container.toml": 'preload = ["numpy"]',
        "site/sitecustomize.py": "",
    }
    for name, text in files.items():
        (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / name).write_text(text)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder.root / 'site'}{os.pathsep}{folder.root / 'code'}"}
    launch = Launch([sys.executable, "containers/tiny/main.py"], env, folder.root / "code")
    return home, folder, launch, LogStream(home.folder("logs") / "log", {})


def output(process: Process) -> str:
    """All that a process prints until its end."""
    assert process.stdout is not None
    with process.stdout as stream:
        text = stream.read()
    assert process.wait(30) == 0
    return text


@pytest.mark.slow
def test_no_server_starts_when_memory_is_short(warm: Local) -> None:
    """The job starts cold, with one line in its log."""
    home, folder, launch, log = staged(warm, "print('ran')")
    process = start_program(home, folder, launch, log, limits=ServerLimits(min_memory=1 << 60))
    assert output(process) == "ran\n"
    assert "of memory are available, and a server needs 1152921504.6 GB" in log.path.read_text()
    assert servers(warm) == []


@pytest.mark.slow
def test_an_idle_server_ends_when_memory_is_short(warm: Local) -> None:
    """Not while its job runs."""
    home, folder, launch, log = staged(warm, "import time; time.sleep(3)")
    process = start_program(home, folder, launch, log, limits=ServerLimits(reserve=1 << 60))
    assert is_warm(process.pid)
    time.sleep(2)
    assert len(servers(warm)) == 1
    output(process)
    wait_until(lambda: servers(warm) == [])


@pytest.mark.slow
def test_a_server_holds_no_terminal_pipe_or_folder(warm: Local) -> None:
    """A pipe of the command that started it ends, and only its own files are open."""
    image = warm.image("print('ran')", TOML)
    step = json.dumps([processing("P", image)])
    code = f"""
import sys
from pathlib import Path
from tests.unit.local.conftest import Local
from medloop.local.session import local_session
home = Path({str(warm.home)!r}); boto = local_session(home)
local = Local(home, boto, boto.client("sagemaker"), boto.client("s3"))
print(local.finish(local.start({step}))["PipelineExecutionStatus"])
"""
    root = Path(medloop.__file__).parents[1]
    shell = f'"{sys.executable}" -c "$CODE" 2>&1 | cat'
    environment = {**os.environ, "CODE": code, "PYTHONPATH": str(root)}
    done = subprocess.run(["sh", "-c", shell], stdout=subprocess.PIPE, timeout=60, env=environment, cwd=root)
    assert done.stdout.decode() == "Succeeded\n"
    (server,) = servers(warm)
    assert (server.cwd(), server.terminal(), os.getsid(server.pid)) == ("/", None, server.pid)
    assert server.net_connections(kind="inet") == []
    links = [os.readlink(f"/proc/{server.pid}/fd/{number}") for number in os.listdir(f"/proc/{server.pid}/fd")]
    (folder,) = warm.home.glob("warm/*")
    kinds = sorted(link.partition("[")[0] for link in links)
    assert kinds == sorted(["/dev/null", f"{folder}/log", f"{folder}/log", "socket:"])


@pytest.mark.slow
def test_an_endpoint_keeps_no_server(warm: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its container may run for days: the server ends when idle, and the container continues."""
    monkeypatch.setenv("MEDLOOP_WARM_MINUTES", "0.02")
    hosting = Hosting(warm, warm.boto.client("sagemaker-runtime"), warm.image(SERVER, TOML))
    try:
        hosting.endpoint("one")
        pid = json.loads(hosting.invoke(b"x"))["pid"]
        assert is_warm(pid)
        wait_until(lambda: list((warm.home / "warm").glob("*/socket")) == [])
        assert json.loads(hosting.invoke(b"x"))["pid"] == pid
    finally:
        hosting.close()


@pytest.mark.slow
def test_distributed_training_starts_cold(warm: Local) -> None:
    """It becomes torchrun, whose processes import everything: a server would only take memory."""
    for number, (strategy, expected) in enumerate([('"ddp"', 0), ("fsdp", 0), ('"single"', 1)]):
        image = warm.image("import os; open(os.environ['ML_ROOT'] + '/model/w', 'w').close()", TOML)
        step = training(f"T{number}", image, HyperParameters={"strategy": strategy})
        description, _ = warm.run([step])
        assert description["PipelineExecutionStatus"] == "Succeeded"
        assert len(servers(warm)) == expected, strategy


@pytest.mark.slow
def test_folders_of_servers_that_ended_long_ago_are_deleted(warm: Local) -> None:
    """Not that of a server that runs, however long ago it was used."""
    image = warm.image("print('ran')", TOML)
    folders: list[Path] = []
    for number in range(3):
        run_one(warm, processing(f"P{number}", image, request={"Environment": {"KIND": str(number)}}))
        (folder,) = set(warm.home.glob("warm/*")) - set(folders)
        folders.append(folder)
        if number == 0:
            servers(warm)[0].kill()
        for path in warm.home.glob("warm/*/lock"):
            os.utime(path, (time.time() - 100_000, time.time() - 100_000))
    assert sorted(warm.home.glob("warm/*")) == sorted(folders[1:])


@pytest.mark.slow
def test_homes_with_one_folder_of_servers_share_them(warm: Local, tmp_path: Path) -> None:
    """`warm` may be a link: a server then outlives the home that started it."""
    (tmp_path / "shared").mkdir()
    other = local_session(tmp_path / "other")
    homes = [warm, Local(tmp_path / "other", other, other.client("sagemaker"), other.client("s3"))]
    running: list[psutil.Process] = []
    for number, local in enumerate(homes):
        local.home.mkdir(exist_ok=True)
        (local.home / "warm").symlink_to(tmp_path / "shared")
        _, job = run_one(local, processing("P", local.image("print('ran')", TOML)))
        assert (log_of(local, job), notes(local, job)) == (["ran"], [])
        running += servers(replace(warm, home=tmp_path / "shared"))
        if number == 0:
            shutil.rmtree(local.home)
    try:
        assert len(running) == 2
        assert running[0].pid == running[1].pid
    finally:
        running[0].kill()


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A server that runs from a copy of its code."""
    code, folder = tmp_path / "code", tmp_path / "server"
    code.mkdir()
    (folder / "tmp").mkdir(parents=True)
    for path in Path(warm_servers.__file__).parent.glob("warm_*.py"):
        shutil.copy(path, code)
    files = {name: shutil.copy(module.__file__, code) for name, module in (("job_site", job_site), ("memory", memory))}
    config = {"preload": ["json"], "checkout": "/none", **files, "idle_seconds": 600, "reserve": 0, "own": []}
    (folder / "config.json").write_text(json.dumps(config))
    environment = {"MEDLOOP_WARM_ROOM": "-" * 9000, "PATH": os.environ["PATH"]}
    process = subprocess.Popen([sys.executable, str(code / "warm_server.py"), str(folder), "-" * 1000], env=environment)
    wait_until(lambda: (folder / "socket").exists() or process.poll() is not None)
    yield code, process
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["warm_server.py", "warm_entry.py", "memory.py", "job_site.py", ""])
def test_a_server_ends_when_this_package_is_installed_again(
    copied: tuple[Path, subprocess.Popen[bytes]], name: str
) -> None:
    """A changed file of the server's own code, or none at all any more."""
    code, process = copied
    assert process.poll() is None
    if name:
        (code / name).write_text("changed")
    else:
        shutil.rmtree(code)
    assert process.wait(30) == 0


COUNTING = """
import importlib, sys, torch
def fail(*_):
    raise SystemExit("GPUs are counted on import")
torch._C._cuda_getDeviceCount = torch.cuda.is_available = torch.cuda.device_count = torch.cuda._lazy_init = fail
for name in sys.argv[1:]:
    importlib.import_module(name)
print(torch.cuda.is_initialized())
"""


@pytest.mark.slow
def test_no_preloaded_package_counts_gpus() -> None:
    """A process that has called CUDA can't be forked: each job of a container on a GPU would fail, or start cold."""
    for preload in {tuple(load_container(name).preload) for name in ("classify", "segment", "evaluate", "serve")}:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", COUNTING, *preload], capture_output=True, text=True
        )
        assert done.stdout.split()[:1] == ["False"], done.stderr

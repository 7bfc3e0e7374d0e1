"""Jobs forked from a process that has their packages: each is as a new process, and none depends on the server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from medloop.local.jobs.warm import MINUTES_VARIABLE
from medloop.local.state.home import BUCKET
from tests.unit.local.conftest import Local, wait_until
from tests.unit.local.hosting import SERVER, Hosting
from tests.unit.local.steps import processing, training
from tests.unit.local.test_jobs import SLEEPING, log_of, pid_of_job, processes_of, run_one

pytestmark = pytest.mark.slow

TOML = {"containers/tiny/container.toml": 'preload = ["numpy.random", "tempfile", "multiprocessing.process"]'}

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
    numbers = [warm.read(f"s3://{BUCKET}/{name}/random").split() for name in ("Same", "Same2")]
    assert all(first_number != second_number for first_number, second_number in zip(*numbers, strict=True))


def notes(local: Local, job: dict[str, Any]) -> list[str]:
    """The lines of a job's log that say why it didn't start warm."""
    return [line for line in log_of(local, job) if line.startswith("medloop: not started warm: ")]


ENDINGS = {
    "exit": "import sys; print('before'); sys.exit(3)",
    "text": "import sys; sys.exit('a reason')",
    "error": "def fail():\n    raise ValueError('é')\nfail()",
    "syntax": "a b",
    "signal": "import os; os.kill(os.getpid(), 9)",
    "interrupt": "raise KeyboardInterrupt",
    "at exit": "import atexit, threading\natexit.register(print, 1)\nthreading.Thread(target=print, args='t').start()",
    "abrupt": "import os; print('a', end='', flush=True); os._exit(7)",
    "becomes another": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import sys; sys.exit(5)'])",
}


def test_a_warm_job_ends_as_a_cold_one(warm: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit codes, signals, tracebacks and what is done at exit are the same, and so is the reason of the failure."""
    seen: dict[str, list[Any]] = {}
    for minutes in ("5", "0"):
        monkeypatch.setenv(MINUTES_VARIABLE, minutes)
        steps = [processing(f"S{n}", warm.image(code, TOML)) for n, code in enumerate(ENDINGS.values())]
        for step in steps:
            record, job = run_one(warm, step)
            name = job["ProcessingJobName"]
            log = [line.replace(name, "JOB") for line in log_of(warm, job)]
            seen.setdefault(minutes, []).append([record["StepStatus"], record.get("FailureReason"), log])
    for name, as_warm, as_cold in zip(ENDINGS, seen["5"], seen["0"], strict=True):
        assert as_warm == as_cold, name
    assert len(servers(warm)) == 1


STOPPED = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("stopping", flush=True), sys.exit(143)))
subprocess.Popen(["sleep", "600"])
import os; print("ready", os.getpid(), flush=True)
time.sleep(600)
"""


def test_a_warm_job_gets_sigterm(warm: Local) -> None:
    """StopTrainingJob reaches it, and all that it started ends."""
    request = training("T", warm.image(STOPPED, TOML))["Arguments"]
    warm.sagemaker.create_training_job(TrainingJobName="mine", **request)
    assert is_warm(pid_of_job(warm))
    warm.sagemaker.stop_training_job(TrainingJobName="mine")
    describe = lambda: warm.sagemaker.describe_training_job(TrainingJobName="mine")  # noqa: E731
    wait_until(lambda: describe()["TrainingJobStatus"] == "Stopped")
    assert log_of(warm, describe())[-1] == "stopping"
    assert processes_of(warm) == []


def is_warm(pid: int) -> bool:
    """True if a process was forked from a server: its parent is a keeper."""
    return "warm_server.py" in str(psutil.Process(pid).parent().cmdline())  # type: ignore[union-attr]


def test_killed_warm_job_fails_its_step(warm: Local) -> None:
    """Kill -9 of the job: the step names the signal, its stray child ends too, and its keeper ends."""
    arn = warm.start([training("Train", warm.image(SLEEPING, TOML))])
    pid = pid_of_job(warm)
    keeper = psutil.Process(pid).ppid()
    os.kill(pid, signal.SIGKILL)
    assert warm.finish(arn)["PipelineExecutionStatus"] == "Failed"
    assert "signal 9 (SIGKILL)" in warm.steps(arn)["Train"]["FailureReason"]
    assert processes_of(warm) == []
    wait_until(lambda: not psutil.pid_exists(keeper))


def test_killed_keeper_is_a_killed_job(warm: Local) -> None:
    """The system kills the job with its keeper, and the step fails."""
    arn = warm.start([training("Train", warm.image(SLEEPING, TOML))])
    os.kill(psutil.Process(pid_of_job(warm)).ppid(), signal.SIGKILL)
    assert warm.finish(arn)["PipelineExecutionStatus"] == "Failed"
    assert "signal 9 (SIGKILL)" in warm.steps(arn)["Train"]["FailureReason"]
    assert processes_of(warm) == []


def kill_engine(arn: str) -> None:
    """Kill -9 of an execution's engine."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if arn in process.cmdline():
                process.kill()


def test_killed_engine_ends_its_warm_job(warm: Local) -> None:
    """Kill -9 of the engine: the job and its keeper end by themselves, and the execution is Failed."""
    arn = warm.start([training("Train", warm.image(SLEEPING, TOML))])
    pid = pid_of_job(warm)
    keeper = psutil.Process(pid).ppid()
    kill_engine(arn)
    wait_until(lambda: not psutil.pid_exists(pid) and not psutil.pid_exists(keeper))
    assert "engine died" in warm.finish(arn)["FailureReason"]
    wait_until(lambda: processes_of(warm) == [])


WAITING = """
import os, time
from pathlib import Path
print("ready", os.getpid(), flush=True)
while not Path(os.environ["GO"]).exists():
    time.sleep(0.02)
print("done")
"""


def test_killed_server_ends_no_job(warm: Local, tmp_path: Path) -> None:
    """Kill -9 of the server: its job completes, and the next one starts from a new server."""
    request = {"Environment": {"GO": str(tmp_path / "go")}}
    arn = warm.start([processing("P", warm.image(WAITING, TOML), request=request)])
    assert is_warm(pid_of_job(warm))
    (server,) = servers(warm)
    server.kill()
    (tmp_path / "go").touch()
    assert warm.finish(arn)["PipelineExecutionStatus"] == "Succeeded"
    record, job = run_one(warm, processing("Q", warm.image(WAITING, TOML), request=request))
    assert (record["StepStatus"], log_of(warm, job)[-1], notes(warm, job)) == ("Succeeded", "done", [])
    (again,) = servers(warm)
    assert again.pid != server.pid


def test_a_server_that_hangs_costs_one_line(warm: Local) -> None:
    """The job starts cold and says so; the server is ended, and the next job starts warm."""
    image = warm.image("print('ran')", TOML)
    run_one(warm, processing("P", image))
    (server,) = servers(warm)
    server.suspend()
    _, job = run_one(warm, processing("Q", image))
    assert log_of(warm, job)[-1] == "ran"
    assert [("didn't respond" in line) for line in notes(warm, job)] == [True]
    wait_until(lambda: not server.is_running() or server.status() == "zombie")
    _, job = run_one(warm, processing("R", image))
    assert notes(warm, job) == []


def test_jobs_leave_nothing_in_their_server(warm: Local) -> None:
    """After its jobs a server has one thread, no child, no more descriptors and no more memory than before."""
    image = warm.image("x = bytearray(200_000_000)", TOML)
    run_one(warm, processing("P", image))
    (server,) = servers(warm)
    wait_until(lambda: not server.children())
    before = (server.num_fds(), server.num_threads(), server.memory_info().rss)
    for number in range(3):
        run_one(warm, processing(f"Q{number}", image))
    wait_until(lambda: not server.children())
    assert (server.num_fds(), server.num_threads()) == before[:2]
    assert before[1] == 1
    assert server.memory_info().rss < before[2] + 20_000_000


def test_bundles_with_the_same_modules_share_a_server(warm: Local) -> None:
    """Each job imports its own bundle's modules, also those of this project."""
    for text in ("one", "two"):
        code = "import helper, medloop.own, sys\nprint(helper.NAME, medloop.own.NAME)"
        package = {"medloop/__init__.py": "", "medloop/own.py": f"NAME = '{text}'"}
        image = warm.image(code, {**TOML, **package, "containers/tiny/helper.py": f"NAME = '{text}'"})
        _, job = run_one(warm, processing(f"P{text}", image))
        assert (log_of(warm, job), notes(warm, job)) == ([f"{text} {text}"], [])
    assert len(servers(warm)) == 1


@pytest.mark.parametrize("name", ["numpy", "tempfile", "multiprocessing"])
def test_a_bundle_that_replaces_an_imported_module_starts_cold(warm: Local, name: str) -> None:
    """Its own module counts, as in a new process, and the log says why it isn't warm."""
    image = warm.image(f"import {name}; print({name}.NAME)", {**TOML, f"containers/tiny/{name}.py": "NAME = 'own'"})
    _, job = run_one(warm, processing("P", image))
    (line,) = notes(warm, job)
    assert f"a module of the name {name}, which is imported already" in line
    assert log_of(warm, job)[-1] == "own"


def test_a_server_ends_when_idle(warm: Local, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not while a job runs; its folder keeps no socket."""
    monkeypatch.setenv(MINUTES_VARIABLE, "0.02")
    request = {"Environment": {"GO": str(tmp_path / "go")}}
    arn = warm.start([processing("P", warm.image(WAITING, TOML), request=request)])
    pid_of_job(warm)
    (server,) = servers(warm)
    time.sleep(3)
    assert [process.pid for process in servers(warm)] == [server.pid]
    (tmp_path / "go").touch()
    assert warm.finish(arn)["PipelineExecutionStatus"] == "Succeeded"
    wait_until(lambda: servers(warm) == [])
    assert list(warm.home.glob("warm/*/socket")) == []


def test_a_server_ends_with_its_home(warm: Local) -> None:
    """A deleted home leaves no process."""
    run_one(warm, processing("P", warm.image("pass", TOML)))
    assert len(servers(warm)) == 1
    shutil.rmtree(warm.home)
    wait_until(lambda: servers(warm) == [])


def with_package(folder: Path, content: str) -> tuple[dict[str, str], dict[str, Any]]:
    """A container that preloads a package of that content, and the request of a job that finds it."""
    folder.mkdir(exist_ok=True)
    (folder / "thirdparty.py").write_text(content)
    return {"containers/tiny/container.toml": 'preload = ["thirdparty"]'}, {"Environment": {"PYTHONPATH": str(folder)}}


def test_a_changed_package_ends_its_server(warm: Local, tmp_path: Path) -> None:
    """A job never sees an earlier version of a package."""
    for text in ("first", "second one"):
        toml, request = with_package(tmp_path / "site", f"NAME = '{text}'")
        _, job = run_one(
            warm, processing(text[:5], warm.image("import thirdparty; print(thirdparty.NAME)", toml), request=request)
        )
        assert (log_of(warm, job), notes(warm, job)) == ([text], [])
    wait_until(lambda: len(servers(warm)) == 1)


TRACES = """
import os, tempfile
os.environ["SET"] = os.environ.get("SET", "8")
os.environ["CHANGED"] = "2"
os.environ["CACHE"] = os.path.join(tempfile.gettempdir(), "outer", "inner")
os.makedirs(os.environ["CACHE"], exist_ok=True)
"""


@pytest.mark.parametrize("variables", [{}, {"SET": "4", "CHANGED": "1"}])
def test_what_packages_leave_on_import_is_in_each_job(
    warm: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Variables that they set, also those that name the job's TMPDIR, and folders that they make there."""
    toml, request = with_package(tmp_path / "site", TRACES)
    request["Environment"] |= variables
    code = """
    import os, thirdparty
    cache = os.environ["CACHE"]
    own = cache == os.environ["TMPDIR"] + "/outer/inner"
    print(os.environ["SET"], os.environ["CHANGED"], os.path.isdir(cache), own)
    os.system("printenv SET")
    """
    logs = []
    for minutes in ("5", "5", "0"):
        monkeypatch.setenv(MINUTES_VARIABLE, minutes)
        _, job = run_one(warm, processing(f"P{len(logs)}", warm.image(code, toml), request=request))
        logs.append(log_of(warm, job))
    value = variables.get("SET", "8")
    assert logs == [[f"{value} 2 True True", value]] * 3
    assert len(servers(warm)) == 1


def test_jobs_with_other_trackers_share_a_server(warm: Local) -> None:
    """Each sees its own store, experiment and key, and none is in the server's environment."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_API_KEY", "WANDB_PROJECT")
    for text in ("one", "two"):
        request = {"Environment": dict.fromkeys(names, text)}
        image = warm.image(f"import os; print(*(os.environ[name] for name in {names}))", TOML)
        _, job = run_one(warm, processing(f"P{text}", image, request=request))
        assert (log_of(warm, job), notes(warm, job)) == ([" ".join([text] * 4)], [])
    (server,) = servers(warm)
    assert not set(names) & set(server.environ())


UNFIT = {
    "start threads": "import threading, time; threading.Thread(target=time.sleep, args=[600], daemon=True).start()",
    "start a process": "import subprocess; subprocess.Popen(['sleep', '600'])",
    "keep /dev/zero open": "FILE = open('/dev/zero')",
    "make temporary files": "import tempfile; FOLDER = tempfile.mkstemp()[1]; import os; os.closerange(3, 100)",
    "can't be imported (ModuleNotFoundError": "import no_such_module",
    "read WANDB_MODE on import": "import os; MODE = os.environ.get('WANDB_MODE', 'off')",
    "read MLFLOW_TRACKING_URI": "import os; 'MLFLOW_TRACKING_URI' in os.environ",
    "import medloop": "import sys, types; sys.modules['medloop'] = types.ModuleType('medloop')",
    "ended with code 4": "import os; os._exit(4)",
}


@pytest.mark.parametrize("reason", UNFIT)
def test_packages_that_can_not_be_forked_start_cold(warm: Local, tmp_path: Path, reason: str) -> None:
    """The log of each job says why in one line, and leaves no process."""
    toml, request = with_package(tmp_path / "site", UNFIT[reason])
    for name in ("P", "Q"):
        _, job = run_one(warm, processing(name, warm.image("print('ran')", toml), request=request))
        (line,) = notes(warm, job)
        assert reason in line
        assert log_of(warm, job)[-1] == "ran"
    assert servers(warm) == []


@pytest.mark.parametrize(
    ("minutes", "expected"), [("0", []), ("-1", []), ("ten", ["is not a number of minutes"]), ("nan", ["is not"])]
)
def test_the_switch(warm: Local, monkeypatch: pytest.MonkeyPatch, minutes: str, expected: list[str]) -> None:
    """0 starts no server; anything that is no number neither, with one line in the log."""
    monkeypatch.setenv(MINUTES_VARIABLE, minutes)
    _, job = run_one(warm, processing("P", warm.image("print('ran')", TOML)))
    assert [text for line in notes(warm, job) for text in expected if text in line] == expected
    assert len(notes(warm, job)) == len(expected)
    assert servers(warm) == []


def test_executions_at_once_share_a_server_that_is_private(warm: Local) -> None:
    """One server, a socket of its owner only, and a path longer than a socket's may be."""
    image = warm.image("import time; time.sleep(0.3)", TOML)
    # num_running decides the threads of a job, and so its environment: equal for both
    arns = [
        warm.start([processing(name, image, request={"Environment": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}})])
        for name in "PQ"
    ]
    assert [warm.finish(arn)["PipelineExecutionStatus"] for arn in arns] == ["Succeeded"] * 2
    (socket,) = warm.home.glob("warm/*/socket")
    assert [oct(path.stat().st_mode)[-3:] for path in (socket, socket.parent, socket.parent.parent)] == [
        "600",
        "700",
        "700",
    ]
    assert len(servers(warm)) == 1


TRAINING = """
import os, torch
from monai.networks.nets import UNet
from safetensors.torch import save_file
torch.manual_seed(3)
net = UNet(2, 1, 2, (8, 16, 32), (2, 2), num_res_units=1)
optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
for step in range(5):
    loss = net(torch.randn(4, 1, 32, 32)).square().mean()
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
print("threads", torch.get_num_threads(), os.getppid())
names = sorted(name for name in os.environ if not name.startswith("_"))  # MLflow's identifier of this process
print("environment", *(f"{name}={os.environ[name].replace(os.environ['TMPDIR'], 'TMP')}" for name in names))
import gc, torch._inductor.codecache
def is_in_server(text):
    return isinstance(text, str) and len(text) < 999 and os.environ["ML_ROOT"].partition("/jobs/")[0] + "/warm/" in text
values = (value for part in gc.get_objects() if isinstance(part, dict) for value in list(part.values()))
print("of the server", [text[:99] for text in values if is_in_server(text)])
print("cuda", torch.cuda.is_initialized(), torch.cuda._is_in_bad_fork())
if torch.cuda.is_available():
    print("on the GPU", torch.ones(3, device="cuda").sum().item())
save_file(net.state_dict(), os.environ["ML_ROOT"] + "/model/weights")
"""


def test_weights_are_the_same_bit_by_bit(warm: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training from a process with the real container's packages, which has one thread, and one without."""
    toml = {"containers/tiny/container.toml": Path("containers/segment/container.toml").read_text()}
    models, logs = [], []
    for minutes in ("5", "5", "0"):
        monkeypatch.setenv(MINUTES_VARIABLE, minutes)
        arn = warm.start([training(f"T{len(models)}", warm.image(TRAINING, toml))])
        assert warm.finish(arn, 300)["PipelineExecutionStatus"] == "Succeeded"
        (step,) = warm.steps(arn).values()
        name = step["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
        job = warm.sagemaker.describe_training_job(TrainingJobName=name)
        assert notes(warm, job) == []
        facts = ("environment ", "of the server ", "cuda ", "on the GPU ")
        logs.append([line.replace(name, "JOB") for line in log_of(warm, job) if line.startswith(facts)])
        models.append(warm.read(job["ModelArtifacts"]["S3ModelArtifacts"]))
    (server,) = servers(warm)
    assert server.num_threads() == 1
    assert models[0] == models[1] == models[2]
    assert logs[0] == logs[1] == logs[2]
    assert {"of the server []", "cuda False False"} <= set(logs[0])


def test_a_warm_endpoint(warm: Local) -> None:
    """Its container is restarted after a crash, ends with its supervisor even by kill -9, and leaves no process."""
    hosting = Hosting(warm, warm.boto.client("sagemaker-runtime"), warm.image(SERVER, TOML))
    try:
        hosting.endpoint("one")
        first = json.loads(hosting.invoke(b"x"))
        assert is_warm(first["pid"])
        assert first["word"] == "one"
        os.kill(first["pid"], signal.SIGKILL)

        def restarted() -> int:
            with suppress(ClientError):
                return int(json.loads(hosting.invoke(b"x"))["pid"])
            return first["pid"]

        wait_until(lambda: restarted() != first["pid"])
        pid = restarted()
        assert is_warm(pid)
        for supervisor in hosting.supervisors():
            supervisor.kill()
        wait_until(lambda: not psutil.pid_exists(pid))
    finally:
        hosting.close()
    assert processes_of(warm) == []

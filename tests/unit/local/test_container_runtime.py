"""Jobs in containers, with an engine of a few lines: what a container is given, and what is left when anything dies."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from medloop.errors import TargetError
from medloop.local.errors import StagingError
from medloop.local.jobs.container_runtime import contain
from medloop.local.jobs.folders import Folder, Launch, Program
from medloop.local.session import local_session
from medloop.local.state.home import BUCKET, Home
from medloop.local.state.log_streams import LogStream
from medloop.local.state.objects import reference
from medloop.local.state.runtime import chosen_runtime
from tests.unit.local.conftest import Local, wait_until
from tests.unit.local.fake_engine import FakeEngine
from tests.unit.local.hosting import SERVER, Hosting
from tests.unit.local.steps import processing, training

TOML = {
    "containers/tiny/container.toml": 'name = "tiny"\nkind = "processing"\nrole = "processing"\nbase = "b"\n'
    "include = []"
}
WAIT = """
import os, signal, sys, time
from pathlib import Path
def stop(*_):
    (Path(os.environ["ML_ROOT"]) / "model" / "checkpoint").write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("waiting", flush=True)
time.sleep(60)
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """A podman that works, chosen as the runtime."""
    return FakeEngine.install(tmp_path / "engine", monkeypatch)


@pytest.fixture
def local(engine: FakeEngine, local: Local) -> Local:
    """A local backend that runs jobs in containers."""
    assert engine.running == []
    return local


@pytest.fixture
def start(tmp_path: Path, engine: FakeEngine) -> Callable[..., tuple[Launch, str]]:
    """Contain a program whose bundle is staged; returns the client's start, and the log."""
    assert engine.running == []
    folder = Folder(tmp_path / "jobs" / "one")
    for name, text in {"containers/tiny/main.py": "", **TOML}.items():
        (folder.root / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / "code" / name).write_text(text)
    log = LogStream(tmp_path / "log")

    def contained(**program: Any) -> tuple[Launch, str]:
        fields = {
            "runtime": "podman",
            "container": "tiny",
            "image": "medloop-tiny:0",
            "arguments": ["train"],
            **program,
        }
        launch = Launch(["python"], {"HOME": "h"}, folder.root / "code")
        done = contain(Home(tmp_path / "home"), folder, launch, Program(**fields), log, lambda: False)
        return done, log.path.read_text() if log.path.exists() else ""

    return contained


@pytest.mark.slow
class TestClient:
    """The command of the engine's client."""

    def test_it_shuts_the_container_off(self, start: Callable[..., tuple[Launch, str]]) -> None:
        """No network, no capabilities, a read-only root, no pull of a stranger's image; /tmp is writable."""
        argv = start()[0].argv
        expected = {"--rm", "--network=none", "--read-only", "--cap-drop=all", "--tmpfs=/tmp:exec", "--pull=never"}
        assert expected <= set(argv)
        assert argv[-2:] == ["medloop-tiny:0", "train"]

    def test_inputs_are_read_only(self, start: Callable[..., tuple[Launch, str]]) -> None:
        """Links lead to the same paths in the container; a path with a comma is mounted in other words."""
        argv = start(read=[Path("/data/a b"), Path("/data/c,d")], written=[Path("/cache:1")])[0].argv
        assert "--mount=type=bind,source=/data/a b,target=/data/a b,readonly" in argv
        assert "--volume=/data/c,d:/data/c,d:ro" in argv
        assert "--mount=type=bind,source=/cache:1,target=/cache:1" in argv

    def test_what_no_engine_mounts_is_refused(self, start: Callable[..., tuple[Launch, str]]) -> None:
        """By name: an engine would read it as two folders."""
        with pytest.raises(StagingError, match=r"/data/a,b:c: .*rename"):
            start(read=[Path("/data/a,b:c")])

    def test_values_are_not_in_the_list_of_processes(
        self, start: Callable[..., tuple[Launch, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A key is passed by name; a variable that the client itself needs keeps its value there."""
        monkeypatch.setenv("TAKEN", "the client's")
        monkeypatch.setenv("OWN_KEY", "secret too")
        launch, _ = start(variables={"WANDB_API_KEY": "secret", "TAKEN": "the job's", "OWN_KEY": "secret too"})
        assert {"--env=WANDB_API_KEY", "--env=OWN_KEY"} <= set(launch.argv)
        assert launch.env["WANDB_API_KEY"] == "secret"
        assert "--env=TAKEN=the job's" in launch.argv
        assert launch.env["TAKEN"] == "the client's"

    def test_a_server_is_published_on_this_host_only(self, start: Callable[..., tuple[Launch, str]]) -> None:
        """No other computer reaches the model."""
        assert "--publish=127.0.0.1:1234:8080" in start(port=1234)[0].argv

    def test_a_tracker_is_reached(self, start: Callable[..., tuple[Launch, str]]) -> None:
        """A job that reports to a server has the network, as on AWS."""
        argv = start(connects=True)[0].argv
        assert "--network=host" in argv
        assert "--network=none" not in argv

    def test_more_options_and_another_entry_point(
        self, start: Callable[..., tuple[Launch, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The user's options come last, so that they win; the request's entry point replaces the image's."""
        monkeypatch.setenv("MEDLOOP_CONTAINER_OPTIONS", "--gpus 'device=0,1'")
        argv = start(entry=["python3", "/opt/ml/x.py"])[0].argv
        assert argv[-5:] == ["--gpus", "device=0,1", "medloop-tiny:0", "/opt/ml/x.py", "train"]
        assert "--entrypoint=python3" in argv

    def test_an_image_is_built_once(self, start: Callable[..., tuple[Launch, str]]) -> None:
        """On its first use, with the engine's output in the log."""
        assert "STEP 1: FROM BASE_IMAGE=b" in start()[1]
        assert start()[1].count("STEP 1") == 1

    def test_an_image_that_cannot_be_built(self, start: Callable[..., tuple[Launch, str]], engine: FakeEngine) -> None:
        """The reason names the command that builds it on another base."""
        engine.refuse_builds()
        with pytest.raises(StagingError, match="medloop images build tiny --base"):
            start()


def test_an_unknown_runtime_is_refused() -> None:
    """By the variable's name, with the words that it takes."""
    with pytest.raises(TargetError, match=r"MEDLOOP_RUNTIME='kubernetes'.*process, container"):
        chosen_runtime({"MEDLOOP_RUNTIME": "kubernetes"})


def tiny(local: Local, code: str) -> str:
    """The image of a container of a few lines."""
    return local.image(code, TOML)


def children(engine: FakeEngine) -> list[psutil.Process]:
    """The processes of the engine's containers."""
    pids = [json.loads(path.read_text())["pid"] for path in engine.running]
    return [psutil.Process(pid) for pid in pids if pid and psutil.pid_exists(pid)]


def clients(local: Local) -> list[psutil.Process]:
    """The engine's clients that run jobs of this home."""

    def runs_here(argv: list[str]) -> bool:
        return "run" in argv and any(str(local.home) in word for word in argv)

    return [p for p in psutil.process_iter(["cmdline"]) if runs_here(p.info["cmdline"] or [])]


@pytest.mark.slow
class TestJobs:
    """Executions whose jobs run in containers."""

    def test_a_pipeline_runs(self, local: Local, engine: FakeEngine, tmp_path: Path) -> None:
        """Inputs, arguments, outputs, environment and log are those of a process; nothing is left."""
        data = tmp_path / "my data"
        data.mkdir()
        (data / "a.txt").write_text("A")
        code = """
            import os, sys
            from pathlib import Path
            root = Path(os.environ["ML_ROOT"])
            (root / "processing/output/out/seen").write_text(
                f"{sys.argv[2] == str(root.parent / 'ml/processing/input/data')} {os.environ['SETTING']} "
                + (root / "processing/input/data/a.txt").read_text() + os.environ.get("HOME", " no home"))
            print("hello")
        """
        step = processing(
            "Read",
            tiny(local, code),
            inputs={"data": reference(Home.find(local.home), data)},
            outputs={"out": f"s3://{BUCKET}/out"},
            arguments=["--where", "/opt/ml/processing/input/data"],
            request={"Environment": {"SETTING": "yes"}},
        )
        description, steps = local.run([step])
        assert description["PipelineExecutionStatus"] == "Succeeded", steps
        assert local.read(f"s3://{BUCKET}/out/seen") == b"True yes A no home"
        assert len(engine.ended) == 1
        assert engine.running == []
        (flags,) = [json.loads(path.read_text())["flags"] for path in engine.ended]
        assert any(f"target={data},readonly" in flag for flag in flags)

    def test_a_stopped_job_keeps_its_model(self, local: Local, engine: FakeEngine) -> None:
        """SIGTERM reaches the program, which saves; its container is gone."""
        arn = local.start([training("Train", tiny(local, WAIT))])
        wait_until(lambda: children(engine) and self._log(local).count("waiting"))
        local.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken="t" * 32)
        assert local.finish(arn)["PipelineExecutionStatus"] == "Stopped"
        assert len(engine.ended) == 1
        (job,) = local.sagemaker.list_training_jobs()["TrainingJobSummaries"]
        described = local.sagemaker.describe_training_job(TrainingJobName=job["TrainingJobName"])
        assert "ModelArtifacts" in described

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("os.kill(os.getpid(), 9)", "the job's process was killed by signal 9 (SIGKILL), exit code: 137"),
            ("os.kill(os.getpid(), 11)", "the job's process was killed by signal 11 (SIGSEGV), exit code: 139"),
            ("sys.exit(143)", "See job logs for more information, exit code: 143"),
        ],
    )
    def test_a_program_that_the_kernel_kills_says_so(
        self, local: Local, engine: FakeEngine, code: str, reason: str
    ) -> None:
        """Without memory, by a fault of its own: in the words of a process, though the client's code is a number."""
        ended = local.run([training("Train", tiny(local, f"import os, sys\n{code}"))])[1]["Train"]
        assert ended["FailureReason"].partition("AlgorithmError: ")[2] == reason
        assert len(engine.ended) == 1

    def test_a_killed_client_leaves_no_container(self, local: Local, engine: FakeEngine) -> None:
        """The job fails, and what the client left running is removed before its outputs are looked at."""
        arn = local.start([training("Train", tiny(local, WAIT))])
        wait_until(lambda: children(engine))
        (container,) = children(engine)
        (client,) = clients(local)
        client.kill()
        assert local.finish(arn)["PipelineExecutionStatus"] == "Failed"
        wait_until(lambda: not container.is_running() or container.status() == psutil.STATUS_ZOMBIE)
        assert len(engine.removed) == 1

    def test_a_killed_engine_leaves_no_container(
        self, local: Local, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next reader removes it, and a retry runs in containers again, also from a shell that chose processes."""
        arn = local.start([training("Train", tiny(local, WAIT))])
        wait_until(lambda: children(engine) and "waiting" in self._log(local))  # its output would end it, later
        (container,) = children(engine)
        (client,) = clients(local)
        os.kill(client.ppid(), signal.SIGKILL)
        wait_until(lambda: local.describe(arn)["PipelineExecutionStatus"] == "Failed")
        assert len(engine.removed) == 1
        wait_until(lambda: not container.is_running() or container.status() == psutil.STATUS_ZOMBIE)
        monkeypatch.setenv("MEDLOOP_RUNTIME", "process")
        other = local_session(local.home).client("sagemaker")
        other.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken="r" * 32)
        wait_until(lambda: children(engine))
        local.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken="s" * 32)
        local.finish(arn)

    def test_results_of_processes_are_not_reused(
        self, local: Local, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who asks for containers wants to see that they run; a second run in containers takes the first one's."""
        step = processing("Make", tiny(local, "print('made')"), CacheConfig={"Enabled": True})
        monkeypatch.setenv("MEDLOOP_RUNTIME", "process")
        boto = local_session(local.home)
        Local(local.home, boto, boto.client("sagemaker"), boto.client("s3")).run([step])
        assert engine.ended == []
        for _ in range(2):
            assert local.run([step])[0]["PipelineExecutionStatus"] == "Succeeded"
            assert len(engine.ended) == 1

    def _log(self, local: Local) -> str:
        return "".join(path.read_text() for path in (local.home / "logs").rglob("algo-1") if path.is_file())


@pytest.mark.slow
def test_an_endpoint_responds_from_a_container(local: Local, engine: FakeEngine) -> None:
    """Its model is unpacked; it has no network, and is reached by a socket; deleted, it leaves no container."""
    hosting = Hosting(local, local.boto.client("sagemaker-runtime"), tiny(local, SERVER))
    hosting.endpoint("hello")
    body = hosting.runtime.invoke_endpoint(EndpointName="live", Body=b"12")["Body"].read()
    assert json.loads(body)["word"] == "hello"
    large = hosting.runtime.invoke_endpoint(EndpointName="live", Body=b"large 3000000")["Body"].read()
    assert len(large) == 3_000_000
    (container,) = engine.running
    flags = json.loads(container.read_text())["flags"]
    assert "--network=none" in flags
    assert not [flag for flag in flags if flag.startswith("--publish")]
    local.sagemaker.delete_endpoint(EndpointName="live")
    wait_until(lambda: engine.running == [])

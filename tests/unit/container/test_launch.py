"""From one process to many (medloop.container.launch): what is started, where, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import medloop
from medloop.container.cluster import Cluster, count_gpus
from medloop.container.failures import RankFailure, find_cause, read_failures
from medloop.container.launch import LaunchPlan, command, environment, launch, make_plan
from medloop.errors import SettingError

ROOT = str(Path(medloop.__file__).parents[1])
TWO_HOSTS = {"hosts": ["algo-2", "algo-1"], "current_host": "algo-2", "network_interface_name": "eth0"}


@pytest.fixture
def ml_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A contract's root."""
    (tmp_path / "input" / "config").mkdir(parents=True)
    monkeypatch.setenv("ML_ROOT", str(tmp_path))
    return tmp_path


def write_config(root: Path, config: Any) -> None:
    """resourceconfig.json: bytes and text as they are, anything else as JSON."""
    path = root / "input" / "config" / "resourceconfig.json"
    if isinstance(config, bytes):
        path.write_bytes(config)
    else:
        path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")


def launched(strategy: str, processes: int, environ: dict[str, str]) -> tuple[list[str], dict[str, str]] | None:
    """Arguments and environment of the new program; None if this process continues."""
    became: list[tuple[list[str], dict[str, str]]] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        launch(
            strategy, processes, ["main.py", "train", "--epochs", "3"], environ,
            lambda program, argv, env: became.append((argv, env)),
        )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return became[0] if became else None


def plan_of(started: tuple[list[str], dict[str, str]] | None) -> LaunchPlan:
    """The plan in a launcher's command line."""
    assert started is not None
    argv, _ = started
    assert argv[:3] == [sys.executable, "-m", "medloop.container.torchrun"]
    assert argv[4:] == [os.path.abspath("main.py"), "train", "--epochs", "3"]
    return LaunchPlan(**json.loads(argv[3]))


class TestLaunch:
    """What becomes of the process."""

    def test_one_host_has_a_process_a_gpu(self, ml_root: Path) -> None:
        """Eight GPUs, eight processes, which meet on the loopback at a free port."""
        write_config(ml_root, {"hosts": ["algo-1"], "current_host": "algo-1", "network_interface_name": "eth0"})
        plan = plan_of(launched("ddp", 0, {"SM_NUM_GPUS": "8"}))
        assert (plan.processes_per_host, plan.num_hosts, plan.size) == (8, 1, 8)
        assert (plan.master, plan.port) == ("127.0.0.1", 0)

    def test_hosts_meet_on_the_first_of_them(self, ml_root: Path) -> None:
        """In the order of their names on every host, over the interface that the service names."""
        write_config(ml_root, TWO_HOSTS)
        started = launched("fsdp", 0, {"SM_NUM_GPUS": "4"})
        assert plan_of(started) == LaunchPlan(4, 2, 1, "algo-1", 29500, "eth0")
        assert started is not None
        assert started[1]["NCCL_SOCKET_IFNAME"] == started[1]["GLOO_SOCKET_IFNAME"] == "eth0"

    def test_another_port_may_be_given(self, ml_root: Path) -> None:
        """The same on all hosts; one that is none is refused."""
        write_config(ml_root, TWO_HOSTS)
        assert plan_of(launched("ddp", 1, {"SM_NUM_GPUS": "0", "MASTER_PORT": "1234"})).port == 1234
        for text in ("", "x", "0", "65536", "-1"):
            with pytest.raises(SettingError, match="MASTER_PORT="):
                launched("ddp", 1, {"SM_NUM_GPUS": "0", "MASTER_PORT": text})

    def test_script_mode_says_it_by_variables(self, ml_root: Path) -> None:
        """They win over the file."""
        write_config(ml_root, {"hosts": ["other"], "current_host": "other"})
        variables = {
            "SM_HOSTS": '["algo-1", "algo-2", "algo-10"]',
            "SM_CURRENT_HOST": "algo-2",
            "SM_NETWORK_INTERFACE_NAME": "ethwe",
            "SM_NUM_GPUS": "1",
        }
        assert plan_of(launched("ddp", 0, variables)) == LaunchPlan(1, 3, 2, "algo-1", 29500, "ethwe")

    def test_without_gpu_there_are_two_processes_or_the_requested_number(
        self, ml_root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """By hand too, where no file says anything of hosts."""
        assert plan_of(launched("ddp", 0, {"SM_NUM_GPUS": "0"})).size == 2
        assert plan_of(launched("ddp", 3, {"SM_NUM_GPUS": "0"})).size == 3
        assert capsys.readouterr().out.splitlines()[-1] == "strategy=ddp: 3 processes (no GPU)"

    @pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
    def test_one_process_goes_on_and_says_so(
        self, ml_root: Path, strategy: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One GPU, or one requested process; a GPU is never shared."""
        for processes, gpus in ((0, "1"), (1, "0"), (1, "4"), (2, "1")):
            assert launched(strategy, processes, {"SM_NUM_GPUS": gpus}) is None
            output = capsys.readouterr().out
            assert output.startswith(f"strategy={strategy}: ")
            assert output.endswith("one process trains, as with strategy=single\n")

    def test_single_trains_silently(self, ml_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The number of GPUs doesn't matter."""
        assert launched("single", 0, {"SM_NUM_GPUS": "8"}) is None
        assert capsys.readouterr().out == ""

    def test_single_on_several_hosts_is_refused(self, ml_root: Path) -> None:
        """All but one would be paid for nothing."""
        write_config(ml_root, TWO_HOSTS)
        with pytest.raises(SettingError, match="single trains on one host, and the job has 2; set strategy=ddp"):
            launched("single", 0, {})

    def test_a_child_of_torchrun_goes_on(self, ml_root: Path) -> None:
        """Started by SDK or launcher; strategy=single is refused."""
        write_config(ml_root, TWO_HOSTS)
        child = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "SM_NUM_GPUS": "8"}
        assert launched("fsdp", 0, child) is None
        with pytest.raises(SettingError, match="2 processes were started"):
            launched("single", 0, child)

    def test_sigterm_waits_for_the_launcher(self, ml_root: Path) -> None:
        """Blocked when the process is replaced, so that the launcher hears it once it listens."""
        masks: list[set[signal.Signals]] = []

        def become(program: str, argv: list[str], env: dict[str, str]) -> None:
            masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, [])))

        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        try:
            launch("ddp", 2, ["main.py"], {"SM_NUM_GPUS": "0"}, become)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert signal.SIGTERM in masks[0]


class TestEnvironment:
    """What launcher and processes find."""

    def test_processes_divide_the_cores(self) -> None:
        """The default; never zero."""
        assert environment(LaunchPlan(4), {}, cores=48)["OMP_NUM_THREADS"] == "12"
        assert environment(LaunchPlan(4), {}, cores=2)["OMP_NUM_THREADS"] == "1"

    def test_processes_of_a_local_job_divide_its_threads(self) -> None:
        """The local backend says how many a job may use; elsewhere a number is the user's word on each process."""
        variables = {"OMP_NUM_THREADS": "8", "MKL_NUM_THREADS": "8"}
        local = environment(LaunchPlan(2), {**variables, "ML_ROOT": "/somewhere"}, cores=64)
        assert (local["OMP_NUM_THREADS"], local["MKL_NUM_THREADS"]) == ("4", "4")
        assert environment(LaunchPlan(2), variables, cores=64)["OMP_NUM_THREADS"] == "8"

    def test_this_package_is_found_last(self) -> None:
        """After what is on the path already, a staged start-up module above all."""
        assert environment(LaunchPlan(2), {"PYTHONPATH": "/site:/code"})["PYTHONPATH"] == f"/site:/code:{ROOT}"
        assert environment(LaunchPlan(2), {"PYTHONPATH": f"{ROOT}:/code"})["PYTHONPATH"] == f"{ROOT}:/code"

    def test_a_users_interface_stays(self) -> None:
        """The service's is a default."""
        plan = LaunchPlan(1, 2, 0, "algo-1", 29500, "eth0")
        variables = environment(plan, {"NCCL_SOCKET_IFNAME": "eth1"})
        assert (variables["NCCL_SOCKET_IFNAME"], variables["GLOO_SOCKET_IFNAME"]) == ("eth1", "eth0")

    def test_arguments_arrive_as_they_were(self) -> None:
        """Blanks and quotes too."""
        assert command(LaunchPlan(2), ["/a b/main.py", "--size", '[1, "é"]'])[4:] == [
            "/a b/main.py",
            "--size",
            '[1, "é"]',
        ]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "can't be read"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "is not a JSON object"),
        ({}, "hosts is not a list"),
        ({"hosts": [], "current_host": "algo-1"}, "hosts is not a list"),
        ({"hosts": "algo-1", "current_host": "algo-1"}, "hosts is not a list"),
        ({"hosts": ["algo-1", 2], "current_host": "algo-1"}, "other than host names"),
        ({"hosts": ["algo-1", "$(reboot)"], "current_host": "algo-1"}, "other than host names"),
        ({"hosts": ["algo-1", "-x"], "current_host": "algo-1"}, "other than host names"),
        ({"hosts": ["algo-1", "algo-1"], "current_host": "algo-1"}, "a duplicate"),
        ({"hosts": ["algo-1"]}, "current_host is 'None', which is not in hosts"),
        ({"hosts": ["algo-1"], "current_host": "algo-2"}, "current_host is 'algo-2'"),
        ({**TWO_HOSTS, "network_interface_name": "eth0;reboot"}, "not the name of a network interface"),
        ({**TWO_HOSTS, "network_interface_name": ["eth0"]}, "not the name of a network interface"),
    ],
)
def test_a_broken_resource_configuration_is_refused(ml_root: Path, config: Any, reason: str) -> None:
    """One line that names the file, and nothing is started."""
    write_config(ml_root, config)
    with pytest.raises(SettingError, match=reason) as caught:
        launched("ddp", 2, {})
    assert str(caught.value).startswith("resourceconfig.json: ")
    assert len(str(caught.value)) < 300


def test_broken_variables_of_script_mode_are_refused() -> None:
    """By their name."""
    with pytest.raises(SettingError, match="SM_HOSTS: is not JSON"):
        Cluster.read({"SM_HOSTS": "algo-1"})
    with pytest.raises(SettingError, match="SM_HOSTS: current_host"):
        Cluster.read({"SM_HOSTS": '["algo-1"]'})


def test_gpus_are_counted_by_their_device_files(tmp_path: Path) -> None:
    """Of those that may be used."""
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia10", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert count_gpus({}, tmp_path) == 4
    assert count_gpus({"CUDA_VISIBLE_DEVICES": "0,2"}, tmp_path) == 2
    assert count_gpus({"CUDA_VISIBLE_DEVICES": "0,-1,2"}, tmp_path) == 1
    assert count_gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == 0
    assert count_gpus({"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5"}, tmp_path) == 4
    assert count_gpus({"CUDA_VISIBLE_DEVICES": "MIG-0a1b"}, tmp_path / "nowhere") == 1
    assert count_gpus({}, tmp_path / "nowhere") == 0


def test_every_host_makes_the_same_plan() -> None:
    """The plans differ only in the rank of the host."""
    hosts = ("algo-1", "algo-10", "algo-2")
    plans = [make_plan(Cluster(hosts, host, "eth0"), 0, 8) for host in hosts]
    assert [plan.host_rank for plan in plans] == [0, 1, 2]
    assert len({(plan.processes_per_host, plan.num_hosts, plan.master, plan.port) for plan in plans}) == 1


class TestFindCause:
    """The first cause among what processes say."""

    LOST = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:123"

    def lost(self, rank: int, time: float) -> RankFailure:
        """A process whose peer went away."""
        return RankFailure(rank, f"RuntimeError: {self.LOST}\nTraceback (most recent call last): ...", 1, False, time)

    def test_an_expected_error_wins_over_what_follows_from_it(self) -> None:
        """Also where it was written down later: a process tears its connections down before it says why."""
        cause = RankFailure(1, "epochs: too few", 2, True, 2.0)
        failure = find_cause({0: 1, 1: 2}, [self.lost(0, 1.0), cause], stopped=False)
        assert (failure.code, failure.reason) == (2, "epochs: too few")
        unknown = RankFailure(0, "RuntimeError: what another library says of it\nTraceback ...", 1, False, 1.0)
        assert find_cause({0: 1, 1: 2}, [unknown, cause], stopped=False).reason == "epochs: too few"

    def test_an_error_that_only_tells_of_a_lost_peer_is_none(self) -> None:
        """A checkpoint that can't be written for want of the other process."""
        follows = RankFailure(0, f"checkpoints: can't be written ({self.LOST})", 2, True, 1.0)
        bug = RankFailure(1, "TypeError: x\nTraceback (most recent call last): ...", 1, False, 2.0)
        assert find_cause({0: 2, 1: 1}, [follows, bug], stopped=False).reason == bug.reason

    def test_a_bug_whose_traceback_leads_through_gloo_is_a_bug(self) -> None:
        """Only the reported reason counts."""
        bug = RankFailure(0, f"TypeError: x\nTraceback (most recent call last):\n {self.LOST}", 1, False, 1.0)
        assert not bug.is_consequence

    def test_a_killed_process_is_the_cause(self) -> None:
        """With the likeliest reason, and the code that a shell would give."""
        failure = find_cause({0: 1, 1: -signal.SIGKILL}, [self.lost(0, 1.0)], stopped=False)
        assert failure.code == 137
        assert str(failure.reason).startswith("rank 1 was killed by SIGKILL, most likely because the host's memory")
        crashed = find_cause({0: -signal.SIGABRT, 1: -signal.SIGSEGV}, [], stopped=False)
        assert (crashed.code, crashed.reason) == (139, "rank 1 was ended by SIGSEGV; see its log")

    def test_a_process_that_ends_without_a_reason_is_named(self) -> None:
        """By its exit code."""
        failure = find_cause({0: -signal.SIGTERM, 1: 3}, [], stopped=False)
        assert (failure.code, failure.reason) == (
            3,
            "rank 1 ended with exit code 3 and reported no reason; see its log",
        )

    def test_a_stopped_job_has_not_failed(self) -> None:
        """The exit codes of its processes don't matter; an error while saving is a failure."""
        assert find_cause({}, [RankFailure(0, "stopped", 143, True, 1.0)], stopped=True).code == 143
        late = find_cause({0: 143, 1: -signal.SIGKILL}, [RankFailure(0, "stopped", 143, True, 1.0)], stopped=True)
        assert (late.code, late.reason) == (143, None)
        assert find_cause({0: -signal.SIGTERM, 1: 143}, [], stopped=False).code == 143
        full = find_cause({}, [RankFailure(1, "disk full", 2, True, 1.0)], stopped=True)
        assert (full.code, full.reason) == (2, "disk full")

    def test_a_host_whose_peers_are_elsewhere_knows_no_cause(self) -> None:
        """It says what it has seen, as a consequence."""
        failure = find_cause({0: 1, 1: 1}, [self.lost(0, 1.0), self.lost(1, 1.1)], stopped=False)
        assert (failure.code, failure.is_consequence) == (1, True)
        assert str(failure.reason).startswith("rank 0 lost the processes that it trains with: RuntimeError")
        assert find_cause({0: -signal.SIGABRT}, [], stopped=False).is_consequence

    def test_failures_come_back_in_order(self, tmp_path: Path) -> None:
        """Through files, one a process, whole."""
        first, second = RankFailure(1, "é\nb", 2, True, 1.5), RankFailure(0, "a", 1, False, 2.5)
        second.write(tmp_path)
        first.write(tmp_path)
        (tmp_path / ".2.partial").write_text("{", encoding="utf-8")
        assert read_failures(tmp_path) == [first, second]

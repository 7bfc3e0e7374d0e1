"""Forks the jobs of one kind from a process that has imported their packages: `python warm_server.py FOLDER`.

`jobs.warm` starts it. FOLDER contains config.json, and receives the socket `socket`, or `unfit` (the reason why jobs
can't be forked from it). Standard library only, and nothing of this project stays imported: a job's modules are its
bundle's.

Each job has a keeper, a fork of the server that waits for the job: a server that is killed ends no job, and a keeper
whose client is gone kills its job. The job is the keeper's child and has its own session. It enters the working folder,
the environment and the import path of the job, as the interpreter does when it starts, and then runs the program.

    client -> server    the request, with the file descriptor of the job's output
    keeper -> client    {"pid": N}, or {"refused": reason}
    client -> keeper    anything: the job may run
    keeper -> client    {"code": N}, the return code as subprocess defines it; the job isn't reaped yet
    client closes       the job is reaped; a job that still runs is killed
"""

from __future__ import annotations

import sys

_AT_START = frozenset(sys.modules)
"""Modules that every interpreter has loaded before the program: a bundle can't replace them in a new process either."""

import array  # noqa: E402
import ctypes  # noqa: E402
import gc  # noqa: E402
import importlib  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import struct  # noqa: E402
import time  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any, NoReturn  # noqa: E402

FileState = tuple[int, int, int] | None
ForkedJob = tuple["warm_entry.Request", int, int]
"""What a job gets: its request, its output, and the socket to its keeper."""
_TICK_SECONDS = 1.0
_STATE_SECONDS = 5.0
_MAX_REQUEST_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1


class ReadVariables(dict[bytes, bytes]):
    """The content of `os.environ`, which remembers the names that were read."""

    def __init__(self, content: dict[bytes, bytes]) -> None:
        super().__init__(content)
        self.names: set[str] = set()

    def __getitem__(self, name: bytes) -> bytes:
        """Read one variable."""
        self.names.add(os.fsdecode(name))
        return super().__getitem__(name)


class UnfitError(Exception):
    """Jobs can't be forked from this process as if they were new ones."""


def _load(path: Path) -> Any:
    """A module of this folder, which isn't kept among the imported ones."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 (an invariant of a .py file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look there
    spec.loader.exec_module(module)
    del sys.modules[path.stem]
    return module


if TYPE_CHECKING:
    from medloop.local.jobs import warm_entry
else:
    warm_entry = _load(Path(__file__).with_name("warm_entry.py"))


class Server:
    """The process that jobs are forked from.

    Args:
        folder: Its folder.
        config: `preload`, `checkout`, `packages` (of users' projects), `job_site` and `memory` (files), `idle_seconds`,
            `reserve` (the bytes of memory that must be available for an idle server to continue), and `own`, the
            variables whose values are a job's own.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config
        self.shown = warm_entry.Shown.read()
        self.keepers: set[int] = set()
        self.idle_since = time.monotonic()
        self.checked_at = 0.0

    def prepare(self) -> None:
        """Import the packages.

        Raises:
            UnfitError: They, or this system, don't allow jobs to be forked.
        """
        os.close(os.pidfd_open(os.getpid()))  # OSError: the system has none
        job_site, self.memory = (_load(Path(self.config[name])) for name in ("job_site", "memory"))
        del sys.path[0]  # this file's folder
        job_site.leave_checkout(self.config["checkout"], sys.path, sys.meta_path)
        self.shown.write(sys.orig_argv[:3], dict(os.environ))
        if not Path("/proc/self/environ").read_bytes().startswith(warm_entry.block(dict(os.environ)) + b"\0"):
            raise UnfitError("the system doesn't show a changed environment")
        began = time.time()
        self.traces = _import(self.config["preload"], self.config["own"], self.folder / "tmp")
        files = [str(getattr(module, "__file__", None) or sys.executable) for module in list(sys.modules.values())]
        files += [warm_entry.__file__, self.memory.__file__, job_site.__file__]
        if changed := [path for path in files if os.path.exists(path) and os.stat(path).st_ctime > began]:
            raise SystemExit(f"{changed[0]} changed while it was imported")
        self.state = _file_states([*sys.path, *files, sys.executable, f"{sys.prefix}/pyvenv.cfg"])
        _check_fit((*job_site.PACKAGES, *self.config.get("packages", ())), self.folder / "tmp")
        gc.collect()
        gc.freeze()

    def listen(self) -> None:
        """Open the socket; its name appears once clients can connect, and replaces that of an earlier server."""
        # By the folder's descriptor: a socket's path has 107 bytes at most.
        directory = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        old = os.umask(0o177)
        new = f"socket-{os.getpid()}"
        listener.bind(f"/proc/self/fd/{directory}/{new}")
        os.umask(old)
        listener.listen(64)
        self.inode = os.stat(self.folder / new).st_ino
        os.rename(self.folder / new, self.folder / "socket")
        os.close(directory)
        self.listener = listener

    def serve(self) -> ForkedJob | None:
        """Fork a job for each request. Returns None when the server ends; in a job, its request, output and gate."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        while True:
            ready = poll.poll(_TICK_SECONDS * 1000)
            if not self._is_current(forced=bool(ready)):
                break
            if ready and (job := self._accept()):
                return job
            self._reap()
            if self.keepers:
                self.idle_since = time.monotonic()
            elif not ready and self._is_memory_short():
                break
            if time.monotonic() - self.idle_since > self.config["idle_seconds"]:
                break
        self._end()
        return None

    def _is_memory_short(self) -> bool:
        available = self.memory.available_memory()
        return available is not None and available < self.config["reserve"]

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                self.keepers.discard(pid)

    def _accept(self) -> ForkedJob | None:
        connection, _ = self.listener.accept()
        received = _receive(connection)
        if received is None:
            connection.close()
            return None
        self.idle_since = time.monotonic()
        keeper = os.fork()
        if keeper == 0:
            self.listener.close()
            return self._keep(connection, *received)
        if not received[0].lasts:
            self.keepers.add(keeper)
        connection.close()
        os.close(received[1])
        return None

    def _keep(self, connection: socket.socket, request: warm_entry.Request, output: int) -> ForkedJob:
        """Be the keeper of a job; returns in the job only."""
        os.setsid()
        if reason := self._refusal(request):
            _send(connection, {"refused": reason})
            os._exit(0)
        keeper, (mine, gate) = os.getpid(), socket.socketpair()
        pid = os.fork()
        if pid == 0:
            connection.close()
            mine.close()
            os.setsid()
            _die_with(keeper)
            return request, output, gate.detach()
        os.close(output)
        gate.close()
        _watch(connection, mine, pid)

    def _refusal(self, request: warm_entry.Request) -> str:
        loaded = {name.partition(".")[0] for name in sys.modules.keys() - _AT_START}
        program = Path(request.cwd, request.argv[1]).resolve().parent
        if names := sorted(loaded & (_module_names(program) | _module_names(Path(request.code)))):
            return f"the bundle has a module of the name {names[0]}, which is imported already"
        return "" if self.shown.fits(request.argv, request.env) else "its environment is too long"

    def _is_current(self, *, forced: bool) -> bool:
        """True while the socket is this server's, and what it has imported is what is on the disk."""
        try:
            if os.stat(self.folder / "socket").st_ino != self.inode:
                return False
        except OSError:
            return False
        if forced or time.monotonic() - self.checked_at > _STATE_SECONDS:
            self.checked_at = time.monotonic()
            return _file_states(list(self.state)) == self.state
        return True

    def _end(self) -> None:
        with suppress(OSError):  # the home was deleted
            if os.stat(self.folder / "socket").st_ino == self.inode:
                os.unlink(self.folder / "socket")
                shutil.rmtree(self.folder / "tmp", ignore_errors=True)


def _import(preload: list[str], job_variables: list[str], temporary: Path) -> warm_entry.Traces:
    """Import modules; returns what they left outside themselves.

    Raises:
        UnfitError: One can't be imported, or they read a variable whose value is a job's own.
    """
    before, content = dict(os.environ), os.environ._data  # type: ignore[attr-defined]
    read = os.environ._data = ReadVariables(content)  # type: ignore[attr-defined]
    for name in preload:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise UnfitError(f"{name} can't be imported ({type(error).__name__}: {error})") from error
    content.clear()
    content.update(read)
    os.environ._data = content  # type: ignore[attr-defined]
    if names := sorted(read.names.intersection(job_variables)):
        raise UnfitError(f"its packages read {names[0]} on import")
    variables = {name: value for name, value in os.environ.items() if before.get(name) != value}
    folders = [str(path.relative_to(temporary)) for path in sorted(temporary.rglob("*")) if path.is_dir()]
    return warm_entry.Traces(str(temporary), folders, variables)


def _file_states(paths: list[str]) -> dict[str, FileState]:
    states: dict[str, FileState] = {}
    for path in paths:
        try:
            status = os.stat(path)
            states[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            states[path] = None
    return states


def _check_fit(packages: tuple[str, ...], temporary: Path) -> None:
    """Raise UnfitError if the imports left what a fork would share or lose: threads, processes, files, a GPU."""
    pid = os.fork()  # the fork handlers of libraries end their threads, which start again when they are needed
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    tasks = os.listdir("/proc/self/task")
    if len(tasks) > 1:
        names = sorted(Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in tasks)
        raise UnfitError(f"its packages start threads on import ({', '.join(names)})")
    if _has_children():
        raise UnfitError("its packages start a process on import")
    if names := sorted({name.partition(".")[0] for name in sys.modules} & set(packages)):
        raise UnfitError(f"its packages import {names[0]}, which is to come from a job's bundle")
    opened = [link for number in range(3, 1024) if (link := _link(number))]
    if opened:
        raise UnfitError(f"its packages keep {opened[0]} open on import")
    if files := [path.name for path in temporary.rglob("*") if not path.is_dir()]:
        raise UnfitError(f"its packages make temporary files on import ({files[0]})")


def _link(number: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""


def _has_children() -> bool:
    """True if a child exists, be it one that has ended."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _receive(connection: socket.socket) -> tuple[warm_entry.Request, int] | None:
    """A request and the descriptor of its output; None when it is another user's, or not complete in time."""
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    connection.settimeout(_TICK_SECONDS)
    try:
        data, ancillary, _, _ = connection.recvmsg(_MAX_REQUEST_BYTES, socket.CMSG_SPACE(4))
    except OSError:
        return None
    descriptors = array.array("i")
    for _, _, content in ancillary:
        descriptors.frombytes(content)
    if uid != os.getuid() or not data or len(descriptors) != 1:
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    connection.settimeout(None)
    return warm_entry.Request(**json.loads(data)), descriptors[0]


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    with suppress(OSError):  # the client is gone, which the next read notices
        connection.send(json.dumps(message).encode())


def _hears(connection: socket.socket) -> bool:
    """Wait for the client; False when it is gone."""
    try:
        return bool(connection.recv(1))
    except OSError:
        return False


def _module_names(folder: Path) -> set[str]:
    """The top-level modules that a folder on the import path supplies."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return set()
    files = {path.name.partition(".")[0] for path in entries if path.suffix in (".py", ".pyc", ".so")}
    return files | {path.name for path in entries if (path / "__init__.py").exists()}


def _die_with(parent: int) -> None:
    """Be killed when the parent ends, even by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _watch(connection: socket.socket, gate: socket.socket, pid: int) -> NoReturn:
    """Let the job run when the client says so, report its end, and reap it; end it when the client is gone."""
    gate.recv(1)  # it has its session
    _send(connection, {"pid": pid})
    if _hears(connection):
        gate.send(b"g")
        ended = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(connection, select.POLLIN)
        if ended in dict(poll.poll()):
            status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert status is not None  # noqa: S101 (an invariant without WNOHANG)
            _send(connection, {"code": status.si_status if status.si_code == os.CLD_EXITED else -status.si_status})
            _hears(connection)
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os._exit(0)


def main(folder: Path) -> None:
    """Serve until there is nothing to do; in a job, run its program."""
    server = Server(folder, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    try:
        server.prepare()
        server.listen()
    except (UnfitError, OSError) as error:
        (folder / "unfit").write_text(str(error), encoding="utf-8")
        shutil.rmtree(folder / "tmp", ignore_errors=True)
        os.killpg(0, signal.SIGKILL)  # with what the packages started
    if job := server.serve():
        server.listener.close()
        warm_entry.enter(server.shown, server.traces, *job)
        warm_entry.run(job[0].argv[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

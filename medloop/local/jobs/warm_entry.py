"""Makes a fork of `warm_server` the process of a job: what the interpreter does between its start and the program.

Standard library only; `warm_server` loads it by its path.
"""

from __future__ import annotations

import builtins
import ctypes
import importlib
import importlib.machinery
import os
import signal
import sys
import types
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOM = "MEDLOOP_WARM_ROOM"
"""A variable, the first one, whose length makes room for the job's environment where the system shows it."""
_ROOM_BYTES = len(os.fsencode(f"{_ROOM}={os.environ.pop(_ROOM, '')}"))


@dataclass(frozen=True)
class Request:
    """A client's request for one program.

    Args:
        argv: The interpreter, the program and its arguments.
        cwd: The working folder.
        env: The whole environment.
        umask: The umask.
        site: The folder of the job's `sitecustomize`.
        code: The unpacked bundle.
        lasts: Whether it serves until it is ended, so that its server isn't in use as long as it runs.
    """

    argv: list[str]
    cwd: str
    env: dict[str, str]
    umask: int
    site: str
    code: str
    lasts: bool


@dataclass(frozen=True)
class Traces:
    """Side effects of the import of the preloaded modules on the process and its TMPDIR.

    Args:
        temporary: The server's TMPDIR.
        folders: Folders that they made in it, relative, outer ones first.
        variables: Variables that they set, such as monai's CUBLAS_WORKSPACE_CONFIG.
    """

    temporary: str
    folders: list[str]
    variables: dict[str, str]

    def leave(self) -> None:
        """Leave them in this process, whose own TMPDIR may be another."""
        temporary = os.environ.get("TMPDIR", self.temporary)
        for folder in self.folders:
            with suppress(OSError):
                os.mkdir(os.path.join(temporary, folder))
        os.environ.update({name: value.replace(self.temporary, temporary) for name, value in self.variables.items()})


@dataclass(frozen=True)
class Shown:
    """Addresses of the arguments and the environment that the system shows (proc_pid_stat(5), fields 48-51)."""

    arguments: int
    environment: int
    end: int

    @classmethod
    def read(cls) -> Shown:
        """That of this process."""
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return cls(int(fields[45]), int(fields[47]), int(fields[48]))

    def fits(self, argv: list[str], env: dict[str, str]) -> bool:
        """True if there is room. Variables after the first one stay as they are: libraries may refer to them."""
        arguments, environment = block(argv), block(env)
        return len(arguments) < self.environment - self.arguments and len(environment) < self._room()

    def write(self, argv: list[str], env: dict[str, str]) -> None:
        """Show these instead: the local backend finds the processes of a job by them."""
        _fill(self.arguments, block(argv), self.environment - self.arguments)
        _fill(self.environment, block(env), self._room())

    def _room(self) -> int:
        return min(self.end - self.environment, _ROOM_BYTES)


def block(content: list[str] | dict[str, str]) -> bytes:
    """Arguments, or variables, as the system stores them."""
    texts = content if isinstance(content, list) else [f"{name}={value}" for name, value in content.items()]
    return b"".join(os.fsencode(text) + b"\0" for text in texts)


def _fill(address: int, content: bytes, length: int) -> None:
    ctypes.memmove(address, content + b"\0" * (length - len(content)), length)


def enter(shown: Shown, traces: Traces, request: Request, output: int, gate: int) -> None:
    """Make this fork the process that the interpreter would be when it reaches the program."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(request.umask)
    os.chdir(request.cwd)
    for number in (1, 2):
        os.dup2(output, number)
    os.write(gate, b"r")
    if not os.read(gate, 1):
        os._exit(1)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request.env)
    shown.write(request.argv, request.env)
    traces.leave()
    _forget_process()
    sys.argv[:], sys.orig_argv[:] = request.argv[1:], request.argv
    _set_path(request)


def _set_path(request: Request) -> None:
    """Put the job's folders on the import path, and run its `sitecustomize`, as `site` does."""
    empty = sys.modules.pop("sitecustomize", None)
    empty_site = os.path.dirname(getattr(empty, "__file__", None) or "")
    sys.path[:] = [request.site, request.code, *(entry for entry in sys.path if entry != empty_site)]
    importlib.invalidate_caches()
    importlib.import_module("sitecustomize")
    if not sys.flags.safe_path:
        sys.path.insert(0, os.path.dirname(os.path.realpath(request.argv[1])))


def _forget_process() -> None:
    """Renew what modules took from the server's process when they were imported."""
    modules: dict[str, Any] = sys.modules
    if "tempfile" in modules:
        modules["tempfile"].tempdir = None
    if "multiprocessing.process" in modules:
        modules["multiprocessing.process"].ORIGINAL_DIR = os.getcwd()
        modules["multiprocessing.process"].current_process().authkey = os.urandom(32)
    # Seeded by the system's entropy when they are made; `random` itself is seeded by its fork handler.
    if "numpy.random" in modules:
        modules["numpy.random"].seed()
    if "torch.random" in modules:
        modules["torch.random"].default_generator.seed()


def run(program: str) -> None:
    """Run the program as `__main__`; an error is printed without this module's frames."""
    path = os.path.abspath(program)
    module = types.ModuleType("__main__")
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    fields = {
        "__file__": path,
        "__loader__": loader,
        "__builtins__": builtins,
        "__annotations__": {},
        "__cached__": None,
    }
    vars(module).update(fields)
    sys.modules["__main__"] = module
    try:
        exec(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True), vars(module))  # noqa: S102
    except SystemExit:
        raise
    except BaseException as error:
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        raise SystemExit(1) from None

"""A program that takes podman's words: images are folders, containers processes that outlive the client that ran them.

As in an engine, a container sees the variables that it is given and no others. It can't have a root of its own: /opt/ml
in its words and variables becomes the folder that is mounted there, and ML_ROOT names it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = r"""
import json, os, shutil, signal, socket, subprocess, sys, time
from pathlib import Path

STATE = Path(__file__).resolve().parent / "state"
CONTAINERS, IMAGES = STATE / "containers", STATE / "images"
for folder in (CONTAINERS, IMAGES):
    folder.mkdir(parents=True, exist_ok=True)


def build(words):
    image, context = words[words.index("--tag") + 1], Path(words[-1])
    print("STEP 1: FROM", words[words.index("--build-arg") + 1], flush=True)
    if (STATE / "unreachable").exists():
        sys.exit("no such base")
    shutil.copytree(context, IMAGES / image)


def run(words):
    flags = []
    while words[0].startswith("-"):
        flags.append(words.pop(0))
    image, *arguments = words
    options = [flag.partition("=")[::2] for flag in flags]
    name = dict(options)["--name"]
    (CONTAINERS / f"{name}.json").write_text(json.dumps({"flags": flags, "pid": None}))
    mounts = [dict(part.partition("=")[::2] for part in value.split(",")) for key, value in options if key == "--mount"]
    ml = next(mount["source"] for mount in mounts if mount["target"] == "/opt/ml")
    pairs = [value.partition("=") for key, value in options if key == "--env"]
    env = {key: (value if sign else os.environ[key]).replace("/opt/ml", ml) for key, sign, value in pairs}
    env |= {"ML_ROOT": ml + "/.", "PYTHONPATH": str(IMAGES / image)}
    port = None
    if arguments == ["serve"]:  # it has no network of its own: another port stands for the container's 8080
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = env["SAGEMAKER_BIND_TO_PORT"] = str(probe.getsockname()[1])
    container = image.partition(":")[0].removeprefix("medloop-")
    program = [dict(options).get("--entrypoint") or sys.executable]
    program += [] if "--entrypoint" in dict(options) else [str(IMAGES / image / "containers" / container / "main.py")]
    argv = program + [word.replace("/opt/ml", ml) for word in arguments]
    child = subprocess.Popen(argv, env=env, cwd=IMAGES / image, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child.pid, signal.SIGTERM))
    record = {"flags": flags, "pid": child.pid, "ml": ml, "port": port}
    (CONTAINERS / f"{name}.json").write_text(json.dumps(record))
    code = child.wait()
    (CONTAINERS / f"{name}.json").rename(STATE / f"{name}.ended")
    sys.exit(code if code >= 0 else 128 - code)


def exec_(words):
    name, _, *arguments = words
    path = CONTAINERS / f"{name}.json"
    container = json.loads(path.read_text()) if path.exists() else {"pid": None}
    if container["pid"] is None:
        sys.exit("it doesn't run")
    # Relative to the folder, since a socket's path has 107 bytes at most.
    arguments = [word.replace("/opt/ml/", "") for word in arguments[:-1]] + [container["port"]]
    child = subprocess.Popen([sys.executable, *arguments], cwd=container["ml"])
    while path.exists() and child.poll() is None:
        time.sleep(0.05)
    child.kill()


def rm(words):
    path = CONTAINERS / f"{words[-1]}.json"
    try:
        os.killpg(json.loads(path.read_text())["pid"], signal.SIGKILL)
    except (OSError, TypeError, ValueError):
        pass
    if path.exists():
        path.rename(STATE / f"{words[-1]}.removed")


command, *words = sys.argv[1:]
if command == "info":
    pass
elif command == "image":
    sys.exit(0 if (IMAGES / words[-1]).exists() else 1)
else:
    {"build": build, "run": run, "rm": rm, "exec": exec_}[command](words)
"""


@dataclass(frozen=True)
class FakeEngine:
    """The engine's folder, which has its program.

    Args:
        folder: The folder.
    """

    folder: Path

    @classmethod
    def install(cls, folder: Path, patch: pytest.MonkeyPatch, name: str = "podman") -> FakeEngine:
        """Put the program first on PATH, and choose it as the runtime."""
        folder.mkdir()
        program = folder / name
        program.write_text(f"#!{sys.executable} -S\n{SOURCE}", encoding="utf-8")
        program.chmod(0o755)
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("MEDLOOP_RUNTIME", name)
        return cls(folder)

    def refuse_builds(self) -> None:
        """Make every base unreachable."""
        (self.folder / "state").mkdir()
        (self.folder / "state" / "unreachable").touch()

    @property
    def running(self) -> list[Path]:
        """The records of the containers that are there."""
        return list(self.folder.glob("state/containers/*.json"))

    @property
    def removed(self) -> list[Path]:
        """The records of the containers that were removed before their end."""
        return list(self.folder.glob("state/*.removed"))

    @property
    def ended(self) -> list[Path]:
        """The records of the containers that ended by themselves."""
        return list(self.folder.glob("state/*.ended"))

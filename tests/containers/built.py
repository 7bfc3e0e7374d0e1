"""Images that are built and run here, as SageMaker runs them: without network, capabilities and a writable root.

A registry of images may be out of reach, so the base is this machine's own: its Python, a shell and the C libraries
that they load. torch isn't copied: what AWS's base images bring is mounted from this environment.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import ClassVar

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medloop.bundle import load_container, make_bundle
from medloop.cloud.container_engines import ContainerEngine, find_engine
from medloop.cloud.images import build_image
from medloop.errors import TargetError
from medloop.local.state.home import ACCOUNT, BUCKET, REGION
from tests.containers.test_images import locked
from tests.unit.local.conftest import Local

SITE = f"/usr/local/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
LEFT_OUT = {"site-packages", "test", "tests", "idlelib", "turtledemo", "lib2to3"}
LOADED_BY_WHEELS = (
    *("libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1", "libz.so.1"),
    *("librt.so.1", "libdl.so.2", "libpthread.so.0", "libutil.so.1", "libresolv.so.2", "libnss_dns.so.2"),
)


def engine_or_reason() -> ContainerEngine | str:
    """Podman, which takes volumes in a build as Docker doesn't, or why it isn't here."""
    if os.geteuid() != 0:
        return "images are built and run as root here, as SageMaker does"
    try:
        return find_engine("podman")
    except TargetError as error:
        return f"{error} (`make engine`)"


def configure(folder: Path) -> Path:
    """Write a configuration for machines that are containers themselves: no limits above their own, and runc."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    runtime = '[engine]\nruntime = "runc"\n' if shutil.which("runc") else ""
    path = folder / "containers.conf"
    path.write_text(
        f'[containers]\ndefault_ulimits = ["nofile={hard}:{hard}", "nproc=32768:32768"]\n{runtime}', encoding="utf-8"
    )
    return path


@dataclass(frozen=True)
class Images:
    """Builds and runs images.

    Args:
        engine: Podman.
        folder: For bases, locks and bills of materials.
    """

    engine: ContainerEngine
    folder: Path
    GRACE: ClassVar = 60
    """Seconds between SIGTERM and SIGKILL; the service gives 120."""

    def build(self, container: str) -> str:
        """Build a container's image on this machine's base; its name."""
        options = ["--network=host", "--quiet", *(f"--volume={volume}" for volume in self._build_volumes(container))]
        return build_image(container, self.base(), self.engine, options, self.folder).image

    def base(self) -> str:
        """The base image's name; it is made once for each Python."""
        content = [(name, str(path), path.stat().st_mtime_ns) for name, path in sorted(base_files().items())]
        name = f"localhost/medloop-test-base:{hashlib.sha256(repr(content).encode()).hexdigest()[:12]}"
        if subprocess.run([self.engine.name, "image", "exists", name], check=False).returncode != 0:
            archive = self.folder / "base.tar"
            write_base(archive)
            subprocess.run([self.engine.name, "import", str(archive), name], check=True, capture_output=True)
            archive.unlink()
        return name

    def run(self, image: str, *arguments: str, ml: Path, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start an image as the service does, on a folder of its contract."""
        torch = [f"--volume={volume}" for volume in torch_volumes(container_of(image))]
        limits = ("--rm", "--network=none", "--read-only", "--cap-drop=all", "--tmpfs=/tmp")
        command = [self.engine.name, "run", *limits, f"--volume={ml}:/opt/ml", *torch, *options, image, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_until_running(self, name: str) -> None:
        """Return when a container's first process is there."""
        command = [self.engine.name, "wait", "--condition=running", name]
        deadline = time.monotonic() + 60
        while subprocess.run(command, check=False, capture_output=True).returncode != 0:  # it isn't created yet
            assert time.monotonic() < deadline, f"{name} doesn't start"

    def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL after GRACE, as the service does."""
        command = [self.engine.name, "stop", f"--time={self.GRACE}", name]
        subprocess.run(command, check=True, capture_output=True)

    def freeze(self, image: str) -> dict[str, str]:
        """The versions of the packages that an image has beyond its base."""
        torch = [f"--volume={volume}" for volume in torch_volumes(container_of(image))]
        command = [self.engine.name, "run", "--rm", "--network=none", "--entrypoint=python", *torch, image]
        done = subprocess.run([*command, "-m", "pip", "freeze", "--all"], check=True, capture_output=True, text=True)
        pairs = [line.split("==") for line in done.stdout.splitlines() if "==" in line]
        brought = {"pip"} | {name for name, _ in torch_closure(container_of(image))}
        return {name: version for text, version in pairs if (name := canonicalize_name(text)) not in brought}

    def _build_volumes(self, container: str) -> list[str]:
        configuration = self.folder / "pip.conf"
        configuration.write_text(pip_configuration(), encoding="utf-8")
        named = re.findall(r"(file://)?(/[^\s'\",]+)", pip_configuration())
        # An index of files links to their folder next to it.
        paths = {Path(path).parent if scheme else Path(path) for scheme, path in named if Path(path).exists()}
        torch = torch_volumes(container)
        return [f"{configuration}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in sorted(paths)), *torch]


def finish(process: subprocess.Popen[str], timeout: float = 240) -> tuple[int, str]:
    """A container's exit code and log."""
    text, _ = process.communicate(timeout=timeout)
    return process.returncode, text


def store_bundle(local: Local, container: str, image: str) -> str:
    """Store a container's code, as upsert does; returns the URI of its image."""
    bundle = make_bundle(container)
    local.s3.put_object(Bucket=BUCKET, Key=bundle.key, Body=bundle.data)
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{image.removeprefix('localhost/')}"


def container_of(image: str) -> str:
    """The container of an image's name."""
    return image.rpartition("medloop-")[2].partition(":")[0]


def pip_configuration() -> str:
    """This machine's own settings of pip, from files and variables: a build finds packages where this machine does."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    settings = dict(re.findall(r"^[^.]+\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())


def torch_volumes(container: str) -> list[str]:
    """The folders and modules of torch and of what it needs beyond the locks, from this environment."""
    return sorted(
        {volume for name, _ in torch_closure(container) for volume in _volumes_of(metadata.distribution(name))}
    )


@functools.cache
def torch_closure(container: str) -> set[tuple[str, str]]:
    """What a container's base image on AWS brings with torch: names of packages, each with the extras it needs."""
    if "pytorch" not in load_container(container).base:
        return set()
    lock = set(locked(container))
    pending, seen = [Requirement("torch"), Requirement("torchvision")], set[tuple[str, str]]()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} if name not in lock else set():
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needed = [Requirement(text) for text in metadata.requires(name) or []]
            pending += [item for item in needed if item.marker is None or item.marker.evaluate({"extra": extra})]
    return seen


def _volumes_of(distribution: metadata.Distribution) -> Iterator[str]:
    # A shared folder such as `nvidia` is mounted once.
    for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in {"..", "__pycache__"}}:
        yield f"{distribution.locate_file(top)}:{SITE}/{top}:ro"


@functools.cache
def base_files() -> dict[str, Path]:
    """Name in the base image to file of this machine."""
    prefix, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    python = (prefix / "bin" / version).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    files = {f"usr/local/bin/{name}": python for name in ("python", "python3", version)}
    for path in library.rglob("*"):
        inside = path.relative_to(library)
        if path.is_file() and not LEFT_OUT.intersection(inside.parts) and not inside.parts[0].startswith("config-"):
            files[f"usr/local/lib/{version}/{inside}"] = path
    for folder in [*library.glob("site-packages/pip"), *library.glob("site-packages/pip-*.dist-info")]:
        files |= {
            f"usr/local/lib/{version}/{path.relative_to(library)}": path for path in folder.rglob("*") if path.is_file()
        }
    shell = Path(shutil.which("sh") or "/bin/sh").resolve()
    files["bin/sh"] = shell
    modules = [path for path in files.values() if ".so" in path.suffixes]
    return files | libraries([python, shell, *modules])


def libraries(programs: list[Path]) -> dict[str, Path]:
    """Shared libraries that programs load, and those that wheels expect of a Linux, in the loader's default folder."""
    listed = subprocess.run(["ldd", *map(str, programs)], check=False, capture_output=True, text=True).stdout
    known = subprocess.run(["ldconfig", "-p"], check=True, capture_output=True, text=True).stdout
    pairs = dict(re.findall(r"^\s*(\S+) => (/\S+)", listed, re.MULTILINE))
    pairs |= {
        name: path
        for name, path in re.findall(r"^\s*(\S+) \(.*x86-64.*\) => (/\S+)", known, re.MULTILINE)
        if name in LOADED_BY_WHEELS
    }
    loader = re.findall(r"^\s*(/\S*ld-linux\S*)", listed, re.MULTILINE)[0]
    return {f"lib/x86_64-linux-gnu/{name}": Path(path).resolve() for name, path in pairs.items()} | {
        loader.lstrip("/"): Path(loader).resolve()
    }


def write_base(archive: Path) -> None:
    """Write the base image's root as a tar."""
    with tarfile.open(archive, "w") as tar:
        for folder, mode in (
            ("tmp", 0o1777),
            ("etc", 0o755),
            ("opt", 0o755),
            ("proc", 0o755),
            ("sys", 0o755),
            ("dev", 0o755),
        ):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, mode
            tar.addfile(member)
        for name, text in (("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("etc/group", "root:x:0:\n")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
        for name, path in base_files().items():
            tar.add(path, name, recursive=False)

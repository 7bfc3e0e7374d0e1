"""CPU time and memory of all that reads a data set's files, at several sizes: none may be worse than linear.

    python benchmarks/many_files.py
    python benchmarks/many_files.py --sizes 10000 100000 1000000 --volumes 2000 --data DIR

Distinct grey PNGs of 16 x 16 pixels in ten classes, so that the cost of a file counts, not that of its pixels; volumes
of 32^3 voxels with labels. Each step runs in a process of its own. CPU time includes its processes; the peak of memory
is its own, as theirs doesn't grow with the number of files; the last column is what it grew by since the size before,
for each file more. A local job's input is links to the data; an upload goes to the local backend's S3, which writes
each object to the disk, so it is the command's own cost and that of the disk, without a network.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

NUM_CLASSES = 10
EDGE = 16
LAYOUTS = ("copy", "manifest")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    args = _arguments(argv)
    if args.child:
        _measured(*args.child)
        return
    from workshop import report  # imports torch, which no step needs

    print(report.header("data sets of many files"))
    with tempfile.TemporaryDirectory(prefix="medloop-benchmark-", dir=args.data) as scratch:
        columns = ["step", "files", "CPU, s", "CPU, ms a file", "peak memory, MiB", "memory, bytes a file more"]
        report.print_table(columns, _rows(Path(scratch), args))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000], help="numbers of images")
    parser.add_argument("--volumes", type=int, nargs="*", default=[200, 2_000], help="numbers of volumes")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--data", type=Path, help="folder for the data, which are deleted at the end")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _rows(scratch: Path, args: argparse.Namespace) -> Iterator[list[object]]:
    kinds = (("classification", args.sizes, write_images), ("segmentation", args.volumes, write_volumes))
    for task, sizes, write in kinds:
        smaller: dict[str, tuple[int, float]] = {}
        for size in sizes:
            data = scratch / f"{task}-{size}"
            write(data, size)
            for step in args.steps:
                taken = measure(step, task, data, scratch / "out")
                row = [f"{step}, {task}", size, taken["cpu"], 1000 * taken["cpu"] / size, taken["memory"]]
                yield [*row, _growth(smaller.get(step), (size, taken["memory"]))]
                smaller[step] = size, taken["memory"]
            shutil.rmtree(scratch / "out", ignore_errors=True)
            shutil.rmtree(data)


def _growth(smaller: tuple[int, float] | None, larger: tuple[int, float]) -> int | None:
    """Bytes of peak memory by which a larger data set exceeds a smaller one, a file; None for the first size."""
    return None if smaller is None else round((larger[1] - smaller[1]) * 2**20 / (larger[0] - smaller[0]))


def measure(step: str, task: str, data: Path, out: Path) -> dict[str, float]:
    """CPU seconds and MiB of a step in a new process.

    Raises:
        subprocess.CalledProcessError: The step fails.
    """
    command = [sys.executable, __file__, "--child", step, task, str(data), str(out)]
    variables = {**os.environ, "MEDLOOP_HOME": str(out / "home"), "MEDLOOP_CACHE": str(out / "cache")}
    lines = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603
    result: dict[str, float] = json.loads(lines.splitlines()[-1])
    return result


def _measured(step: str, task: str, data: str, out: str) -> None:
    STEPS[step](task, Path(data), Path(out))
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    with open("/proc/self/status") as status:
        (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    print(json.dumps({"cpu": cpu, "memory": int(peak) / 1024}))


def check(task: Any, data: Path, out: Path) -> None:
    """`data check`: every file is decoded, and the split planned."""
    from medloop.documents.split_rule import SplitRule
    from medloop.imaging.split_plan import plan_split
    from medloop.imaging.validation import check_dataset

    report = check_dataset(data, task)
    plan_split(report, SplitRule(), report.patients)


def check_of_run(task: Any, data: Path, out: Path) -> None:
    """The check of `run`, which remembers."""
    from medloop.commands.launch.remembered_checks import open_remembered
    from medloop.imaging.validation import check_dataset

    check_dataset(data, task, memory=open_remembered(data, task, None))


def split(layout: Any) -> Callable[[Any, Path, Path], None]:
    """The split job in a layout."""

    def run(task: Any, data: Path, out: Path) -> None:
        from medloop.imaging.split_job import SplitOutputs, SplitSettings, split_dataset

        folders = [out / layout / name for name in ("train", "val", "test", "split")]
        settings = SplitSettings(task=task, layout=layout, data_uri="s3://bucket/data")
        split_dataset(data, b"k" * 32, settings, SplitOutputs(*folders))

    return run


def read_split(task: Any, data: Path, out: Path) -> None:
    """split.json as training and evaluation read it."""
    from medloop.documents.split import SplitRecord

    SplitRecord.read(out / LAYOUTS[-1] / "split")


def version(task: Any, data: Path, out: Path) -> None:
    """The DataVersion of a folder that is registered by reference."""
    from medloop.input_data import data_version
    from medloop.local.session import local_session
    from medloop.local.state.home import Home
    from medloop.local.state.objects import reference

    assert data_version(local_session().client("s3"), reference(Home.find(), data) + "/")  # noqa: S101


def stage(task: Any, data: Path, out: Path) -> None:
    """A job's input: a link to each object of the data."""
    from medloop.local.jobs.inputs import link_inputs
    from medloop.local.state.backend import Backend
    from medloop.local.state.home import Home
    from medloop.local.state.objects import reference

    source = {"S3Uri": reference(Home.find(), data) + "/", "S3DataType": "S3Prefix"}
    link_inputs(Backend.open(), source, out / "staged")
    shutil.rmtree(out / "staged")


def upload(task: Any, data: Path, out: Path) -> None:
    """`data upload` to the local backend's S3."""
    from medloop.cloud.data_upload import upload_data
    from medloop.local.session import local_session
    from medloop.local.state.home import BUCKET, Home

    upload_data(local_session().client("s3"), data, f"s3://{BUCKET}/data/{data.name}")
    shutil.rmtree(Home.find().root / "s3" / BUCKET / "data")


STEPS: dict[str, Callable[[Any, Path, Path], None]] = {
    "data check": check,
    "check of run, first": check_of_run,
    "check of run, unchanged": check_of_run,
    "DataVersion, first": version,
    "DataVersion, unchanged": version,
    "input of a job": stage,
    "data upload": upload,
    **{f"Split, {layout}": split(layout) for layout in LAYOUTS},
    "split.json, read": read_split,
}


def write_images(folder: Path, num_images: int) -> None:
    """Write distinct images, without an encoder's time."""
    for number in range(NUM_CLASSES):
        (folder / f"class{number}").mkdir(parents=True)
    for number in range(num_images):
        (folder / f"class{number % NUM_CLASSES}" / f"{number:07}.png").write_bytes(_png(number))


def _png(number: int) -> bytes:
    rows = [bytes((7 * column + number) & 255 for column in range(EDGE))] * EDGE
    rows[0] = number.to_bytes(4, "big") + rows[0][4:]
    header = struct.pack(">IIBBBBB", EDGE, EDGE, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 1)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def write_volumes(folder: Path, num_volumes: int) -> None:
    """Write volumes of noise with two structures."""
    import nibabel as nib
    import numpy as np

    random = np.random.default_rng(0)
    label = np.resize(np.arange(3, dtype=np.uint8), (32, 32, 32))
    for number in range(num_volumes):
        subject = folder / f"subject{number:05}"
        subject.mkdir(parents=True)
        voxels = random.integers(0, 1000, (32, 32, 32)).astype(np.int16)
        for name, array in (("img", voxels), ("label", label)):
            image = nib.Nifti1Image(array, np.eye(4))
            image.header.set_xyzt_units("mm")
            nib.save(image, subject / f"{name}.nii.gz")


if __name__ == "__main__":
    main()

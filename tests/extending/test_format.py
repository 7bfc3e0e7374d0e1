"""docs/extending.md, "A file format": a reader and a row."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.extending.checkout import Checkout
from tests.unit.imaging.datasets import write_classes, write_subjects

IMAGE_ROW = '    Format("PGM", (".pgm",), (b"P5",), ("image/x-portable-graymap",), pillow_reader("PPM")),\n'
READER = '''"""NRRD volumes without compression. Torch-free."""

from __future__ import annotations

import numpy as np

from medloop.imaging.files import DAMAGED, FileError, Source, TooLargeError, Volume, open_source

TYPES = {"float": "<f4", "uchar": "u1"}


def read_nrrd(source: Source, max_voxels: int) -> Volume:
    """Read a volume in millimetres, of three axes in R, A, S order."""
    with open_source(source) as file:
        head, _, body = file.read().partition(b"\\n\\n")
    fields = dict(line.split(": ", 1) for line in head.decode("ascii", "replace").splitlines() if ": " in line)
    try:
        shape, edges = ([float(word) for word in fields[name].split()] for name in ("sizes", "spacings"))
        x, y, z = (int(edge) for edge in shape)
        kind = np.dtype(TYPES[fields["type"]])
    except (KeyError, ValueError):
        raise FileError(source, DAMAGED) from None
    if x * y * z > max_voxels:
        raise TooLargeError(source, f"has more than {max_voxels} voxels; cut it")
    if len(body) != x * y * z * kind.itemsize:
        raise FileError(source, DAMAGED)
    return Volume(np.frombuffer(body, kind).reshape((x, y, z), order="F"), np.diag([*edges, 1.0]), "mm")
'''
VOLUME_ROW = """    VolumeFormat("NRRD", (".nrrd",), (b"NRRD000",), ("application/x-nrrd",), nrrd.read_nrrd),
"""
SPLITS = ("train", "val", "test", "split")


def split(checkout: Checkout, task: str, data: Path, out: Path) -> None:
    """Run the split container on a data set."""
    outputs = [word for name in SPLITS for word in (f"--output-{name}", str(out / name))]
    done = checkout.python("containers/split/main.py", "--task", task, "--input-data", str(data), *outputs)
    assert done == 0, checkout.err


def content_types(checkout: Checkout) -> dict[str, list[str]]:
    """What a model version is registered to take, by task."""
    code = "import json, steps.register as s; print(json.dumps({task: s.content_types(task) for task in s.TASKS}))"
    assert checkout.python("-c", code) == 0, checkout.err
    types: dict[str, list[str]] = json.loads(checkout.out)
    return types


@pytest.mark.slow
def test_a_format_that_pillow_reads_is_a_row(checkout: Checkout, tmp_path: Path) -> None:
    """`data check` and Split read it, endpoints take it, and copies show the same pixels."""
    data = write_classes(tmp_path / "data", 4)
    pixels = {}
    for path in sorted(data.rglob("*.png")):
        Image.open(path).save(path.with_suffix(".pgm"))
        pixels[np.asarray(Image.open(path)).tobytes()] = path.parent.name
        path.unlink()
    check = ("data", "check", str(data), "--task", "classification")
    assert checkout.medloop(*check) == 2
    assert "is no .png or .jpg or .webp or .bmp or .tif file" in checkout.out + checkout.err

    checkout.replace("medloop/imaging/formats.py", '    Format("npy", (', f'{IMAGE_ROW}    Format("npy", (')
    assert checkout.touched == {"medloop/imaging/formats.py"}
    assert checkout.medloop(*check) == 0, checkout.err
    split(checkout, "classification", data, tmp_path / "split")
    copies = [path for name in SPLITS[:3] for path in (tmp_path / "split" / name).rglob("*.png")]
    assert {np.asarray(Image.open(path)).tobytes(): path.parent.name for path in copies} == pixels
    assert "image/x-portable-graymap" in content_types(checkout)["classification"]


def to_nrrd(path: Path) -> None:
    """Write a NIfTI volume as NRRD in its place."""
    image = nib.load(path)
    voxels = np.asarray(image.dataobj)
    kind = {"float32": "float", "uint8": "uchar"}[voxels.dtype.name]
    sizes, spacings = (" ".join(map(str, values)) for values in (voxels.shape, image.header.get_zooms()))
    head = f"NRRD0004\ntype: {kind}\ndimension: 3\nsizes: {sizes}\nspacings: {spacings}\nencoding: raw\n\n"
    path.with_name(path.name.replace(".nii.gz", ".nrrd")).write_bytes(head.encode() + voxels.tobytes(order="F"))
    path.unlink()


@pytest.mark.slow
def test_a_format_of_volumes_is_a_reader_and_a_row(checkout: Checkout, tmp_path: Path) -> None:
    """`data check` names what is damaged in it; Split writes NIfTI with the same voxels and affine."""
    data = write_subjects(tmp_path / "data")
    voxels = {}
    for path in sorted(data.rglob("img.nii.gz")):
        image = nib.load(path)
        voxels[np.asarray(image.dataobj).tobytes()] = image.affine.tolist()
        for file in (path, path.with_name("label.nii.gz")):
            to_nrrd(file)
    checkout.add("medloop/imaging/nrrd.py", READER)
    checkout.replace("medloop/imaging/formats.py", "import nifti, npy, tiff\n", "import nifti, npy, nrrd, tiff\n")
    before = '    VolumeFormat(\n        "npy",'
    checkout.replace("medloop/imaging/formats.py", before, f"{VOLUME_ROW}{before}")
    assert len(checkout.touched) == 2

    check = ("data", "check", str(data), "--task", "segmentation")
    assert checkout.medloop(*check) == 0, checkout.err
    split(checkout, "segmentation", data, tmp_path / "split")
    copies = [nib.load(path) for name in SPLITS[:3] for path in (tmp_path / "split" / name).rglob("img.nii.gz")]
    assert {np.asarray(copy.dataobj).tobytes(): copy.affine.tolist() for copy in copies} == voxels
    assert "application/x-nrrd" in content_types(checkout)["segmentation"]

    damaged = next(data.rglob("label.nrrd"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert checkout.medloop(*check) == 2
    assert "label.nrrd" in checkout.out + checkout.err
    assert "truncated" in checkout.out + checkout.err

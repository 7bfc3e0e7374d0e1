"""One series of a study, as an import reads it: for predictions. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medloop.dicom.instances import DicomFile, read_instance
from medloop.dicom.library import load_pydicom
from medloop.dicom.projections import write_png
from medloop.dicom.volumes import read_voxels
from medloop.errors import DataError
from medloop.imaging.nifti import write_nifti
from medloop.importing.archives import is_archive, open_folder
from medloop.importing.cases import no_progress
from medloop.importing.dicom_source import PICTURES, VOLUMES, build_volumes, read_headers
from medloop.importing.dicom_subjects import SeriesVolume

_LISTED = 12
"""Series that a message lists."""


@dataclass(frozen=True)
class StudySeries:
    """A series of a study.

    Attributes:
        files: Those that the volume or image is made of.
        volume: Its slices; None for a 2D image.
        warnings: What is odd about the series.
    """

    files: tuple[DicomFile, ...]
    volume: SeriesVolume | None
    warnings: tuple[str, ...] = ()

    def write(self, folder: Path, pet: str = "suv") -> Path:
        """Write the volume as NIfTI, or the image (of a cine loop the middle frame) as PNG, as an import does.

        Args:
            folder: Exists.
            pet: `suv` or `stored`.

        Raises:
            FileError: A file can't be decoded.
        """
        if self.volume is None:
            (file,) = self.files
            write_png(file.path, file.num_frames // 2, folder / "image.png")
            return folder / "image.png"
        suv = self.volume.first.modality == "PT" and pet == "suv"
        voxels = read_voxels(self.volume.stack, self.volume.stored, suv=suv)
        write_nifti(folder / "volume.nii.gz", voxels, self.volume.stack.affine, fast=True)
        return folder / "volume.nii.gz"


@contextmanager
def open_series(study: Path, chosen: str, scratch: Path) -> Iterator[StudySeries]:
    """Find a series of a study.

    Args:
        study: A folder, an archive, a DICOMDIR or one DICOM file.
        chosen: SeriesInstanceUID, followed by a colon and the part's name where a series has several volumes; "" if
            there is one series.
        scratch: A folder that isn't there, for an archive's content; it vanishes with the block.

    Raises:
        DataError: There is no such series, there are several, or it can't be used.
    """
    load_pydicom()
    if study.is_file() and not is_archive(study):
        yield _choose(study, [read_instance(study, ())], chosen)
        return
    with open_folder(study, scratch) as folder:
        headers = read_headers(folder, (), no_progress)
        if not headers.instances and headers.left_out:
            raise DataError(f"{study}: has no DICOM file that can be read; {headers.left_out[0].reason}")
        yield _choose(study, headers.instances, chosen)


def _choose(study: Path, instances: Sequence[DicomFile], chosen: str) -> StudySeries:
    images = [instance for instance in instances if instance.planes]
    by_series: dict[str, list[DicomFile]] = defaultdict(list)
    for image in images:
        by_series[image.series].append(image)
    uid, _, part = chosen.partition(":")
    if not images:
        raise DataError(f"{study}: has no DICOM image; give the folder or archive of a series")
    if chosen and uid not in by_series:
        raise DataError(f"--series {uid}: is not in {study}, which has {_list_series(by_series)}; give one of them")
    if not chosen and len(by_series) > 1:
        text = f"{study}: has {len(by_series)} series; choose one by --series"
        raise DataError(f"{text}: {_list_series(by_series)}")
    return _make_series(study, by_series[uid or next(iter(by_series))], part)


def _list_series(by_series: dict[str, list[DicomFile]]) -> str:
    texts = [f"{uid} ({members[0].modality}, {len(members)} files)" for uid, members in by_series.items()]
    return ", ".join([*texts[:_LISTED], *(["..."] if len(texts) > _LISTED else [])])


def _make_series(study: Path, members: Sequence[DicomFile], part: str) -> StudySeries:
    modality = members[0].modality
    if len({member.patient for member in members}) > 1:
        raise DataError(f"{study}: PatientID differs within the series; export the series again")
    if modality in VOLUMES:
        return _make_volume(study, members, part)
    if modality not in PICTURES:
        known = ", ".join(sorted(VOLUMES | PICTURES))
        raise DataError(
            f"{study}: is of the modality {modality or 'none'}, which models don't take; give one of {known}"
        )
    if len({member.uid for member in members}) > 1:
        raise DataError(f"{study}: has {len(members)} images of {modality} in the series; give the file of one")
    return StudySeries((members[0],), None)


def _make_volume(study: Path, members: Sequence[DicomFile], part: str) -> StudySeries:
    volumes, rejected = build_volumes(members)
    if not volumes:
        raise DataError(f"{study}: no volume can be made of the series: {rejected[0].reason}")
    named = {volume.stack.part: volume for volume in volumes}
    if len(volumes) > 1 and not part:
        keys = ", ".join(f'--series "{members[0].series}:{name}"' for name in named)
        raise DataError(f"{study}: the series has {len(volumes)} volumes; choose one: {keys}")
    if part and part not in named:
        raise DataError(
            f"--series ...:{part}: is no part of the series, which has {', '.join(named)}; give one of them"
        )
    volume = named[part] if part else volumes[0]
    paths = {plane.path for plane in volume.stack.planes}
    files = tuple({member.uid: member for member in members if member.path in paths}.values())
    left_out = tuple(f"{len(each.planes)} slices of the series are left out: {each.reason}" for each in rejected)
    return StudySeries(files, volume, (*volume.stack.warnings, *left_out))

"""Sources that are one file: archives within limits, and media with a DICOMDIR."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from medloop.errors import DataError, TargetError
from tests.unit.dicom.scanners import MadeSeries, item, save
from tests.unit.importing.importer import run


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    """A zip of a folder's files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{prefix}{file.relative_to(folder)}")
    return path


def zip_of(path: Path, name: str, content: bytes = b"x") -> Path:
    """A zip with one member."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_imported_and_resumed(tmp_path: Path, kind: str) -> None:
    """A second import of it writes nothing; its content doesn't stay."""
    MadeSeries().write(tmp_path / "src" / "a")
    source = tmp_path / f"export.{kind}"
    if kind == "zip":
        zipped(tmp_path / "src", source)
    else:
        with tarfile.open(source, "w:gz") as archive:
            archive.add(tmp_path / "src", "export")

    first, second = run(source, tmp_path / "out"), run(source, tmp_path / "out")

    assert [case.is_new for case in first.cases] == [True]
    assert [case.is_new for case in second.cases] == [False]
    assert sorted(path.name for path in (tmp_path / "out" / ".medloop-import").iterdir()) == [
        "journal.jsonl",
        "report.json",
    ]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:\\evil", "..\\evil"])
def test_members_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    """In zip and tar, with slashes of either kind; nothing is written outside."""
    archive = zip_of(tmp_path / "1.zip", name)
    with tarfile.open(tmp_path / "1.tar", "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))

    for source in (archive, tmp_path / "1.tar"):
        with pytest.raises(DataError, match="would be outside its folder"):
            run(source, tmp_path / "data" / "out")
    assert not [path for path in tmp_path.rglob("*evil*") if "out" not in path.parts]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """By the sizes in its directory, and by members that overlap."""
    bomb = zip_of(tmp_path / "bomb.zip", "1.dcm", bytes(1 << 20))
    content = bytearray(bomb.read_bytes())
    position = content.index(b"PK\x01\x02") + 24
    content[position : position + 4] = (0xFFFFFF00).to_bytes(4, "little")
    bomb.write_bytes(content)

    with pytest.raises(DataError, match="it expands to 4095 MiB, more than 200 times its size"):
        run(bomb, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no folder, zip or tar file"),
        (b"PK\x05\x06" + bytes(18), "is of no known kind"),
        (b"x", "is no folder"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """In one line."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=message):
        run(tmp_path / "file", tmp_path / "out")


def test_a_damaged_zip(tmp_path: Path) -> None:
    """A wrong checksum."""
    MadeSeries().write(tmp_path / "src")
    source = zipped(tmp_path / "src", tmp_path / "1.zip")
    content = bytearray(source.read_bytes())
    content[200] ^= 0xFF
    source.write_bytes(content)
    with pytest.raises(DataError, match="is damaged; copy it again"):
        run(source, tmp_path / "out")


def test_nothing_there(tmp_path: Path) -> None:
    """The path is named."""
    with pytest.raises(DataError, match=r"missing: isn't there; give a folder, a zip file or a DICOMDIR"):
        run(tmp_path / "missing", tmp_path / "out")


def test_a_folder_with_other_files_is_no_target(tmp_path: Path) -> None:
    """Nor is one inside the source."""
    MadeSeries().write(tmp_path / "src")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("x")
    with pytest.raises(TargetError, match="contains other files"):
        run(tmp_path / "src", tmp_path / "out")
    with pytest.raises(TargetError, match="is in the source"):
        run(tmp_path / "src", tmp_path / "src" / "out")


@pytest.mark.parametrize("name", ["DICOMDIR", ""])
def test_a_medium_with_a_dicomdir(tmp_path: Path, name: str) -> None:
    """Its folder is read; files that are missing are reported, and paths that leave the medium are never followed."""
    MadeSeries().write(tmp_path / "cd" / "IMAGES")
    save(MadeSeries(seed=5).dataset(0), tmp_path / "secret.dcm")
    directory = MadeSeries().common()
    directory.file_meta.MediaStorageSOPClassUID = directory.SOPClassUID = "1.2.840.10008.1.3.10"
    directory.SOPInstanceUID = directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    names = [["IMAGES", "IM0000.dcm"], ["IMAGES", "GONE"], ["..", "secret.dcm"], ["/etc/passwd"]]
    directory.DirectoryRecordSequence = [item(DirectoryRecordType="IMAGE", ReferencedFileID=name) for name in names]
    save(directory, tmp_path / "cd" / "DICOMDIR")

    report = run(tmp_path / "cd" / name, tmp_path / "out")

    assert len(report.cases) == 1
    assert "DICOMDIR names 3 of 4 files that are not there; copy the complete medium" in report.warnings

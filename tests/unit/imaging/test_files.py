"""Files as readers take them: how often one is opened, and what is refused before it is."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medloop.imaging.files import SMALL, FileError, InMemory, load_small
from medloop.imaging.formats import read_image, read_volume, read_volume_header

_opened: list[str] = []
sys.addaudithook(lambda event, args: _opened.append(str(args[0])) if event == "open" else None)


def png(path: Path) -> None:
    """A picture in 16-bit colour, which is decoded twice."""
    import imagecodecs

    path.write_bytes(imagecodecs.png_encode(np.full((8, 8, 3), 4000, np.uint16)))


def jpeg(path: Path) -> None:
    """A small photograph."""
    Image.new("RGB", (8, 8)).save(path)


def nifti(path: Path) -> None:
    """A small volume."""
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), path)


@pytest.mark.parametrize(
    ("name", "make", "read"),
    [
        ("scan.png", png, read_image),
        ("scan.jpg", jpeg, read_image),
        ("img.nii.gz", nifti, read_volume),
        ("img.nii", nifti, read_volume),
        ("label.nii.gz", nifti, read_volume_header),
    ],
)
def test_a_small_file_is_opened_once(
    tmp_path: Path, name: str, make: Callable[[Path], None], read: Callable[[Path], object]
) -> None:
    """A data set has many thousand small files: opening one costs as much as decoding it."""
    make(tmp_path / name)
    read(tmp_path / name)
    _opened.clear()
    read(tmp_path / name)
    assert [path for path in _opened if path.endswith(name)] == [str(tmp_path / name)]


def test_a_refusal_names_the_file_that_was_read(tmp_path: Path) -> None:
    """The path is the file's own, as the list of problems has it, though its content was in memory."""
    (tmp_path / "scan.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with pytest.raises(FileError, match=r"^scan.png: is truncated") as refused:
        read_image(tmp_path / "scan.png")
    assert refused.value.path == tmp_path / "scan.png"


def test_large_files_stay_on_the_disk(tmp_path: Path) -> None:
    """Only a small file is taken into memory before it is known what it is."""
    for size, kind in ((SMALL, InMemory), (SMALL + 1, Path)):
        (tmp_path / "scan.png").write_bytes(bytes(size))
        assert isinstance(load_small(tmp_path / "scan.png"), kind)


def folder(path: Path) -> None:
    """A folder with a file's name."""
    path.mkdir()


def pipe(path: Path) -> None:
    """A pipe, which would wait for a writer."""
    os.mkfifo(path)


def link_to_itself(path: Path) -> None:
    """A link in a circle."""
    path.symlink_to(path)


def broken_link(path: Path) -> None:
    """A link to nothing."""
    path.symlink_to(path.with_name("nothing"))


def link_through_a_file(path: Path) -> None:
    """A link whose folder is a file."""
    path.with_name("file").touch()
    path.symlink_to(path.with_name("file") / "scan.png")


def unix_socket(path: Path) -> None:
    """A socket."""
    # The name of a socket is 107 bytes at most.
    with chdir(path.parent), socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


@pytest.mark.parametrize("make", [folder, pipe, link_to_itself, broken_link, link_through_a_file, unix_socket])
def test_what_is_no_file_is_refused_unopened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """What fails or blocks when it is opened is no regular file."""
    make(tmp_path / "scan.png")
    with pytest.raises(FileError, match=r"scan.png: is no regular file; put the file itself there"):
        read_image(tmp_path / "scan.png")

"""Model files from strangers: damaged, mismatched or hostile ones are refused in one line."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medloop.documents.archive import MODEL_LIMITS
from medloop.errors import DataError
from medloop.imaging.model_files import load_weights, unpack_model


def archive(path: Path, members: dict[str, bytes]) -> None:
    """Write a tar.gz with these members."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_a_folder_of_files_is_taken_as_it_is(tmp_path: Path) -> None:
    """Nothing is unpacked where model.json lies open."""
    (tmp_path / "model.json").write_text("{}")
    assert unpack_model(tmp_path, tmp_path / "scratch") == tmp_path


def test_an_archive_is_unpacked(tmp_path: Path) -> None:
    """What SageMaker packs, with or without a leading dot."""
    archive(tmp_path / "model.tar.gz", {"./model.json": b"{}", "./model.safetensors": b"x"})
    folder = unpack_model(tmp_path, tmp_path / "scratch")
    assert {path.name for path in folder.iterdir()} == {"model.json", "model.safetensors"}


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt"])
def test_path_traversal_is_refused(tmp_path: Path, name: str) -> None:
    """A member that would leave the folder fails the archive, and nothing is written outside."""
    (tmp_path / "in").mkdir()
    archive(tmp_path / "in" / "model.tar.gz", {"model.json": b"{}", name: b"evil"})
    with pytest.raises(DataError, match=r"model\.tar\.gz: can't be unpacked: unsafe member"):
        unpack_model(tmp_path / "in", tmp_path / "out" / "scratch")
    assert list(tmp_path.rglob("evil.txt")) == []


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    """A symbolic link can't be used to write or read elsewhere."""
    link = tarfile.TarInfo("model.safetensors")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.addfile(link)
    with pytest.raises(DataError, match="unsafe member"):
        unpack_model(tmp_path, tmp_path / "scratch")


@pytest.mark.slow
@pytest.mark.parametrize(("num", "size"), [(1, MODEL_LIMITS.num_bytes + 1), (MODEL_LIMITS.num_files + 1, 0)])
def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path, num: int, size: int) -> None:
    """A few bytes can unpack to anything: what the headers promise is counted before it is written."""
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz", compresslevel=1) as tar:
        for index in range(num):
            member = tarfile.TarInfo(f"{index}")
            member.size = size
            tar.addfile(member, None if size else io.BytesIO())
    with pytest.raises(DataError, match=r"model\.tar\.gz: can't be .* more than 8 GiB and 10000 files"):
        unpack_model(tmp_path, tmp_path / "scratch")


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    """Half a download."""
    path = tmp_path / "model.tar.gz"
    archive(path, {"model.json": b"{}", "model.safetensors": bytes(range(256)) * 400})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="can't be unpacked"):
        unpack_model(tmp_path, tmp_path / "scratch")


@pytest.mark.parametrize("members", [{}, {"readme.txt": b""}])
def test_a_folder_or_archive_without_a_model_is_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    """The message says what was looked for."""
    if members:
        archive(tmp_path / "model.tar.gz", members)
    with pytest.raises(DataError, match=r"contains (neither|no) model\.json"):
        unpack_model(tmp_path, tmp_path / "scratch")


def test_weights_come_back(tmp_path: Path) -> None:
    """Every value is loaded."""
    network = nn.Linear(3, 2)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    fresh = nn.Linear(3, 2)
    load_weights(fresh, tmp_path)
    assert torch.equal(fresh.weight, network.weight)
    assert torch.equal(fresh.bias, network.bias)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight has shape \[2, 4\], not \[2, 3\]"),
        ({"weight": torch.zeros(2, 3)}, "bias is missing"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "extra": torch.zeros(1)}, "extra is unknown"),
        (
            {"weight": torch.full((2, 3), torch.nan), "bias": torch.zeros(2)},
            "weight contains values that are not finite",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor], message: str) -> None:
    """The first difference is named."""
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=message):
        load_weights(nn.Linear(3, 2), tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "text", "pickle", "absent"])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, damage: str) -> None:
    """A pickle is never loaded, despite its name."""
    path = tmp_path / "model.safetensors"
    save_file(nn.Linear(3, 2).state_dict(), path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "text":
        path.write_text("weights")
    elif damage == "pickle":
        torch.save(nn.Linear(3, 2).state_dict(), path)
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"model\.safetensors: can't be read"):
        load_weights(nn.Linear(3, 2), tmp_path)

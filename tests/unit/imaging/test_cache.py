"""The cache of prepared data: what it gives back, and that it trusts nothing it finds."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from medloop.errors import SettingError
from medloop.imaging.cache import Cache, make_key

KEY = make_key("test", 1)
VALUES = {"image": torch.arange(60.0).view(3, 4, 5), "label": torch.tensor([1, 2, 3], dtype=torch.uint8)}


class Maker:
    """Makes the values, and counts how often."""

    def __init__(self, values: Mapping[str, Tensor] = VALUES) -> None:
        self.values, self.calls = values, 0

    def __call__(self) -> Mapping[str, Tensor]:
        """The values."""
        self.calls += 1
        return self.values


def environ(folder: Path, **more: str) -> dict[str, str]:
    """An environment that names the folder."""
    return {"MEDLOOP_CACHE_DIR": str(folder), **more}


def take(folder: Path, key: str = KEY, **more: str) -> tuple[dict[str, Tensor], int]:
    """What another process would get, and how often it made it."""
    maker = Maker()
    return Cache.open(environ(folder, **more)).take(key, maker, is_expected), maker.calls


def is_expected(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors look like VALUES."""
    return {n: (t.dtype, t.shape) for n, t in tensors.items()} == {n: (t.dtype, t.shape) for n, t in VALUES.items()}


def assert_values(tensors: Mapping[str, Tensor]) -> None:
    """They are VALUES."""
    assert tensors.keys() == VALUES.keys()
    assert all(torch.equal(tensors[name], VALUES[name]) for name in VALUES)


def entry(folder: Path) -> Path:
    """The one entry's file."""
    [path] = folder.iterdir()
    return path


def test_made_once_and_mapped(tmp_path: Path) -> None:
    """The second process makes nothing: it maps the file, which only its owner may read."""
    first, made = take(tmp_path / "a" / "cache")
    assert made == 1
    assert_values(first)
    again, made = take(tmp_path / "a" / "cache")
    assert made == 0
    assert_values(again)
    path = entry(tmp_path / "a" / "cache")
    assert str(path) in Path("/proc/self/maps").read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_writing_into_the_tensors_changes_no_file(tmp_path: Path) -> None:
    """A mapped tensor is this process's own."""
    tensors, _ = take(tmp_path)
    tensors["image"].zero_()
    assert_values(take(tmp_path)[0])


@pytest.mark.slow
def test_a_large_entry_takes_no_memory_until_it_is_touched(tmp_path: Path) -> None:
    """Pages come from the file when they are read, and belong to the page cache, not to the process."""
    code = f"""
import torch
from medloop.imaging.cache import Cache
def own():
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1]) // 1024
cache = Cache.open({{"MEDLOOP_CACHE_DIR": {str(tmp_path)!r}}})
before = own()
found = cache.take({KEY!r}, lambda: {{"image": torch.ones(100, 1024, 1024)}})
assert float(found["image"].sum()) == 100 * 2**20
assert own() - before < 100, own() - before
"""
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], check=True)


def truncate(path: Path) -> None:
    """Torn off."""
    path.write_bytes(path.read_bytes()[:-7])


def cut_header(path: Path) -> None:
    """Torn within the header."""
    path.write_bytes(path.read_bytes()[:20])


def empty(path: Path) -> None:
    """Zero bytes."""
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    """As a file system leaves a file after a power cut."""
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    """One bit of the data."""
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)


def longer(path: Path) -> None:
    """Something behind the data."""
    path.write_bytes(path.read_bytes() + b"more")


def pickled(path: Path) -> None:
    """A pickle that would run something."""
    path.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")


def other_key(path: Path) -> None:
    """A sound entry under another's name."""
    assert_values(take(path.parent, make_key("other"))[0])
    other = next(p for p in path.parent.iterdir() if p != path)
    other.replace(path)


def no_metadata(path: Path) -> None:
    """The right tensors without a checksum."""
    save_file(load_file(path), path)


def other_tensors(path: Path) -> None:
    """A sound entry of this name with other tensors than requested."""
    wrong = {"image": VALUES["image"].int(), "label": VALUES["label"]}
    path.unlink()
    Cache.open(environ(path.parent)).take(path.stem, lambda: wrong)


def symlink(path: Path) -> None:
    """A link to a copy of itself elsewhere."""
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def dangling(path: Path) -> None:
    """A link to nothing."""
    path.unlink()
    path.symlink_to("nowhere")


def folder(path: Path) -> None:
    """An empty folder."""
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    """A pipe without a writer."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [
        *(truncate, cut_header, empty, zeros, flip, longer, pickled, other_key, no_metadata, other_tensors),
        *(symlink, dangling, folder, fifo),
    ],
)
def test_what_cannot_be_trusted_is_made_again(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one line in the log; then it is sound again."""
    folder = tmp_path / "cache"
    take(folder)
    path = entry(folder)
    damage(path)
    capsys.readouterr()
    tensors, made = take(folder)
    assert made == 1
    assert_values(tensors)
    assert capsys.readouterr().out.count("\n") == 1
    assert take(folder)[1] == 0
    assert path.is_file()
    assert not path.is_symlink()
    assert not Path("pwned").exists()


def test_a_full_folder_in_an_entrys_place_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file of others is removed: the data stays in memory, and other entries are written as ever."""
    (tmp_path / f"{KEY}.safetensors" / "mine").mkdir(parents=True)
    cache, maker = Cache.open(environ(tmp_path)), Maker()
    assert_values(cache.take(KEY, maker))
    assert "stays in memory" in capsys.readouterr().out
    assert (tmp_path / f"{KEY}.safetensors" / "mine").is_dir()
    cache.take(make_key("other"), maker)
    cache.take(make_key("other"), maker)
    assert maker.calls == 2
    assert not list(tmp_path.glob(".new-*"))


@pytest.mark.parametrize("folder", ["/proc/medloop", "file/cache"])
def test_a_folder_that_cannot_be_made(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and the data stays in memory."""
    (tmp_path / "file").touch()
    cache, maker = Cache.open(environ(tmp_path / folder)), Maker()
    assert_values(cache.take(KEY, maker))
    assert_values(cache.take(make_key("other"), maker))
    assert maker.calls == 2
    assert capsys.readouterr().out.count("\n") == 1


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """/proc/self is read-only for everybody, root included: one line for any number of entries."""
    cache = Cache.open(environ(Path("/proc/self")))
    for name in "abc":
        assert_values(cache.take(make_key(name), Maker()))
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "stays in memory" in out


def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, the data stays in memory, and nothing half-written is left; what was there is still used."""
    small, maker = {"label": VALUES["label"]}, Maker({"image": torch.ones(100_000)})
    cache = Cache.open(environ(tmp_path))
    cache.take(KEY, lambda: small)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this; the write fails as it does on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        entries = [cache.take(make_key(name), maker) for name in "abc"]
        assert torch.equal(cache.take(KEY, Maker())["label"], small["label"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert all(float(tensors["image"].sum()) == 100_000 for tensors in entries)
    assert capsys.readouterr().out.count("\n") == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_many_processes_at_once(tmp_path: Path) -> None:
    """Processes that write and read the same few entries at the same time all get whole ones."""
    code = f"""
import sys, torch
from medloop.imaging.cache import Cache, make_key
for round in range(10):
    cache = Cache.open({{"MEDLOOP_CACHE_DIR": {str(tmp_path)!r}}})
    for number in range(5):
        found = cache.take(make_key(number, round), lambda: {{"x": torch.full((50_000,), float(number))}})
        assert bool((found["x"] == number).all())
"""
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)]
    for process in running:
        output, _ = process.communicate()
        assert process.returncode == 0
        assert output == b""
    assert len(list(tmp_path.glob("*.safetensors"))) == 50
    assert not list(tmp_path.glob(".new-*"))


def big(number: int) -> Callable[[], Mapping[str, Tensor]]:
    """An entry of a megabyte."""
    return lambda: {"x": torch.full((250_000,), float(number))}


def test_the_least_recently_used_go(tmp_path: Path) -> None:
    """Beyond the limit, entries of earlier runs go, those used longest ago first; foreign files stay."""
    limit = {"MEDLOOP_CACHE_GB": "0.0035"}
    keys = [make_key(number) for number in range(4)]
    earlier = Cache.open(environ(tmp_path, **limit))
    for number in range(3):
        earlier.take(keys[number], big(number))
    for number, key in enumerate(keys[:3]):
        used = time.time() - 10_000 + number
        os.utime(tmp_path / f"{key}.safetensors", (used, used))
    (tmp_path / "notes.txt").write_bytes(bytes(5_000_000))
    maker = Maker()
    cache = Cache.open(environ(tmp_path, **limit))
    cache.take(keys[0], maker)
    mapped = earlier.take(keys[1], maker)["x"]
    os.utime(tmp_path / f"{keys[1]}.safetensors", (used - 1, used - 1))
    assert maker.calls == 0
    cache.take(keys[3], big(3))
    stored = {path.stem for path in tmp_path.glob("*.safetensors")}
    assert stored == {keys[0], keys[2], keys[3]}
    assert (tmp_path / "notes.txt").exists()
    # A process that has the file mapped can still read it.
    assert bool((mapped == 1).all())


def test_a_running_jobs_own_data_stays(tmp_path: Path) -> None:
    """A limit below what one job needs would otherwise make it prepare its data again and again."""
    cache, maker = Cache.open(environ(tmp_path, MEDLOOP_CACHE_GB="0.0015")), Maker()
    for number in range(4):
        cache.take(make_key(number), big(number))
    for number in range(4):
        cache.take(make_key(number), maker)
    assert maker.calls == 0


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    """A half-written file is removed after a day, not before."""
    old, new = tmp_path / ".new-old", tmp_path / ".new-new"
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 100_000,) * 2)
    take(tmp_path)
    assert not old.exists()
    assert new.exists()


@pytest.mark.slow
def test_without_a_folder_a_temporary_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It goes with the process."""
    code = f"""
import tempfile, torch, os
from medloop.imaging.cache import Cache
cache = Cache.open({{}})
cache.take({KEY!r}, lambda: {{"x": torch.ones(3)}})
assert len(os.listdir(tempfile.gettempdir())) == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


def test_processes_of_one_launch_share_a_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What one has made the other maps."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ranks = [{"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": str(rank)} for rank in range(2)]
    first, second = (Cache.open(env) for env in ranks)
    maker = Maker()
    for cache in (first, second):
        assert_values(cache.take(KEY, maker))
    assert maker.calls == 1


def test_in_a_warm_pool_the_volume_that_outlives_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the service mounts one, if no other is requested."""
    monkeypatch.setenv("ML_ROOT", str(tmp_path))
    volume = tmp_path / "sagemaker" / "warmpoolcache"
    volume.mkdir(parents=True)
    Cache.open({}).take(KEY, Maker())
    assert [path.name for path in (volume / "medloop").iterdir()] == [f"{KEY}.safetensors"]


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_no_size(text: str) -> None:
    """The variable is named."""
    with pytest.raises(SettingError, match=f"MEDLOOP_CACHE_GB={text}"):
        Cache.open({"MEDLOOP_CACHE_GB": text})


def test_a_limit_of_0_writes_nothing(tmp_path: Path) -> None:
    """Data stays in memory."""
    assert_values(take(tmp_path / "cache", MEDLOOP_CACHE_GB="0")[0])
    assert not (tmp_path / "cache").exists()


def test_only_digests_name_entries(tmp_path: Path) -> None:
    """No key leads out of the folder."""
    with pytest.raises(ValueError, match="no digest"):
        Cache.open(environ(tmp_path)).take("../" + KEY, Maker())


def keep_times(damage: Callable[[Path], None], path: Path) -> None:
    """Damage an entry, and give it the size and the modification time that it had."""
    before = path.stat()
    damage(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("damage", [flip, zeros])
def test_an_entry_changed_while_the_cache_is_open_is_made_again(damage: Callable[[Path], None], tmp_path: Path) -> None:
    """Its checksum is verified again, even if size, inode and modification time are as they were."""
    cache, maker = Cache.open(environ(tmp_path)), Maker()
    for _ in range(2):
        assert_values(cache.take(KEY, maker))
    assert maker.calls == 1
    keep_times(damage, entry(tmp_path))
    assert_values(cache.take(KEY, maker))
    assert maker.calls == 2

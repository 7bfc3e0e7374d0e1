"""Volumes for training: prepared once, by threads and processes together, with the same result from each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medloop.documents.hyperparameters import SegmentationHyperparameters
from medloop.documents.model import VolumePreprocessing
from medloop.errors import DataError
from medloop.imaging import intensity
from medloop.imaging.cache import Cache
from medloop.imaging.segment_dataset import Subjects, fit_preprocessing, load_training, load_validation
from medloop.imaging.volumes import preprocess, read_case
from tests.unit.imaging.datasets import write_subject

CLASSES = ["background", "gland", "zone"]
SETTINGS = SegmentationHyperparameters(intensity="dataset")


@pytest.fixture
def subjects(tmp_path: Path) -> Callable[[], Subjects]:
    """Five subjects, as a new process sees them."""
    folders = [write_subject(tmp_path / "data" / f"s{k}", k, (0, 1, 2)) for k in range(5)]
    return lambda: Subjects("train", folders, CLASSES)


@pytest.fixture
def cache(tmp_path: Path) -> Callable[[], Cache]:
    """The cache, as a new process opens it."""
    return lambda: Cache.open({"MEDLOOP_CACHE_DIR": str(tmp_path / "cache")})


def prepare(subjects: Subjects, cache: Cache) -> tuple[VolumePreprocessing, list[torch.Tensor]]:
    """The rule, and all tensors of training and validation."""
    rule = fit_preprocessing(subjects, SETTINGS, cache)
    pairs, cases = load_training(subjects, rule, cache), load_validation(subjects, rule, cache)
    return rule, [tensor for pair in pairs for tensor in pair] + [t for c in cases for t in (c.image, c.label, c.truth)]


def entries(folder: Path) -> dict[str, int]:
    """Names and inodes, which show the files that were written again."""
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def test_the_rule_and_the_volumes_are_those_of_one_reader(subjects: Callable[[], Subjects]) -> None:
    """Threads change nothing: statistics as of volumes read in order, spacing the median, volumes as preprocessed."""
    data = subjects()
    cases = [read_case(folder, CLASSES) for folder in data.folders]
    rule = fit_preprocessing(data, SETTINGS, num_workers=3)
    assert rule.intensity == intensity.fit(SETTINGS, ((image.voxels, label.voxels) for image, label in cases))
    assert rule.spacing == (2.0, 2.0, 3.0)
    for (image, label), (volume, truth) in zip(load_training(data, rule, num_workers=3), cases, strict=True):
        assert torch.equal(image, preprocess(volume, rule))
        assert torch.equal(label, torch.from_numpy(truth.voxels))


def test_a_second_run_unpacks_nothing(
    subjects: Callable[[], Subjects], cache: Callable[[], Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same rule, same tensors, and not one volume is opened by nibabel."""
    rule, first = prepare(subjects(), cache())
    opened: list[object] = []
    for reader in (nib.Nifti1Image, nib.Nifti2Image):
        monkeypatch.setattr(reader, "from_file_map", lambda *args, **_: opened.append(args))
        monkeypatch.setattr(reader, "from_stream", lambda *args, **_: opened.append(args))
    monkeypatch.setattr("gzip.GzipFile.__init__", lambda *args, **_: opened.append(args))
    again, second = prepare(subjects(), cache())
    assert opened == []
    assert again == rule
    assert all(torch.equal(left, right) for left, right in zip(first, second, strict=True))


def test_content_and_rule_name_what_is_kept(
    subjects: Callable[[], Subjects], cache: Callable[[], Cache], tmp_path: Path
) -> None:
    """A changed file or rule is prepared again, a renamed subject is not."""
    data = subjects()
    rule = VolumePreprocessing(mode="resize", size=(8, 8, 8), spacing=None, intensity=intensity.fit(
        SegmentationHyperparameters(), []))  # fmt: skip
    load_training(data, rule, cache())
    before = entries(tmp_path / "cache")
    assert len(before) == 5
    data.folders[0].rename(tmp_path / "data" / "other")
    renamed = Subjects("train", [tmp_path / "data" / "other", *data.folders[1:]], CLASSES)
    load_training(renamed, rule, cache())
    assert entries(tmp_path / "cache") == before
    write_subject(data.folders[1], 77, (0, 1, 2))
    load_training(Subjects("train", renamed.folders, CLASSES), rule, cache())
    assert len(entries(tmp_path / "cache")) == 6
    load_training(Subjects("train", renamed.folders, CLASSES), rule.model_copy(update={"size": (8, 8, 4)}), cache())
    assert len(entries(tmp_path / "cache")) == 11


def together(work: Callable[[tuple[int, int], Callable[[], None]], object]) -> list[object]:
    """Run two processes' parts side by side (threads stand for them); returns what each gave or raised."""
    barrier, results = threading.Barrier(2), [None, None]

    def run(index: int) -> None:
        try:
            results[index] = work((index, 2), lambda: barrier.wait(20) and None)
        except DataError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_two_processes_share_the_work(
    subjects: Callable[[], Subjects], cache: Callable[[], Cache], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each volume is prepared by one of them, and both have all."""
    rule = fit_preprocessing(subjects(), SETTINGS)
    written: list[str] = []
    replace = __import__("os").replace
    monkeypatch.setattr("os.replace", lambda new, path: (written.append(Path(path).name), replace(new, path)))
    first, second = together(lambda share, barrier: load_training(subjects(), rule, cache(), 1, share, barrier))
    assert len(written) == len(set(written)) == 5
    expected = load_training(subjects(), rule)
    for loaded in (first, second):
        assert isinstance(loaded, list)
        assert all(torch.equal(a, b) for x, y in zip(loaded, expected, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("broken", [(1,), (4, 2), (3, 0)])
def test_the_first_broken_file_is_named_by_all(
    broken: tuple[int, ...], subjects: Callable[[], Subjects], cache: Callable[[], Cache]
) -> None:
    """With channel, subject and file; no process waits for ever, and threads don't change which one it is."""
    data = subjects()
    rule = fit_preprocessing(data, SETTINGS)
    (data.folders[broken[0]] / "label.nii.gz").unlink()
    for k in broken[1:]:
        (data.folders[k] / "img.nii.gz").write_bytes(b"no volume")
    first = rf"^channel train: s{min(broken)}/(img|label)\.nii\.gz: "
    with pytest.raises(DataError, match=first):
        load_training(subjects(), rule, cache(), 3)
    loaded = together(lambda share, barrier: load_training(subjects(), rule, cache(), 2, share, barrier))
    for error in loaded:
        assert isinstance(error, DataError)
        with pytest.raises(DataError, match=first):
            raise error


def test_a_class_in_no_label_is_refused_on_a_hit_too(tmp_path: Path, cache: Callable[[], Cache]) -> None:
    """What an entry says of its label is enough to know."""
    data = Subjects("train", [write_subject(tmp_path / "s", 0, (0, 1))], CLASSES)
    rule = fit_preprocessing(data, SegmentationHyperparameters())
    for _ in range(2):
        with pytest.raises(DataError, match=r"no label contains value 2 \(zone\)"):
            load_training(data, rule, cache())
    empty = Subjects("val", [write_subject(tmp_path / "e", 1, (0,))], CLASSES)
    for _ in range(2):
        with pytest.raises(DataError, match="no label contains foreground"):
            load_validation(empty, rule, cache())


def test_truth_keeps_its_resolution(subjects: Callable[[], Subjects], cache: Callable[[], Cache]) -> None:
    """Mapped or made, the truth is the file's own label, in RAS."""
    settings = SegmentationHyperparameters(mode="resize", size=(4, 4, 4))
    data = subjects()
    rule = fit_preprocessing(data, settings)
    for _ in range(2):
        case = load_validation(data, rule, cache())[0]
        assert case.image.shape == case.label.shape == (4, 4, 4)
        assert np.array_equal(case.truth.numpy(), read_case(data.folders[0], CLASSES)[1].voxels)

"""Images for training: packed once, in the order of their content, and taken batch by batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medloop.documents.model import ImagePreprocessing
from medloop.errors import DataError
from medloop.imaging.cache import Cache
from medloop.imaging.classify_dataset import LabelledImages, fit_rule, list_images, load_labelled
from medloop.imaging.images import load_images
from tests.unit.imaging.datasets import write_classes, write_image

CLASSES = ["cyst", "normal"]
RULE = ImagePreprocessing(image_size=32, channels=1, mean=0, std=1)
CPU = torch.device("cpu")


def load(root: Path, cache: Path | None) -> LabelledImages:
    """The images of a folder."""
    prepared = Cache(None, 0) if cache is None else Cache.open({"MEDLOOP_CACHE_DIR": str(cache)})
    return load_labelled(list_images(root, "train", CLASSES), RULE, prepared)


def all_tensors(images: LabelledImages) -> tuple[torch.Tensor, torch.Tensor]:
    """All of them."""
    return images.take(range(len(images)), CPU)


def assert_same(first: LabelledImages, second: LabelledImages) -> None:
    """Same images and labels in the same order."""
    assert all(torch.equal(a, b) for a, b in zip(all_tensors(first), all_tensors(second), strict=True))


def test_images_keep_their_classes_and_names_play_no_part(tmp_path: Path) -> None:
    """The same files under other names give the same samples in the same order, labels with them."""
    # Enough for several shards.
    root = write_classes(tmp_path / "a", 70)
    images = load(root, tmp_path / "cache")
    assert len(images.shards) > 1
    files = {path: index for path, index in list_images(root, "train", CLASSES)}
    decoded = load_images(list(files), 32, 1)
    by_content = {image.numpy().tobytes(): index for image, index in zip(decoded, files.values(), strict=True)}
    pixels, labels = all_tensors(images)
    assert [by_content[image.numpy().tobytes()] for image in pixels] == labels.tolist()
    for number, path in enumerate(sorted(files, reverse=True)):
        target = tmp_path / "b" / path.parent.name / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    before = set((tmp_path / "cache").iterdir())
    assert_same(images, load(tmp_path / "b", tmp_path / "cache"))
    assert set((tmp_path / "cache").iterdir()) == before


def test_a_second_run_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one image is opened; without a cache the samples are the same."""
    root = write_classes(tmp_path / "a")
    images = load(root, tmp_path / "cache")
    assert_same(images, load(root, None))
    opened: list[object] = []
    monkeypatch.setattr("PIL.Image.open", lambda *args, **_: opened.append(args))
    again = load(root, tmp_path / "cache")
    assert opened == []
    assert_same(images, again)
    assert fit_rule(again, RULE) == fit_rule(images, RULE)


def test_a_new_image_rewrites_one_shard(tmp_path: Path) -> None:
    """The others are found again."""
    root = write_classes(tmp_path / "a", 70)
    before = len(load(root, tmp_path / "cache").shards)
    assert len(list((tmp_path / "cache").iterdir())) == before
    write_image(root / "cyst" / "one more.png", 5000)
    assert len(load(root, tmp_path / "cache")) == 141
    assert len(list((tmp_path / "cache").iterdir())) == before + 1


def test_batches_are_the_same_wherever_images_lie(tmp_path: Path) -> None:
    """In shards, or as one tensor on a device."""
    images = load(write_classes(tmp_path / "a", 70), tmp_path / "cache")
    placed = images.to(CPU)
    assert len(placed.shards) == 1
    assert_same(images, placed)
    chosen = [7, 139, 7, 0]
    pixels, labels = placed.take(chosen, CPU)
    assert torch.equal(pixels, torch.stack([images.image(sample) for sample in chosen]))
    assert labels.tolist() == [int(images.labels[sample]) for sample in chosen]


def test_the_rule_is_that_of_all_pixels(tmp_path: Path) -> None:
    """Measured once with the images, it is what measuring them all at once gives."""
    images = load(write_classes(tmp_path / "a"), None)
    pixels, labels = all_tensors(images)
    assert fit_rule(images, RULE) == fit_rule(LabelledImages(pixels, labels), RULE)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    """And what could be prepared doesn't hide it."""
    root = write_classes(tmp_path / "a")
    (root / "cyst" / "né w.png").write_text("hello")
    for _ in range(2):
        with pytest.raises(DataError, match=r"né w\.png"):
            load(root, tmp_path / "cache")

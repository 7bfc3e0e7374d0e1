"""Classification channels (`<class>/<image>`), decoded once and packed.

Images are in shards, by the digest of their files: a new image makes one shard again, not all of them. Their order is
that of their content: files are named by pseudonyms, and another key must not give another order, hence another model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from medloop.documents.image_statistics import ImageStatistics
from medloop.documents.model import ImagePreprocessing
from medloop.errors import DataError
from medloop.imaging.cache import Cache, file_digest, make_key
from medloop.imaging.device import empty_batch, to_device
from medloop.imaging.formats import IMAGE_SUFFIXES, find_suffix, read_image, usual_suffixes
from medloop.imaging.image_facts import measure_image, summarise
from medloop.imaging.images import fit_moments, moments, prepare
from medloop.imaging.preparation import ALONE, Item, Share, count_workers, in_threads, no_barrier
from medloop.imaging.preparation import prepare as prepare_items

PREPARATION = 2
"""Version of what `images.prepare` makes of a file; raise it when that changes."""
SHARD_BYTES = 2**28
SHARD_IMAGES = 64
"""Up to 16 shards hold about this many: host processes share the work by shards."""


@dataclass(frozen=True)
class LabelledImages:
    """A split's images with their classes.

    Args:
        shards: float16 (or wider) [n, C, S, S] in 0..1 each; one tensor, or several on the CPU.
        labels: int64 [N] class indices, by sample.
        rows: int64 [N], on the CPU: which row of the shards, one after the other, a sample is; None: its own number.
        moments: float64 [N, 2], mean and mean square of each sample's pixels; None computes them where needed.
    """

    shards: Tensor | Sequence[Tensor]
    labels: Tensor
    rows: Tensor | None = None
    moments: Tensor | None = None
    _positions: list[tuple[int, int]] = field(init=False, repr=False, compare=False)
    """(shard, row in it) of each row."""

    def __post_init__(self) -> None:
        if isinstance(self.shards, Tensor):
            object.__setattr__(self, "shards", (self.shards,))
        rows = range(len(self.labels)) if self.rows is None else self.rows.tolist()
        positions = [(shard, row) for shard, images in enumerate(self.shards) for row in range(len(images))]
        object.__setattr__(self, "_positions", [positions[row] for row in rows])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_bytes(self) -> int:
        """Memory of the images."""
        return sum(images.nbytes for images in self.shards)

    def image(self, sample: int) -> Tensor:
        """One image: [C, S, S], on its device."""
        shard, row = self._positions[sample]
        return self.shards[shard][row]

    def take(self, samples: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """A batch.

        Args:
            samples: From 0 to N - 1, in any order.
            device: Where it is needed; a GPU is not waited for.

        Returns:
            (images [N, C, S, S] as stored, labels int64 [N]), on the device.
        """
        chosen = torch.tensor(list(samples), dtype=torch.int64)
        labels = self.labels[to_device(chosen, self.labels.device)]
        if self.shards[0].device.type != "cpu":
            rows = chosen if self.rows is None else self.rows[chosen]
            return self.shards[0][to_device(rows, self.shards[0].device)].to(device), labels.to(device)
        first = self.shards[0]
        images = empty_batch((len(chosen), *first.shape[1:]), first.dtype, first.device)
        for row, sample in enumerate(samples):
            images[row].copy_(self.image(sample))
        return images.to(device, non_blocking=True), to_device(labels, device)

    def to(self, device: torch.device) -> LabelledImages:
        """The same with images and labels on a device, as one tensor."""
        first = self.shards[0]
        images = torch.empty((sum(map(len, self.shards)), *first.shape[1:]), dtype=first.dtype, device=device)
        start = 0
        for shard in self.shards:
            images[start : start + len(shard)].copy_(shard)
            start += len(shard)
        return LabelledImages(images, self.labels.to(device), self.rows, self.moments)


def fit_rule(train: LabelledImages, rule: ImagePreprocessing) -> ImagePreprocessing:
    """Set a rule's mean and standard deviation to those over all of a training set's pixels."""
    measured = train.moments
    if measured is None:
        measured = torch.stack([moments(train.image(sample)) for sample in range(len(train))])
    return fit_moments(rule, measured)


def list_images(folder: Path, channel: str, classes: list[str]) -> list[tuple[Path, int]]:
    """The images of a channel with their class indices, sorted.

    Args:
        folder: Holds `<class>/<image>`.
        channel: Named in errors.
        classes: By index, as in split.json.

    Raises:
        DataError: A folder is none of the classes, or there is no image at all.
    """
    labelled: list[tuple[Path, int]] = []
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        images = sorted(p for p in sub.iterdir() if find_suffix(p.name, IMAGE_SUFFIXES) and not p.name.startswith("."))
        if images and sub.name not in classes:
            raise DataError(f"channel {channel}: folder {sub.name} is no class of split.json; split the data again")
        labelled += [(path, classes.index(sub.name)) for path in images]
    if not labelled:
        files = f"<class>/<image>{usual_suffixes('classification')}"
        raise DataError(f"channel {channel}: contains no image; give a folder with {files}")
    return labelled


def measure_files(paths: Sequence[Path], num_workers: int = 0) -> ImageStatistics:
    """Measure the images of a split that was written before split.json contained their statistics.

    Args:
        paths: At least one.
        num_workers: Threads; see `count_workers`.

    Raises:
        DataError: A file is no readable image; the message names it.
    """
    return summarise(in_threads(lambda path: measure_image(read_image(path)), paths, num_workers))


def load_labelled(
    files: Sequence[tuple[Path, int]],
    rule: ImagePreprocessing,
    cache: Cache,
    share: Share = ALONE,
    barrier: Callable[[], None] = no_barrier,
    num_workers: int = 0,
) -> LabelledImages:
    """Decode and prepare a split's images, or map them where that was done before.

    Args:
        files: At least one, with class indices; the same on all processes.
        rule: Size, channels and range of values; mean and standard deviation aren't applied.
        cache: Keeps the prepared images.
        share: Which part of the work this process does; the others of the host do theirs.
        barrier: Waits for them.
        num_workers: Threads; see `count_workers`.

    Returns:
        The images on the CPU, in the order of their content.

    Raises:
        DataError: A file is no readable image; the message names it.
    """
    num_workers = count_workers(num_workers, share)
    digests = list(in_threads(_digest_or_nothing, [path for path, _ in files], num_workers))
    groups = _group(digests, 2 * rule.channels * rule.image_size**2)
    items = [_item(group, files, digests, rule, num_workers) for group in groups]
    entries = prepare_items(items, cache, num_workers=1, share=share, barrier=barrier, title="images")
    content = torch.cat([entry["digests"] for entry in entries]).numpy()
    labels = torch.tensor([files[k][1] for group in groups for k in group])
    rows = torch.tensor(sorted(range(len(files)), key=lambda row: content[row].tobytes()))
    measured = torch.cat([entry["moments"] for entry in entries])
    return LabelledImages([entry["images"] for entry in entries], labels[rows], rows, measured[rows])


def _digest_or_nothing(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return ""  # reading it says what is wrong


def _group(digests: Sequence[str], image_bytes: int) -> list[list[int]]:
    """Divide images into shards by the beginning of their digests; names play no part."""
    bits = 0
    while len(digests) * image_bytes / 2**bits > SHARD_BYTES or (bits < 4 and len(digests) / 2**bits > SHARD_IMAGES):
        bits += 1
    groups: dict[int, list[int]] = {}
    for index in sorted(range(len(digests)), key=lambda k: digests[k]):
        groups.setdefault(int(digests[index][:8] or "0", 16) >> (32 - bits), []).append(index)
    return [groups[prefix] for prefix in sorted(groups)]


def _item(
    group: Sequence[int],
    files: Sequence[tuple[Path, int]],
    digests: Sequence[str],
    rule: ImagePreprocessing,
    num_workers: int,
) -> Item:
    size, channels = rule.image_size, rule.channels
    group_digests = [digests[k] for k in group]
    parts = ("images", PREPARATION, size, channels, rule.value_range, group_digests)
    key = make_key(*parts) if all(group_digests) else None
    paths, shape = [files[k][0] for k in group], (len(group), channels, size, size)
    expected = {
        "images": (torch.float16, shape),
        "digests": (torch.uint8, (len(group), 32)),
        "moments": (torch.float64, (len(group), 2)),
    }

    def check(tensors: Mapping[str, Tensor]) -> bool:
        return {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()} == expected

    return Item(key, lambda: _pack(paths, shape, rule, num_workers), check)


def _pack(
    paths: Sequence[Path], shape: tuple[int, ...], rule: ImagePreprocessing, num_workers: int
) -> dict[str, Tensor]:
    images = torch.empty(shape, dtype=torch.float16)
    content, measured = torch.empty(len(paths), 32, dtype=torch.uint8), torch.empty(len(paths), 2, dtype=torch.float64)

    def load(index: int) -> None:
        images[index] = prepare(read_image(paths[index]), rule.image_size, rule.channels, rule.value_range)
        digest = hashlib.sha256(images[index].numpy().tobytes()).digest()
        content[index] = torch.frombuffer(bytearray(digest), dtype=torch.uint8)
        measured[index] = moments(images[index])

    for _ in in_threads(load, range(len(paths)), num_workers):
        pass
    return {"images": images, "digests": content, "moments": measured}

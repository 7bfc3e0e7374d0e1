"""Assign whole patients to splits: stratified, seeded, and stable if a previous split is current. Torch-free."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from medloop.documents.split import SPLITS, Split
from medloop.errors import DataError, SettingError

Fractions = Mapping[Split, float]
Numbers = NDArray[np.int64]
Patients = NDArray[np.intp]
"""Numbers of patients."""
Splits = NDArray[np.int8]
"""Positions in SPLITS."""
NO_SPLIT = -1


def quotas(num_patients: int, fractions: Fractions) -> dict[Split, int]:
    """Share patients among splits by largest remainder, with at least one in each.

    Args:
        num_patients: At least as many as there are splits.
        fractions: Positive; they need not add up to 1.

    Raises:
        DataError: Fewer patients than splits.
        SettingError: A fraction is not positive.
    """
    names = list(fractions)
    if num_patients < len(names):
        raise DataError(f"data set: has {num_patients} patients for {len(names)} splits; add patients")
    shares = np.array([fractions[name] for name in names], dtype=np.float64)
    if not (np.isfinite(shares).all() and (shares > 0).all()):
        raise SettingError("train, val and test must each be above 0; correct the fractions")
    exact = shares / shares.sum() * num_patients
    counts = np.floor(exact + 1e-9).astype(int)
    # Stable sort: of equal remainders the earlier split wins.
    for index in np.argsort(counts - exact, kind="stable")[: num_patients - counts.sum()]:
        counts[index] += 1
    while (counts == 0).any():
        counts[np.argmax(counts)] -= 1
        counts[np.argmin(counts)] += 1
    return dict(zip(names, counts.tolist(), strict=True))


def seeded_order(seed: int, keys: Iterable[str]) -> Patients:
    """Order patients by their keys, hashed with the seed.

    Args:
        seed: Changes the order.
        keys: A text of each patient that doesn't change with names or pseudonyms: a digest of the images.

    Returns:
        Numbers of the patients [P], which are their positions in `keys`.
    """
    hashed = b"".join(hashlib.sha256(f"{seed}:{key}".encode()).digest() for key in keys)
    order: Patients = np.argsort(np.frombuffer(hashed, "S32") if hashed else np.empty(0), kind="stable")
    return order


def assign(strata: Numbers, fractions: Fractions, order: Patients, previous: Splits | None = None) -> Splits:
    """Give each patient a split.

    The quotas over all patients are met exactly unless `previous` prevents it. Within them each stratum gets
    its own share: first the whole part, then patient by patient where a stratum lacks most of a split that still has
    room. Of a stratum's patients the next is the first in the order.

    Args:
        strata: Number of each patient's class profile, in the order of the profiles' names [P].
        fractions: Of the splits that take part.
        order: Numbers of all patients.
        previous: Split of patients seen before, who keep it [P]; NO_SPLIT for the others.

    Returns:
        Position of each patient's split in SPLITS [P].

    Raises:
        DataError: Fewer patients than splits, or a split stays empty because of `previous`.
    """
    columns = [SPLITS.index(name) for name in fractions]
    assigned = np.full(len(strata), NO_SPLIT, np.int8) if previous is None else previous.copy()
    assigned[~np.isin(assigned, columns)] = NO_SPLIT
    room = np.array(list(quotas(len(strata), fractions).values()))
    sizes = np.bincount(strata).astype(np.float64)
    have = np.stack([np.bincount(strata[assigned == split], minlength=len(sizes)) for split in columns], axis=1)
    waiting = order[assigned[order] == NO_SPLIT]
    waiting = waiting[np.argsort(strata[waiting], kind="stable")]
    groups = np.split(waiting, np.cumsum(np.bincount(strata[waiting], minlength=len(sizes)))[:-1])
    shares = np.array(list(fractions.values()), dtype=np.float64)
    due, left, taken = np.outer(sizes, shares / shares.sum()), [len(group) for group in groups], [0] * len(groups)
    for kind, column, run in _fill(left, due, have.astype(np.float64), room - have.sum(axis=0)):
        assigned[groups[kind][taken[kind] : taken[kind] + run]] = columns[column]
        taken[kind] += run
    empty = [name for name, split in zip(fractions, columns, strict=True) if not (assigned == split).any()]
    if empty:
        raise DataError(f"previous: leaves no patient for {empty[0]}; split without previous")
    return assigned


def _fill(
    left: list[int], shares_of_strata: NDArray[np.float64], have: NDArray[np.float64], room: NDArray[np.float64]
) -> Iterator[tuple[int, int, int]]:
    """Assign the waiting patients, one after another, where a stratum lacks most of a split with room.

    Shares are exact: of each stratum (rows) in each split (columns).

    Args:
        left: Patients of each stratum.
        shares_of_strata: Those that it should have.
        have: Those that it has.
        room: Of each split.

    Yields:
        Stratum, split, and the number of the stratum's next patients that go there.
    """
    # One entry for each stratum and split; of equal ones the first stratum, then the first split, comes first.
    heap = [(-float(lack), *position) for position, lack in np.ndenumerate(shares_of_strata - have)]
    heapify(heap)
    num_left = sum(left)
    while num_left:
        _, kind, split = heappop(heap)
        if not left[kind] or room[split] <= 0:  # neither comes back
            continue
        # A run of whole patients at once: the next step would choose the same split.
        lack = shares_of_strata[kind, split] - have[kind, split]
        run = int(max(1, min(np.floor(lack), left[kind], room[split])))
        yield kind, split, run
        have[kind, split] += run
        room[split] -= run
        left[kind] -= run
        num_left -= run
        heappush(heap, (float(have[kind, split] - shares_of_strata[kind, split]), kind, split))


def complete(current: Sequence[NDArray[np.bool_]], strata: Numbers, fractions: Fractions, order: Patients) -> Splits:
    """Take the missing splits of a data set that was already split, out of its training patients.

    Args:
        current: For each of SPLITS, True for the patients with cases in it [P].
        strata: As in `assign`.
        fractions: Of all three splits.
        order: As in `assign`.

    Returns:
        The new split of each patient that is only in train; NO_SPLIT for the others, and where no split is missing.
    """
    missing = [split for split, has in zip(SPLITS, current, strict=True) if not has.any()]
    moved = np.full(len(strata), NO_SPLIT, np.int8)
    if not missing:
        return moved
    movable = current[SPLITS.index("train")] & (np.sum(current, axis=0) == 1)
    shares: dict[Split, float] = {split: fractions[split] for split in SPLITS if split == "train" or split in missing}
    position = np.cumsum(movable) - 1
    moved[movable] = assign(strata[movable], shares, position[order[movable[order]]])
    return moved

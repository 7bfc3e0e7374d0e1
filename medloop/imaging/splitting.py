"""Assign whole patients to splits: stratified, seeded, and stable if a previous split is current. Torch-free."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from medloop.documents.split import SPLITS, Split
from medloop.errors import DataError, SettingError

Fractions = Mapping[Split, float]


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


def seeded_order(seed: int, order_keys: Mapping[str, str]) -> Callable[[str], tuple[str, str]]:
    """Make the sort key of patients: the order key, hashed with the seed."""
    return lambda patient: (hashlib.sha256(f"{seed}:{order_keys[patient]}".encode()).hexdigest(), patient)


def assign(
    strata: Mapping[str, str],
    fractions: Fractions,
    seed: int,
    order_keys: Mapping[str, str],
    previous: Mapping[str, Split] | None = None,
) -> dict[str, Split]:
    """Give each patient a split.

    The quotas over all patients are met exactly unless `previous` prevents it. Within them each stratum gets
    its own share: first the whole part, then patient by patient where a stratum lacks most of a split that still has
    room. Of a stratum's patients the next is the one whose order key, hashed with the seed, is smallest.

    Args:
        strata: Class profile of each patient, by pseudonym.
        fractions: Of the splits that take part.
        seed: Changes the order of patients, never the number in each split.
        order_keys: A text of each patient that doesn't change with names or keys: a digest of the images.
        previous: Split of patients seen before: they keep it.

    Raises:
        DataError: Fewer patients than splits, or a split stays empty because of `previous`.
    """
    order = seeded_order(seed, order_keys)
    names = list(fractions)
    assigned = {patient: split for patient, split in (previous or {}).items() if patient in strata and split in names}
    room = np.array(list(quotas(len(strata), fractions).values()))
    kinds = sorted(set(strata.values()))
    row = {kind: index for index, kind in enumerate(kinds)}
    have = np.zeros((len(kinds), len(names)))
    for patient, split in assigned.items():
        have[row[strata[patient]], names.index(split)] += 1
    waiting: list[list[str]] = [[] for _ in kinds]
    # Last first, as the next is popped from the end.
    for patient in sorted(strata.keys() - assigned.keys(), key=order, reverse=True):
        waiting[row[strata[patient]]].append(patient)
    counts, shares = Counter(strata.values()), np.array(list(fractions.values()), dtype=np.float64)
    sizes = np.array([counts[kind] for kind in kinds], dtype=np.float64)
    assigned |= _fill(names, waiting, np.outer(sizes, shares / shares.sum()), have, room - have.sum(axis=0))
    empty = [name for name in names if name not in assigned.values()]
    if empty:
        raise DataError(f"previous: leaves no patient for {empty[0]}; split without previous")
    return {patient: assigned[patient] for patient in strata}


def _fill(
    names: Sequence[Split],
    waiting: list[list[str]],
    shares_of_strata: NDArray[np.float64],
    have: NDArray[np.float64],
    room: NDArray[np.float64],
) -> dict[str, Split]:
    """Assign the waiting patients, one after another, where a stratum lacks most of a split with room.

    Shares are exact: of each stratum (rows) in each split (columns).
    """
    assigned: dict[str, Split] = {}
    left = [len(patients) for patients in waiting]
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
        for _ in range(run):
            assigned[waiting[kind].pop()] = names[split]
        have[kind, split] += run
        room[split] -= run
        left[kind] -= run
        num_left -= run
        heappush(heap, (float(have[kind, split] - shares_of_strata[kind, split]), kind, split))
    return assigned


def complete(
    current: Mapping[str, set[Split]],
    strata: Mapping[str, str],
    fractions: Fractions,
    seed: int,
    order_keys: Mapping[str, str],
) -> dict[str, Split]:
    """Take the missing splits of a data set that was already split, out of its training patients.

    Args:
        current: Splits of each patient's cases.
        strata: Class profile of each patient.
        fractions: Of all three splits.
        seed: As in `assign`.
        order_keys: As in `assign`.

    Returns:
        The new split of each patient that is only in train; empty where no split is missing.
    """
    present = {split for splits in current.values() for split in splits}
    missing = [split for split in SPLITS if split not in present]
    if not missing:
        return {}
    movable = {patient: strata[patient] for patient, splits in current.items() if splits == {"train"}}
    shares: dict[Split, float] = {split: fractions[split] for split in SPLITS if split == "train" or split in missing}
    return assign(movable, shares, seed, order_keys)

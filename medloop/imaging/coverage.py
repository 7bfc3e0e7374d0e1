"""Coverage of the splits: each class, or structure, in train, val and test as far as the patients allow. Torch-free.

Training learns what is in train, chooses the best epoch on val and is scored on test. A class that train lacks can't be
learnt; a val without foreground (or with one class only) has no score, and training refuses it; a test without has no
score either, and no version passes the gate.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from medloop.documents.split import SPLITS, Split, Task
from medloop.imaging.splitting import NO_SPLIT, Patients, Splits

Integers = NDArray[np.int64]
Kinds = frozenset[str]
"""Classes of a patient's images; structures in its labels, without the background."""
Unmet = tuple[int, int, int]
"""In order of weight: what training lacks; what the score lacks; missing classes of splits that could have them."""
MIN_KINDS: dict[Task, int] = {"classification": 2, "segmentation": 1}
"""Classes (structures) without which a split has no score: AUROC needs two classes, Dice some foreground."""
_NUM_GROUPS = (8, 64)
"""Groups of patients that an exchange chooses from, in each direction; more if it finds none among a few."""


@dataclass(frozen=True)
class Needs:
    """The classes that each split needs.

    Attributes:
        task: Decides how many classes give a score.
        splits: Those that patients are assigned to.
    """

    task: Task
    splits: Sequence[Split]

    def unmet(self, counts: Integers) -> Unmet:
        """Count what is missing.

        Args:
            counts: [K, S] patients of each class in each split; each class has at least one.
        """
        present = counts > 0
        of_split = {split: present[:, column] for column, split in enumerate(self.splits)}
        enough = min(MIN_KINDS[self.task], len(counts))
        lack = {split: max(0, enough - int(column.sum())) for split, column in of_split.items()}
        unlearnt = int((~of_split["train"]).sum()) if "train" in of_split else 0
        common = counts.sum(axis=1) >= len(self.splits)
        return unlearnt + lack.get("val", 0), lack.get("test", 0), int((~present[common]).sum())


def cover(
    assigned: Splits,
    profiles: Integers,
    kinds: Sequence[Kinds],
    needs: Needs,
    order: Patients,
    fixed: NDArray[np.bool_] | None = None,
) -> Splits:
    """Exchange patients between splits until no exchange brings a missing class into one.

    An assignment in which nothing is missing is returned unchanged. Two patients change places where that is enough, so
    that the splits keep their sizes; else one patient moves. Each step lowers `Needs.unmet`, so the steps end.

    Args:
        assigned: Position of each patient's split in SPLITS; NO_SPLIT for those that don't take part [P].
        profiles: Position of each patient's classes in `kinds` [P].
        kinds: Classes that patients have.
        needs: What each split needs.
        order: Numbers of all patients: neither names nor the order of files decide.
        fixed: True for patients that keep their splits [P].
    """
    board = _Board(assigned, profiles, kinds, needs)
    if any(needs.unmet(board.counts)):
        movable = assigned != NO_SPLIT if fixed is None else (assigned != NO_SPLIT) & ~fixed
        board.allow(order[movable[order]])
        while exchange := board.best_exchange():
            board.make(exchange)
    return board.assigned


@dataclass(frozen=True)
class _Group:
    """Patients of one split with the same classes."""

    split: Split
    kinds: Kinds


@dataclass(frozen=True)
class _Exchange:
    """A patient of one group changes places with a patient of another; without another it moves to `target`."""

    giver: _Group
    taker: _Group | None
    target: Split


class _Board:
    """An assignment with its counts, and the exchanges that improve it."""

    def __init__(self, assigned: Splits, profiles: Integers, kinds: Sequence[Kinds], needs: Needs) -> None:
        self.assigned, self.profiles, self.kinds, self.needs = assigned.copy(), profiles, kinds, needs
        taken = assigned != NO_SPLIT
        pairs, sizes = np.unique(profiles[taken] * len(SPLITS) + assigned[taken], return_counts=True)
        with_sizes = zip(pairs.tolist(), sizes.tolist(), strict=True)
        groups = [(self._group(*divmod(pair, len(SPLITS))), size) for pair, size in with_sizes]
        names = frozenset[str]().union(*(group.kinds for group, _ in groups))
        self.rows = {kind: row for row, kind in enumerate(sorted(names))}
        self.sizes = Counter[Split]()
        self.counts = np.zeros((len(self.rows), len(needs.splits)), dtype=np.int64)
        for group, size in groups:
            self.sizes[group.split] += size
            self.counts += size * self._counts_of(group.kinds, group.split)
        self.movable: dict[_Group, list[int]] = defaultdict(list)

    def _group(self, profile: int, split: int) -> _Group:
        return _Group(SPLITS[split], self.kinds[profile])

    def allow(self, patients: Patients) -> None:
        """Let patients change places, the first ones first."""
        # Last first, as the next is popped from the end.
        for patient in reversed(patients.tolist()):
            self.movable[self._group(int(self.profiles[patient]), int(self.assigned[patient]))].append(patient)

    def _counts_of(self, kinds: Kinds, split: Split) -> Integers:
        """One patient's counts."""
        counts = np.zeros_like(self.counts)
        counts[[self.rows[kind] for kind in kinds], self.needs.splits.index(split)] = 1
        return counts

    def best_exchange(self) -> _Exchange | None:
        """Find the most helpful exchange, one that keeps the sizes of the splits before others; None if none helps."""
        now = self.needs.unmet(self.counts)
        for num_groups in _NUM_GROUPS if any(now) else ():
            exchanges = list(self._exchanges(num_groups))
            after = [self.needs.unmet(self._counts_after(exchange)) for exchange in exchanges]
            helpful = [number for number in range(len(exchanges)) if after[number] < now]
            if helpful:
                return exchanges[min(helpful, key=lambda n: (exchanges[n].taker is None, after[n], n))]
        return None

    def _exchanges(self, num_groups: int) -> Iterator[_Exchange]:
        """Exchanges that bring a patient into a split that lacks one of its classes; large groups give first."""
        groups = [group for group, patients in self.movable.items() if patients]
        groups.sort(key=lambda g: (-len(self.movable[g]), self.needs.splits.index(g.split), sorted(g.kinds)))
        for column, target in enumerate(self.needs.splits):
            absent = {kind for kind, row in self.rows.items() if not self.counts[row, column]}
            givers = (group for group in groups if group.split != target and group.kinds & absent)
            takers = sorted((group for group in groups if group.split == target), key=lambda group: len(group.kinds))
            for giver in islice(givers, num_groups):
                yield from (_Exchange(giver, taker, target) for taker in takers[:num_groups])
                if self.sizes[giver.split] > 1:
                    yield _Exchange(giver, None, target)

    def _counts_after(self, exchange: _Exchange) -> Integers:
        giver, taker, target = exchange.giver, exchange.taker, exchange.target
        counts = self.counts - self._counts_of(giver.kinds, giver.split) + self._counts_of(giver.kinds, target)
        if taker:
            counts += self._counts_of(taker.kinds, giver.split) - self._counts_of(taker.kinds, target)
        return counts

    def make(self, exchange: _Exchange) -> None:
        """Carry an exchange out; the patients that change places stay movable."""
        self.counts = self._counts_after(exchange)
        self._move(exchange.giver, exchange.target)
        if exchange.taker:
            self._move(exchange.taker, exchange.giver.split)

    def _move(self, group: _Group, target: Split) -> None:
        patient = self.movable[group].pop()
        self.movable[_Group(target, group.kinds)].insert(0, patient)
        self.assigned[patient] = SPLITS.index(target)
        self.sizes[group.split] -= 1
        self.sizes[target] += 1

"""Coverage: exchanges bring every class into every split that can have it, and leave a covered split unchanged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from medloop.documents.split import SPLITS, Split, Task
from medloop.imaging.coverage import Needs, cover
from medloop.imaging.splitting import Patients, Splits, assign, seeded_order

FRACTIONS: dict[Split, float] = {"train": 0.7, "val": 0.2, "test": 0.1}


def make(groups: Mapping[str, int]) -> dict[str, frozenset[str]]:
    """Patients by classes: `{"a": 3, "a+b": 1, "": 4}`; "" has none."""
    return {
        f"{name}-{number}": frozenset(filter(None, name.split("+")))
        for name, count in groups.items()
        for number in range(count)
    }


def split(kinds: Mapping[str, frozenset[str]], task: Task, seed: int = 0) -> tuple[dict[str, Split], dict[str, Split]]:
    """The assignment by strata, and the covered one."""
    order = seeded_order(seed, kinds)
    strata = ["+".join(sorted(patient_kinds)) for patient_kinds in kinds.values()]
    names = sorted(set(strata))
    assigned = assign(np.array([names.index(name) for name in strata]), FRACTIONS, order)
    return by_name(kinds, assigned), covered_from(kinds, assigned, Needs(task, SPLITS), order)


def by_name(kinds: Mapping[str, frozenset[str]], assigned: Splits) -> dict[str, Split]:
    """The split of each patient."""
    return {name: SPLITS[number] for name, number in zip(kinds, assigned, strict=True)}


def covered_from(
    kinds: Mapping[str, frozenset[str]],
    assigned: Splits,
    needs: Needs,
    order: Patients,
    fixed: NDArray[np.bool_] | None = None,
) -> dict[str, Split]:
    """The covered assignment."""
    profiles = list(dict.fromkeys(kinds.values()))
    numbers = np.array([profiles.index(patient_kinds) for patient_kinds in kinds.values()])
    return by_name(kinds, cover(assigned, numbers, profiles, needs, order, fixed))


def spread(assigned: Mapping[str, Split], kinds: Mapping[str, frozenset[str]], kind: str) -> Counter[Split]:
    """Number of patients of a class in each split."""
    return Counter(assigned[name] for name, patient_kinds in kinds.items() if kind in patient_kinds)


@pytest.mark.parametrize(
    ("task", "groups"),
    [
        ("segmentation", {"lesion": 4, "": 4}),
        ("segmentation", {"lesion": 5, "": 10}),
        ("segmentation", {"lesion": 3, "": 40}),
        ("segmentation", {"lesion": 3, "lesion+cyst": 3, "": 20}),
        ("classification", {"a": 4, "b": 4, "c": 4}),
        ("classification", {"a": 96, "b": 3}),
        ("classification", {"a": 5, "b": 5}),
        ("classification", {"a": 4, "b": 4, "c": 4, "d": 4, "e": 4}),
        ("classification", {f"kind {number}": 5 for number in range(30)}),
        ("segmentation", {f"s{first}+s{first + 1}+s{first + 7}": 3 for first in range(20)}),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_three_patients_is_in_every_split(task: Task, groups: dict[str, int], seed: int) -> None:
    """Three patients with a class or structure suffice for one in each split."""
    kinds = make(groups)
    _, covered = split(kinds, task, seed)
    for kind in frozenset[str]().union(*kinds.values()):
        assert set(spread(covered, kinds, kind)) == set(SPLITS), kind


@pytest.mark.parametrize(("groups", "sizes"), [({"lesion": 5, "": 10}, (11, 3, 1)), ({"a": 96, "b": 4}, (70, 20, 10))])
def test_an_exchange_keeps_the_sizes(groups: dict[str, int], sizes: tuple[int, int, int]) -> None:
    """Where two patients can change places, no split grows."""
    _, covered = split(make(groups), "segmentation")
    assert tuple(Counter(covered.values())[name] for name in SPLITS) == sizes


def test_training_is_served_first() -> None:
    """Two patients with foreground: one trains, one validates; a single one trains."""
    for num, expected in ((2, {"train": 1, "val": 1}), (1, {"train": 1})):
        kinds = make({"lesion": num, "": 8})
        for seed in range(10):
            _, covered = split(kinds, "segmentation", seed)
            assert spread(covered, kinds, "lesion") == Counter(expected)


def test_fixed_patients_keep_their_splits() -> None:
    """Patients of an earlier split stay; only the others are exchanged."""
    kinds = make({"lesion": 6, "": 6})
    before: dict[str, Split] = {name: "train" for name in kinds} | {"-0": "val", "-1": "test"}
    fixed = [name for name in kinds if name not in ("lesion-4", "lesion-5")]
    assigned = np.array([SPLITS.index(split) for split in before.values()], np.int8)
    is_fixed = np.array([name in fixed for name in kinds])
    order = np.array([list(kinds).index(name) for name in sorted(kinds)])
    covered = covered_from(kinds, assigned, Needs("segmentation", SPLITS), order, is_fixed)
    assert {name: covered[name] for name in fixed} == {name: before[name] for name in fixed}
    assert {covered["lesion-4"], covered["lesion-5"]} == {"val", "test"}


@pytest.mark.slow
@given(
    st.dictionaries(st.sampled_from(["", "a", "b", "c", "a+b", "b+c", "a+b+c"]), st.integers(1, 12), min_size=1),
    st.sampled_from(["classification", "segmentation"]),
    st.integers(0, 3),
)
def test_nothing_is_lost(groups: dict[str, int], task: Task, seed: int) -> None:
    """A covered assignment is unchanged; another has less unmet, no empty split, and is the same each time."""
    kinds = make(groups)
    if len(kinds) < 3:
        return
    before, covered = split(kinds, task, seed)
    names = sorted(frozenset[str]().union(*kinds.values()))

    def missing(assigned: Mapping[str, Split]) -> int:
        return sum(split not in spread(assigned, kinds, kind) for kind in names for split in SPLITS)

    assert covered.keys() == before.keys()
    assert set(covered.values()) == set(SPLITS)
    assert split(kinds, task, seed)[1] == covered
    assert missing(before) or covered == before
    in_train = [kind for kind in names if "train" in spread(before, kinds, kind)]
    assert all("train" in spread(covered, kinds, kind) for kind in in_train)

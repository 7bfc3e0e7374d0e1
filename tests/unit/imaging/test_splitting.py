"""The split: properties that hold for any patients, strata, fractions and seeds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medloop.documents.split import SPLITS, Split
from medloop.errors import DataError, SettingError
from medloop.imaging.splitting import NO_SPLIT, assign, complete, quotas, seeded_order

FRACTIONS: dict[Split, float] = {"train": 0.7, "val": 0.2, "test": 0.1}
fractions = st.tuples(*[st.floats(0.05, 1)] * 3).map(lambda shares: dict(zip(SPLITS, shares, strict=True)))
worlds = st.lists(st.sampled_from("abc"), min_size=3, max_size=60).map(
    lambda kinds: {f"p{index}": kind for index, kind in enumerate(kinds)}
)


def split(strata: dict[str, str], shares: dict[Split, float], seed: int = 0, **previous: Split) -> dict[str, Split]:
    """Assign with the patients' own names as keys of the order."""
    before = np.array([SPLITS.index(previous[name]) if name in previous else NO_SPLIT for name in strata], np.int8)
    assigned = assign(numbers(strata), shares, seeded_order(seed, strata), before)
    return {name: SPLITS[number] for name, number in zip(strata, assigned, strict=True)}


def numbers(strata: dict[str, str]) -> NDArray[np.int64]:
    """The strata in the order of their names."""
    names = sorted(set(strata.values()))
    return np.array([names.index(name) for name in strata.values()])


@given(st.integers(3, 500), fractions)
def test_quotas_are_rounded_shares(num_patients: int, shares: dict[Split, float]) -> None:
    """They add up, none is 0, and none is a patient or more from its share but to fill an empty split."""
    counts = quotas(num_patients, shares)

    assert sum(counts.values()) == num_patients
    assert min(counts.values()) >= 1
    total = sum(shares.values())
    exact = {name: share / total * num_patients for name, share in shares.items()}
    if min(exact.values()) >= 1:
        assert all(abs(counts[name] - exact[name]) < 1 for name in shares)


def test_quotas_of_the_default() -> None:
    """70/20/10 of 16 patients is 11/3/2; of three, one each; 27 give 19/5/3."""
    assert quotas(16, FRACTIONS) == {"train": 11, "val": 3, "test": 2}
    assert quotas(3, FRACTIONS) == {"train": 1, "val": 1, "test": 1}
    assert quotas(27, FRACTIONS) == {"train": 19, "val": 5, "test": 3}


@given(worlds, fractions, st.integers(0, 5))
@settings(deadline=None)
def test_everybody_has_one_place_and_quotas_hold(strata: dict[str, str], shares: dict[Split, float], seed: int) -> None:
    """Every patient is placed once, quotas are exact, and the same seed places them again alike, in any order."""
    assigned = split(strata, shares, seed)

    assert assigned.keys() == strata.keys()
    assert dict(Counter(assigned.values())) == quotas(len(strata), shares)
    assert split(dict(reversed(strata.items())), shares, seed) == assigned


def test_strata_are_shared_out() -> None:
    """Two classes of 100 and 20 patients: each split has them in the same proportion."""
    strata = {f"a{i}": "a" for i in range(100)} | {f"b{i}": "b" for i in range(20)}
    counts = Counter((strata[name], name_of_split) for name, name_of_split in split(strata, FRACTIONS).items())

    assert counts == {
        ("a", "train"): 70, ("a", "val"): 20, ("a", "test"): 10,
        ("b", "train"): 14, ("b", "val"): 4, ("b", "test"): 2,
    }  # fmt: skip


def test_seed_changes_who_not_how_many() -> None:
    """Two seeds: the same counts, other patients."""
    strata = {f"p{i}": "ab"[i % 2] for i in range(40)}
    first, second = split(strata, FRACTIONS, 0), split(strata, FRACTIONS, 1)

    assert first != second
    assert Counter(first.values()) == Counter(second.values())


@pytest.mark.slow
@given(worlds, worlds, fractions)
@settings(deadline=None)
def test_known_patients_keep_their_place(
    strata: dict[str, str], more: dict[str, str], shares: dict[Split, float]
) -> None:
    """New patients join, known ones stay for any new patients; no split is empty."""
    before = split(strata, shares)
    grown = strata | {f"new {name}": kind for name, kind in more.items()}
    after = split(grown, shares, 7, **before)

    assert {name: after[name] for name in strata} == before
    assert set(after.values()) == set(SPLITS)


def test_new_patients_go_where_their_stratum_lacks_most() -> None:
    """A previous split without b in test: the next b goes there before another goes to train."""
    strata = {f"a{i}": "a" for i in range(16)} | {f"b{i}": "b" for i in range(10)}
    previous: dict[str, Split] = {f"a{i}": "train" for i in range(12)}
    previous |= {"a12": "val", "a13": "val", "a14": "val", "a15": "test"}
    previous |= {f"b{i}": "train" for i in range(7)}

    assigned = split(strata, FRACTIONS, 0, **previous)
    assert sorted(assigned[f"b{i}"] for i in range(7, 10)) == ["test", "val", "val"]


def test_a_split_that_previous_leaves_empty() -> None:
    """Test patients are gone and none is new: an error, instead of an empty test set."""
    strata = dict.fromkeys("abcd", "x")
    with pytest.raises(DataError, match="leaves no patient for test"):
        split(strata, FRACTIONS, 0, a="train", b="train", c="train", d="val")


def test_too_few_patients_and_odd_fractions() -> None:
    """Two patients, or a fraction of nothing, are refused."""
    with pytest.raises(DataError, match="2 patients for 3 splits"):
        split(dict.fromkeys("ab", "x"), FRACTIONS)
    with pytest.raises(SettingError, match="above 0"):
        quotas(5, {"train": 1, "val": 0, "test": 0.5})


def test_missing_splits_come_out_of_train() -> None:
    """Ready train and test folders: val is carved out of patients who are in train alone."""
    current: dict[str, set[Split]] = {f"p{i}": {"train"} for i in range(9)}
    current |= {"q": {"test"}, "both": {"train", "test"}}

    def moved(current: dict[str, set[Split]]) -> Counter[Split]:
        has = [np.array([split in splits for splits in current.values()]) for split in SPLITS]
        order = seeded_order(0, current)
        splits = complete(has, np.zeros(len(current), np.int64), FRACTIONS, order)
        assert (splits[9:] == NO_SPLIT).all()
        return Counter(SPLITS[number] for number in splits if number != NO_SPLIT)

    assert moved(current) == {"train": 7, "val": 2}
    assert moved(current | {"r": {"val"}}) == {}


@pytest.mark.slow
def test_as_many_strata_as_patients() -> None:
    """The time is linear: each of 20,000 patients may have a class profile of its own."""
    assigned = split({f"p{number}": f"{number}" for number in range(20_000)}, FRACTIONS)
    assert Counter(assigned.values()) == quotas(20_000, FRACTIONS)

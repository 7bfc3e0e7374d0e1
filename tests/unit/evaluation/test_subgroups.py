"""Groups of patients by their attributes."""

from __future__ import annotations

from collections import Counter

from medloop.evaluation.subgroups import group_values


def groups(values: list[str]) -> Counter[str]:
    """Patients by group."""
    return Counter(group_values({f"p{i}": value for i, value in enumerate(values)}).values())


def test_ages_make_decades() -> None:
    """Decades, if four contain all values; `not given` is a group of its own."""
    ages = [str(age) for age in range(60, 79)]
    assert groups([*ages, ""]) == {"60 to 69": 10, "70 to 79": 9, "not given": 1}


def test_other_numbers_make_quarters() -> None:
    """Quartiles of the patients, named by their ends; few distinct numbers are groups of their own."""
    assert groups([str(weight / 2) for weight in range(80, 240, 2)]) == {
        "40 to 59": 20, "60 to 79": 20, "80 to 99": 20, "100 to 119": 20,
    }  # fmt: skip
    assert groups(["1", "2", "2", "3"]) == {"1": 1, "2": 2, "3": 1}
    assert len(groups(["5"] * 90 + [str(i) for i in range(10, 20)])) <= 4


def test_many_texts() -> None:
    """The eleven most frequent, and the others together."""
    subgroups = groups([f"site {i:02d}" for i in range(15) for _ in range(20 - i)])
    assert len(subgroups) == 12
    assert subgroups["other"] == 9 + 8 + 7 + 6
    assert subgroups["site 00"] == 20
    assert "not a number" in groups(["1", "2", "3", "4", "5", "6", "not a number"])


def test_words_for_a_missing_value_are_not_given() -> None:
    """Records of earlier versions have them; they are no subgroup, and the numbers are binned without them."""
    assert groups(["F"] * 3 + ["NA", "unknown", " "]) == {"F": 3, "not given": 3}
    assert groups([*(str(age) for age in range(60, 79)), "-99"]) == {"60 to 69": 10, "70 to 79": 9, "not given": 1}

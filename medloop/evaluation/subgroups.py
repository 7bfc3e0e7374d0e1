"""The score by each value of each of the patients' attributes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from medloop.documents.evaluation import Subgroup
from medloop.documents.names import find_missing_values, normalise
from medloop.documents.split import SplitRecord
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.model_scores import ModelScores

MIN_SHOWN = 5
"""Patients of a group whose score is shown: a score of fewer could identify a patient."""
MIN_RANKED = 20
"""Patients of a group that is compared with others."""
MAX_VALUES, MAX_NUMBERS, MAX_BINS = 12, 5, 4
"""Texts, and distinct numbers, that are groups of their own; bins of more numbers."""
NOT_GIVEN, OTHER = "not given", "other"


def make_subgroups(scores: ModelScores, cases: Sequence[HeldOut], split: SplitRecord) -> list[Subgroup]:
    """Score the groups of every attribute: up to four bins of many numbers, the rarest of many texts as `other`.

    Patients without a value are no group: they are counted, without a score.
    """
    subgroups = []
    attributes = sorted({name for case in cases for name in split.patients[case.patient].attributes})
    for attribute in attributes:
        values = {case.patient: split.patients[case.patient].attributes.get(attribute, "") for case in cases}
        groups = group_values(values)
        for group in sorted(set(groups.values()), key=group_order):
            subgroups.append(_subgroup(scores, cases, (attribute, group), groups))
    return subgroups


def group_values(values: Mapping[str, str]) -> dict[str, str]:
    """Assign each patient a group by its value; an empty value, or a word for a missing one, is `not given`."""
    # Split records of earlier versions have such words.
    missing = find_missing_values({normalise(value) for value in values.values()})
    texts = {patient: value for patient, value in values.items() if normalise(value) not in missing}
    numbers = {patient: number for patient, value in texts.items() if (number := _number(value)) is not None}
    if texts and len(numbers) == len(texts) and len(set(numbers.values())) > MAX_NUMBERS:
        named = _bins(numbers)
    else:
        counts = Counter(texts.values())
        frequent = sorted(counts, key=lambda value: (-counts[value], value))
        frequent = frequent if len(frequent) <= MAX_VALUES else frequent[: MAX_VALUES - 1]
        named = {patient: value if value in frequent else OTHER for patient, value in texts.items()}
    return {patient: named.get(patient, NOT_GIVEN) for patient in values}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _bins(numbers: Mapping[str, float]) -> dict[str, str]:
    """Bin by decade if there are two to four, else by quartile of the patients; a bin is named by its ends."""
    values = np.array(list(numbers.values()))
    decades = np.floor(values / 10)
    if 2 <= len(np.unique(decades)) <= MAX_BINS and (values == np.floor(values)).all():
        return {patient: f"{10 * d:g} to {10 * d + 9:g}" for patient, d in zip(numbers, decades, strict=True)}
    edges = np.unique(np.quantile(values, [0.25, 0.5, 0.75]))
    members = np.searchsorted(edges, values, side="left")
    ends = {m: (values[members == m].min(), values[members == m].max()) for m in np.unique(members).tolist()}
    names = {m: f"{low:g}" if low == high else f"{low:g} to {high:g}" for m, (low, high) in ends.items()}
    return {patient: names[m] for patient, m in zip(numbers, members.tolist(), strict=True)}


def group_order(group: str) -> tuple[bool, float, str]:
    """Sort key: numbers by size, then texts, then `other` and `not given`."""
    number = _number(group.split(" to ")[0])
    return group in (NOT_GIVEN, OTHER), math.inf if number is None else number, group


def _subgroup(
    scores: ModelScores, cases: Sequence[HeldOut], key: tuple[str, str], groups: Mapping[str, str]
) -> Subgroup:
    attribute, group = key
    mask = np.array([groups[case.patient] == group for case in cases])
    num_patients = sum(patient_group == group for patient_group in groups.values())
    hidden = num_patients < MIN_SHOWN
    estimate = None if hidden or group == NOT_GIVEN else scores.score_of_subset(mask)
    return Subgroup(
        attribute=attribute,
        value=group,
        score=estimate.value if estimate and math.isfinite(estimate.value) else None,
        interval=estimate.interval if estimate else None,
        num_patients=num_patients,
        num_cases=int(mask.sum()),
        hidden=hidden,
        ranked=num_patients >= MIN_RANKED and group != NOT_GIVEN,
    )

"""The plan of a split: the split of every case, and what the later steps will find missing. Torch-free.

The split job carries the plan out; `medloop data check` and `medloop run` make the same plan before any job starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medloop.documents.names import normalise
from medloop.documents.quantities import Triple
from medloop.documents.split import SPLITS, Split
from medloop.documents.split_rule import (
    MEDIAN,
    MIN_CALIBRATION_CASES,
    MIN_CALIBRATION_PATIENTS,
    MIN_PATIENTS,
    Resampling,
    SplitRule,
)
from medloop.errors import DataError
from medloop.imaging.checked_cases import ByCase
from medloop.imaging.copies import describe_lookalikes
from medloop.imaging.coverage import MIN_KINDS, Kinds, Needs, cover
from medloop.imaging.network_grid import MAX_VOXELS, median_spacing, size_text, too_many_voxels
from medloop.imaging.packed import Shared
from medloop.imaging.patients import PATIENTS_FILE
from medloop.imaging.problems import Problem
from medloop.imaging.splitting import NO_SPLIT, Patients, Splits, assign, complete, seeded_order
from medloop.imaging.validation import DatasetReport

UNLIKE_SIZE = 8.0
"""Factor between the edges of voxels, on average, from which a header's unit or voxel size is probably wrong."""
MAX_TEST = 0.4
"""Largest share of the patients that a warning proposes for test."""
_ANY, _FOREGROUND = "", "\0foreground"
"""Keys next to the classes' names, which are neither."""
_MAX_NAMES = 5


@dataclass(frozen=True)
class LaterSteps:
    """Settings of training and evaluation that the data must fit.

    Attributes:
        resampling: Segmentation: the voxel size that training takes.
        floors: Classes of which a model must reach a minimum, in their normal form.
    """

    resampling: Resampling = MEDIAN
    floors: Collection[str] = ()


@dataclass(frozen=True)
class SplitPlan:
    """The split of every case.

    Attributes:
        split_of: Split by case path, in the order of the cases.
        splits: Positions of the cases' splits in SPLITS [N].
        patients: A number of each case's patient, from 0, in the order of their first cases [N].
        strata: Class profile of each patient, by number.
        problems: What a later step refuses.
        warnings: What a later step can't measure.
    """

    split_of: Mapping[str, Split] = field(default_factory=dict)
    splits: Splits = field(default_factory=lambda: np.empty(0, np.int8))
    patients: Patients = field(default_factory=lambda: np.empty(0, np.intp))
    strata: Shared[str] = field(default_factory=Shared)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def plan_split(
    report: DatasetReport,
    rule: SplitRule,
    names: ByCase[str],
    previous: Mapping[str, Split] | None = None,
    later: LaterSteps | None = None,
) -> SplitPlan:
    """Assign every usable case to a split, and find what training, evaluation and the gate will miss there.

    Args:
        report: The checked data set.
        rule: Fractions and seed.
        names: Patient of each case, as `previous` names patients; equal numbers are one patient's.
        previous: Split of patients seen before: they keep it.
        later: What training and evaluation are set to; None for their defaults.

    Returns:
        The plan; an empty one if the report's problems leave nothing to split.
    """
    if any(problem.case is None or rule.on_invalid == "fail" for problem in report.problems):
        return SplitPlan()
    patients = _Patients(report, names)
    try:
        splits = _splits_of_cases(report, rule, patients, previous)
    except DataError as error:
        return SplitPlan(problems=[Problem("", str(error).removeprefix("data set: "))])
    later = later or LaterSteps()
    findings = _Findings(report, splits, patients.numbers, later.floors, fixed=bool(previous))
    spacing = _spacing_of_network(report, splits, later.resampling)
    return SplitPlan(
        ByCase(report.cases, splits, SPLITS.__getitem__),
        splits,
        patients.numbers,
        patients.strata,
        [
            *(Problem("", message) for message in findings.problems()),
            *(_too_large(report, *spacing) if spacing else ()),
        ],
        [
            *(Problem("", message) for message in findings.warnings()),
            *(_unlike_sizes(report, *spacing) if spacing else ()),
            *describe_lookalikes(report.cases, splits, patients.numbers),
        ],
    )


class _Patients:
    """The patients of the cases.

    Attributes:
        numbers: As in `SplitPlan`.
        first: Position of each patient's first case [P].
        profiles: Each patient's classes, sorted.
    """

    def __init__(self, report: DatasetReport, names: ByCase[str]) -> None:
        self.report, self.names = report, names
        _, first, numbers = np.unique(names.numbers, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        self.numbers: Patients = rank[numbers]
        self.first: Patients = first[order]
        self.profiles = self._profiles()

    def __len__(self) -> int:
        return len(self.first)

    def _profiles(self) -> Shared[tuple[str, ...]]:
        of_cases, combinations = self.report.cases.classes(self.report.classes)
        names = of_cases[self.first].tolist()
        sets = [frozenset(names) for names in combinations]
        known = {classes: number for number, classes in reversed([*enumerate(sets)])}
        if len(self.numbers) > len(self.first):
            for patient, number in zip(self.numbers.tolist(), of_cases.tolist(), strict=True):
                if names[patient] != number:
                    union = sets[names[patient]] | sets[number]
                    names[patient] = known.setdefault(union, len(sets))
                    sets += [union] if names[patient] == len(sets) else []
        profiles = Shared[tuple[str, ...]]()
        texts = [tuple(sorted(classes)) for classes in sets]
        for number in names:
            profiles.append(texts[number], texts[number])
        return profiles

    @property
    def strata(self) -> Shared[str]:
        """The names of the profiles."""
        return self.profiles.map("+".join)

    def strata_by_name(self) -> NDArray[np.int64]:
        """Position of each patient's stratum in the order of their names [P]."""
        names = ["+".join(profile) for profile in self.profiles.distinct]
        position = {name: number for number, name in enumerate(sorted(set(names)))}
        return np.array([position[name] for name in names], np.int64)[self.profiles.numbers]

    def order(self, seed: int) -> Patients:
        """Order the patients by their images: neither names nor the key change a split."""
        images = self.report.cases.images
        rows = self.first
        if len(self.numbers) > len(rows):
            by_digest = np.argsort(images.values, kind="stable")
            rows = by_digest[np.unique(self.numbers[by_digest], return_index=True)[1]]
        return seeded_order(seed, map(images.__getitem__, rows))

    def previous_splits(self, previous: Mapping[str, Split]) -> Splits:
        """Positions in SPLITS of the splits that patients had [P]; NO_SPLIT for new ones."""
        known = (previous.get(self.names.at(row)) for row in self.first.tolist())
        return np.array([SPLITS.index(split) if split else NO_SPLIT for split in known], np.int8)


def _splits_of_cases(
    report: DatasetReport, rule: SplitRule, patients: _Patients, previous: Mapping[str, Split] | None
) -> Splits:
    """The split of each case: its folder's, or its patient's assigned one."""
    strata, order = patients.strata_by_name(), patients.order(rule.seed)
    before = patients.previous_splits(previous) if previous else None
    if report.presplit:
        current = [np.isin(np.arange(len(patients)), patients.numbers[report.splits == n]) for n in range(len(SPLITS))]
        assigned = complete(current, strata, rule.fractions, order)
    else:
        assigned = assign(strata, rule.fractions, order, before)
    if (assigned != NO_SPLIT).any():
        background = set(report.classes[:1]) if report.task == "segmentation" else set()
        kinds: list[Kinds] = [frozenset(profile) - background for profile in patients.profiles.distinct]
        needs = Needs(report.task, [SPLITS[number] for number in np.unique(assigned[assigned != NO_SPLIT])])
        fixed = None if before is None else before != NO_SPLIT
        assigned = cover(assigned, patients.profiles.numbers.astype(np.int64), kinds, needs, order, fixed)
    of_cases = assigned[patients.numbers]
    return np.where(of_cases == NO_SPLIT, report.splits, of_cases)


def _spacing_of_network(report: DatasetReport, splits: Splits, resampling: Resampling) -> tuple[Triple, str] | None:
    """The voxel size to which training resamples, and where it is from; None if it doesn't."""
    if report.task == "classification" or not resampling.resample:
        return None
    if resampling.spacing:
        return resampling.spacing, "train.hyperparameters.spacing"
    is_trained = (splits == SPLITS.index("train")).tolist()
    trained = [case.grid.spacing for case, chosen in zip(report.cases, is_trained, strict=True) if case.grid and chosen]
    return (median_spacing(trained), "the median of train") if trained else None


def _too_large(report: DatasetReport, spacing: Triple, source: str) -> Iterator[Problem]:
    """Find volumes that training or evaluation refuses, as they have too many voxels at the network's voxel size."""
    for case in report.cases:
        if case.grid and (reason := too_many_voxels(case.grid, spacing)):
            message = (
                f"its {reason} ({source}), more than {MAX_VOXELS}; if its header's voxel size (pixdim, srow_x, srow_y, "
                "srow_z) is wrong, correct it, else set train.hyperparameters.mode=resize"
            )
            yield Problem(f"{case.path}/{case.grid.file}", message)


def _unlike_sizes(report: DatasetReport, spacing: Triple, source: str) -> Iterator[Problem]:
    """Find volumes whose voxels are of another order of magnitude: a wrong unit leaves them a handful of voxels."""
    for case in report.cases:
        if not case.grid or too_many_voxels(case.grid, spacing):
            continue
        factor = (math.prod(case.grid.spacing) / math.prod(spacing)) ** (1 / 3)
        if not 1 / UNLIKE_SIZE <= factor <= UNLIKE_SIZE:
            message = (
                f"its voxels of {size_text(case.grid.spacing)} are far from {size_text(spacing)} ({source}), to which "
                "they are resampled; if its header's voxel size or unit (pixdim, srow_x, srow_y, srow_z, xyzt_units) "
                "is wrong, correct it"
            )
            yield Problem(f"{case.path}/{case.grid.file}", message)


class _Findings:
    """Classes that training, evaluation and the gate miss in the splits, with the numbers of patients."""

    def __init__(
        self,
        report: DatasetReport,
        splits: Splits,
        patients: Patients,
        floors: Collection[str],
        *,
        fixed: bool,
    ) -> None:
        self.report, self.fixed, self.floors = report, fixed, floors
        num_cases = np.bincount(splits, minlength=len(SPLITS)).tolist()
        self.num_cases = dict(zip(SPLITS, num_cases, strict=True))
        self.noun = "class" if report.task == "classification" else "structure"
        self.kinds = report.classes if report.task == "classification" else report.classes[1:]
        self.patients = _count_patients(report, splits, patients)
        """Numbers by class, and by split; "" is any class, and any foreground has its own."""

    def problems(self) -> Iterator[str]:
        """Describe what training or evaluation refuses."""
        if not self.patients[_ANY]["test"]:
            yield "every patient of test is in train or val too, and evaluation excludes such patients; give others"
        unlearnt = [kind for kind in self.kinds if not self.patients[kind]["train"]]
        # A ready-made split without a class is a problem of the folders, which the validator reports.
        if unlearnt and not (self.report.presplit and self.report.task == "classification"):
            yield f"train has no patient with {self._listed(unlearnt)}, and can't learn it; {self._fix('train')}"
        if self._lacks_score("val"):
            yield f"val has {self._shortage('val')}, and training needs {self._needed} there; {self._fix('val')}"

    def warnings(self) -> Iterator[str]:
        """Describe what has no score, or no interval."""
        if self._lacks_score("test"):
            yield (
                f"test has {self._shortage('test')}, and a score needs {self._needed} there: no version can pass the "
                f"gate; {self._fix('test')}"
            )
        for split in ("val", "test"):
            absent = [kind for kind in self.kinds if not self.patients[kind][split]]
            if absent and not self._lacks_score(split):
                yield f"{split} has no patient with {self._listed(absent)}: its score leaves it out; {self._fix(split)}"
        if missed := [
            kind for kind in self.kinds if normalise(kind) in self.floors and not self.patients[kind]["test"]
        ]:
            yield (
                f"test has no patient with {self._listed(missed)}, which evaluate.floors names: no version can pass "
                f"the gate; {self._fix('test')}"
            )
        yield from self._interval_warnings()
        if self.report.task == "classification" and not self._lacks_score("val"):
            yield from self._calibration_warnings()

    def _interval_warnings(self) -> Iterator[str]:
        num, total = (self.patients[_ANY]["test"], self.report.num_patients)
        if not self.report.identified:
            unit = "image" if self.report.task == "classification" else "subject"
            yield (
                f"has no {PATIENTS_FILE}, so each {unit} counts as its own patient: a score gets no interval, and "
                f"whether a patient is in two splits is unknown; add {PATIENTS_FILE} with the columns path and patient"
            )
        elif num < MIN_PATIENTS:
            yield (
                f"test has {num} of {total} patients, and with fewer than {MIN_PATIENTS} a score gets no interval; "
                f"{self._larger_test(total)}"
            )

    def _calibration_warnings(self) -> Iterator[str]:
        num_cases, num_patients = self.num_cases["val"], self.patients[_ANY]["val"]
        if num_cases < MIN_CALIBRATION_CASES:
            yield (
                f"val has {num_cases} images, and calibration needs {MIN_CALIBRATION_CASES}: probabilities stay as the "
                "network gives them, and no class gets a threshold; add images to val"
            )
        elif self.report.identified and num_patients < MIN_CALIBRATION_PATIENTS:
            yield (
                f"val has {num_patients} patients, and thresholds need {MIN_CALIBRATION_PATIENTS}: no class gets one; "
                "add patients to val"
            )

    def _larger_test(self, total: int) -> str:
        share = math.ceil(100 * MIN_PATIENTS / total) / 100
        if self.report.presplit or share > MAX_TEST:
            return "add patients"
        return f"add patients, or set split.test={share:g}, split.val=0.2 and split.train={0.8 - share:.2g}"

    @property
    def _needed(self) -> str:
        return "two classes" if self.report.task == "classification" else "foreground"

    def _lacks_score(self, split: Split) -> bool:
        present = sum(bool(self.patients[kind][split]) for kind in self.kinds)
        return present < MIN_KINDS[self.report.task]

    def _shortage(self, split: Split) -> str:
        if self.report.task == "segmentation":
            return f"no foreground ({self._spread(_FOREGROUND)}; {self.report.num_patients} patients in all)"
        only = next((kind for kind in self.kinds if self.patients[kind][split]), None)
        kinds = [kind for kind in self.kinds if kind != only]
        return f"{f'only class {only}, and not' if only else 'no image of'} {self._listed(kinds)}"

    def _listed(self, kinds: Sequence[str]) -> str:
        shown = ", ".join(f"{kind} ({self._spread(kind)})" for kind in kinds[:_MAX_NAMES])
        more = f" and {len(kinds) - _MAX_NAMES} more" if len(kinds) > _MAX_NAMES else ""
        return f"{self.noun} {shown}{more}"

    def _spread(self, kind: str) -> str:
        return ", ".join(f"{split} {self.patients[kind][split]}" for split in SPLITS)

    def _fix(self, split: Split) -> str:
        if self.report.presplit:
            return f"move a patient with it into {split} from a split that has several, or add patients"
        return "add patients with it" + (", or split without previous" if self.fixed else "")


def _count_patients(report: DatasetReport, splits: Splits, patients: Patients) -> dict[str, dict[Split, int]]:
    """Number of patients with each class in each split."""
    numbers, combinations = report.cases.classes(report.classes)
    # Evaluation excludes patients that the model was trained or validated on.
    test = SPLITS.index("test")
    is_seen = np.zeros(1 + int(patients.max(initial=0)), np.bool_)
    is_seen[patients[splits != test]] = True
    counted = (splits != test) | ~is_seen[patients]
    key = (numbers[counted] * len(SPLITS) + splits[counted]) * len(is_seen) + patients[counted]
    combined, of_key = np.divmod(np.unique(key), len(is_seen))

    def count(chosen: Callable[[tuple[str, ...]], bool]) -> dict[Split, int]:
        has = np.array([chosen(names) for names in combinations], np.bool_)[combined // len(SPLITS)]
        split = combined % len(SPLITS)
        return {name: len(np.unique(of_key[has & (split == number)])) for number, name in enumerate(SPLITS)}

    background = set(report.classes[:1])
    return {
        _ANY: count(lambda names: True),
        _FOREGROUND: count(lambda names: bool(set(names) - background)),
        **{name: count(partial(_contains, name)) for name in report.classes},
    }


def _contains(name: str, names: tuple[str, ...]) -> bool:
    return name in names

"""The plan of a split: the split of every case, and what the later steps will find missing. Torch-free.

The split job carries the plan out; `medloop data check` and `medloop run` make the same plan before any job starts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from medloop.documents.names import normalise
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
from medloop.imaging.copies import describe_lookalikes
from medloop.imaging.coverage import MIN_KINDS, Kinds, Needs, cover
from medloop.imaging.network_grid import MAX_VOXELS, median_spacing, too_many_voxels
from medloop.imaging.patients import PATIENTS_FILE
from medloop.imaging.problems import Problem
from medloop.imaging.splitting import assign, complete, seeded_order
from medloop.imaging.validation import CheckedCase, DatasetReport, case_classes

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
        split_of: Split by case path.
        strata: Class profile by patient.
        problems: What a later step refuses.
        warnings: What a later step can't measure.
    """

    split_of: dict[str, Split] = field(default_factory=dict)
    strata: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def plan_split(
    report: DatasetReport,
    rule: SplitRule,
    names: Mapping[str, str],
    previous: Mapping[str, Split] | None = None,
    later: LaterSteps | None = None,
) -> SplitPlan:
    """Assign every usable case to a split, and find what training, evaluation and the gate will miss there.

    Args:
        report: The checked data set.
        rule: Fractions and seed.
        names: Patient by case path, as `previous` names patients.
        previous: Split of patients seen before: they keep it.
        later: What training and evaluation are set to; None for their defaults.

    Returns:
        The plan; an empty one if the report's problems leave nothing to split.
    """
    if any(problem.case is None or rule.on_invalid == "fail" for problem in report.problems):
        return SplitPlan()
    cases: dict[str, list[CheckedCase]] = defaultdict(list)
    for case in report.cases:
        cases[names[case.path]].append(case)
    classes = {
        name: sorted({kind for case in group for kind in case_classes(case, report.classes)})
        for name, group in cases.items()
    }
    try:
        split_of = _split_of_cases(report, rule, cases, classes, previous)
    except DataError as error:
        return SplitPlan(problems=[Problem("", str(error).removeprefix("data set: "))])
    later = later or LaterSteps()
    findings = _Findings(report, split_of, names, later.floors, fixed=bool(previous))
    return SplitPlan(
        split_of,
        {name: "+".join(kinds) for name, kinds in classes.items()},
        [*(Problem("", message) for message in findings.problems()), *_too_large(report, split_of, later.resampling)],
        [
            *(Problem("", message) for message in findings.warnings()),
            *describe_lookalikes(report.cases, split_of, names),
        ],
    )


def _split_of_cases(
    report: DatasetReport,
    rule: SplitRule,
    cases: Mapping[str, Sequence[CheckedCase]],
    classes: Mapping[str, Sequence[str]],
    previous: Mapping[str, Split] | None,
) -> dict[str, Split]:
    """The split of each case: its folder's, or its patient's assigned one."""
    strata = {name: "+".join(kinds) for name, kinds in classes.items()}
    background = set(report.classes[:1]) if report.task == "segmentation" else set()
    kinds: dict[str, Kinds] = {name: frozenset(present) - background for name, present in classes.items()}
    # From the images: neither names nor the key change a split.
    keys = {name: min(case.image_digest for case in group) for name, group in cases.items()}
    if report.presplit:
        current = {name: {case.raw.split or "train" for case in group} for name, group in cases.items()}
        assigned = complete(current, strata, rule.fractions, rule.seed, keys)
    else:
        assigned = assign(strata, rule.fractions, rule.seed, keys, previous)
    if assigned:
        splits = [split for split in SPLITS if split in assigned.values()]
        needs, order = Needs(report.task, splits), seeded_order(rule.seed, keys)
        assigned = cover(assigned, {n: kinds[n] for n in assigned}, needs, order, previous or ())
    return {case.path: assigned.get(name, case.raw.split or "train") for name, group in cases.items() for case in group}


def _too_large(report: DatasetReport, split_of: Mapping[str, Split], resampling: Resampling) -> Iterator[Problem]:
    """Find volumes that training or evaluation refuses, as they have too many voxels at the network's voxel size."""
    trained = [case.grid.spacing for case in report.cases if case.grid and split_of[case.path] == "train"]
    if not resampling.resample or not trained:
        return
    spacing = resampling.spacing or median_spacing(trained)
    source = "train.hyperparameters.spacing" if resampling.spacing else "the median of train"
    for case in report.cases:
        if case.grid and (reason := too_many_voxels(case.grid, spacing)):
            message = (
                f"its {reason} ({source}), more than {MAX_VOXELS}; if its header's voxel size (pixdim, srow_x, srow_y, "
                "srow_z) is wrong, correct it, else set train.hyperparameters.mode=resize"
            )
            yield Problem(f"{case.path}/{case.grid.file}", message)


class _Findings:
    """Classes that training, evaluation and the gate miss in the splits, with the numbers of patients."""

    def __init__(
        self,
        report: DatasetReport,
        split_of: Mapping[str, Split],
        names: Mapping[str, str],
        floors: Collection[str],
        *,
        fixed: bool,
    ) -> None:
        self.report, self.fixed, self.floors = report, fixed, floors
        self.num_cases = Counter(split_of.values())
        self.noun = "class" if report.task == "classification" else "structure"
        self.kinds = report.classes if report.task == "classification" else report.classes[1:]
        self.patients = _patients_by_class(report, split_of, names)
        """By class, and by split; "" is any class, and any foreground has its own."""

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
        num, total = (len(self.patients[_ANY]["test"]), self.report.num_patients)
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
        num_cases, num_patients = self.num_cases["val"], len(self.patients[_ANY]["val"])
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
        return ", ".join(f"{split} {len(self.patients[kind][split])}" for split in SPLITS)

    def _fix(self, split: Split) -> str:
        if self.report.presplit:
            return f"move a patient with it into {split} from a split that has several, or add patients"
        return "add patients with it" + (", or split without previous" if self.fixed else "")


def _patients_by_class(
    report: DatasetReport, split_of: Mapping[str, Split], names: Mapping[str, str]
) -> dict[str, dict[Split, set[str]]]:
    patients: dict[str, dict[Split, set[str]]] = {
        kind: {split: set() for split in SPLITS} for kind in (_ANY, _FOREGROUND, *report.classes)
    }
    for case in report.cases:
        classes = case_classes(case, report.classes)
        foreground = [_FOREGROUND] if any(case.values) else []
        for kind in (_ANY, *foreground, *classes):
            patients[kind][split_of[case.path]].add(names[case.path])
    # Evaluation excludes patients that the model was trained or validated on.
    seen = patients[_ANY]["train"] | patients[_ANY]["val"]
    for of_split in patients.values():
        of_split["test"] -= seen
    return patients

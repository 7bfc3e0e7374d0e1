"""Cases with their splits and the names they get, and the records of their patients in split.json. Torch-free."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from medloop.documents.split import SPLITS, Case, Patient, Split
from medloop.imaging.checked_cases import ByCase, CheckedCases
from medloop.imaging.formats import IMAGE_SUFFIXES, find_suffix
from medloop.imaging.identity import case_stem, pseudonym_number
from medloop.imaging.packed import Columns
from medloop.imaging.split_plan import SplitPlan
from medloop.imaging.validation import DatasetReport


@dataclass(frozen=True, slots=True)
class AssignedCase:
    """A case with its split.

    Attributes:
        source: Its path in the data set.
        split: Its split.
        path: Its path below the split's folder, which contains its patient's pseudonym.
    """

    source: str
    split: Split
    path: str


class AssignedCases(Columns[AssignedCase]):
    """The cases sorted by pseudonym, each patient's in the order of their content: file names may contain dates.

    Args:
        report: The checked data set.
        names: Pseudonym of each case's patient.
        plan: Of the split.
        layout: Of the outputs; copies are PNG.

    Attributes:
        cases, names, splits: As they were given, in the order of the data set.
        order: Positions of the cases in the data set, sorted [N].
        starts: Position in `order` of each patient's first case, and the number of cases [P + 1].
    """

    def __init__(self, report: DatasetReport, names: ByCase[str], plan: SplitPlan, layout: str) -> None:
        self.report, self.names, self.plan, self.layout = report, names, plan, layout
        self.cases, self.splits = report.cases, plan.splits
        order = _by_content(self.cases)
        self.order: NDArray[np.intp] = order[np.argsort(names.numbers[order], kind="stable")]
        numbers = names.numbers[self.order]
        is_first = np.ones(len(numbers) + 1, np.bool_)
        is_first[1:-1] = numbers[1:] != numbers[:-1]
        self.starts = np.flatnonzero(is_first)
        self._patients = np.cumsum(is_first[:-1], dtype=np.uint32) - 1
        self._suffix = lru_cache(partial(find_suffix, suffixes=IMAGE_SUFFIXES))
        self.class_numbers, self.combinations = self.cases.classes(report.classes)

    def __len__(self) -> int:
        return len(self.order)

    def row(self, index: int) -> AssignedCase:
        """See `Columns`."""
        patient = self._patients[index]
        start, stop = self.starts[patient : patient + 2].tolist()
        row = int(self.order[index])
        source, split = self.cases.path(row), SPLITS[self.splits[row]]
        return AssignedCase(source, split, self._path(row, source, index - start, stop - start))

    def _path(self, row: int, source: str, number: int, num_cases: int) -> str:
        stem = case_stem(self.report.task, self.names.at(row), number, num_cases)
        if self.report.task == "segmentation":
            return stem
        suffix = ".png" if self.layout == "copy" else self._suffix(source[source.rfind(".") :])
        return f"{self.combinations[self.class_numbers[row]][0]}/{stem}{suffix}"

    def of_split(self, split: Split) -> Iterator[AssignedCase]:
        """The cases of a split."""
        chosen = np.flatnonzero(self.splits[self.order] == SPLITS.index(split))
        return map(self.row, chosen.tolist())


def _by_content(cases: CheckedCases) -> NDArray[np.intp]:
    """Positions of cases by digest; of equal ones by path."""
    order: NDArray[np.intp] = np.argsort(cases.images.values, kind="stable")
    repeated = cases.images.repeated()
    if len(repeated):
        ranked = sorted(repeated.tolist(), key=lambda row: (cases.images[row], cases.path(row)))
        order[np.isin(order, repeated)] = ranked
    return order


class PatientRecords(Mapping[str, Patient]):
    """The patients of split.json, by pseudonym and sorted; each is made when it is read.

    Args:
        assigned: Their cases.
        earlier: Pseudonyms that earlier versions made of them.
    """

    def __init__(self, assigned: AssignedCases, earlier: Mapping[str, list[str]]) -> None:
        self.assigned, self.earlier = assigned, earlier
        self.numbers = assigned.names.numbers[assigned.order[assigned.starts[:-1]]]

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[str]:
        return map(self.assigned.names.value_of, map(int, self.numbers))

    def __getitem__(self, name: str) -> Patient:
        try:
            number = np.uint64(pseudonym_number(name))
        except ValueError:
            raise KeyError(name) from None
        patient = int(np.searchsorted(self.numbers, number))
        if patient == len(self.numbers) or self.numbers[patient] != number:
            raise KeyError(name)
        return self.record(name, patient)

    def items(self) -> ItemsView[str, Patient]:
        """Pseudonyms and records."""
        return _Items(self)

    def record(self, name: str, patient: int) -> Patient:
        """Make the record of a patient.

        Args:
            name: Pseudonym.
            patient: Position.
        """
        assigned, cases, plan = self.assigned, self.assigned.cases, self.assigned.plan
        start, stop = assigned.starts[patient : patient + 2].tolist()
        rows = assigned.order[start:stop].tolist()
        person = cases.raw.people[cases.raw.person_numbers[cases.rows[rows[0]]]]
        return Patient(
            stratum=plan.strata[int(plan.patients[rows[0]])],
            attributes=dict(person.attributes),
            cases=[
                Case(path=case.path, split=case.split, classes=list(assigned.combinations[assigned.class_numbers[row]]))
                for case, row in zip(assigned[start:stop], rows, strict=True)
            ],
            earlier=self.earlier.get(name, []),
        )


class _Items(ItemsView[str, Patient]):
    _mapping: PatientRecords

    def __iter__(self) -> Iterator[tuple[str, Patient]]:
        return ((name, self._mapping.record(name, patient)) for patient, name in enumerate(self._mapping))

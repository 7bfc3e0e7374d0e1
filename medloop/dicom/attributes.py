"""Columns of patients.csv that headers can give; no other element about a patient is read. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from medloop.errors import SettingError

_AGE = re.compile(r"(\d{1,3})([YMWD])")
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)")
OLDEST = 90
"""Years from which all are one group: HIPAA's safe harbour (45 CFR 164.514(b)(2)(i)(C))."""


@dataclass(frozen=True)
class PatientAttribute:
    """A column of patients.csv.

    Attributes:
        keywords: Elements that it is made of.
        compute: The value from the elements' texts by keyword; "" if it is not stated.
        merge: The value of a patient with several; "" leaves it empty.
    """

    keywords: tuple[str, ...]
    compute: Callable[[Mapping[str, str]], str]
    merge: Callable[[Sequence[str]], str] = lambda values: ""


def _sex(values: Mapping[str, str]) -> str:
    sex = values["PatientSex"].upper()[:1]
    return sex if sex in ("F", "M", "O") else ""


def _age_group(values: Mapping[str, str]) -> str:
    """Ten years, as `40-49`; of children's ages in months, weeks and days `0-9`."""
    if match := _AGE.fullmatch(values["PatientAge"].upper()):
        years = int(match[1]) if match[2] == "Y" else int(match[1]) // {"M": 12, "W": 52, "D": 365}[match[2]]
    else:
        birth, study = (_DATE.match(values[keyword]) for keyword in ("PatientBirthDate", "StudyDate"))
        if not birth or not study:
            return ""
        had_birthday = (study[2], study[3]) >= (birth[2], birth[3])
        years = int(study[1]) - int(birth[1]) - (not had_birthday)
    if years < 0:
        return ""
    return f"{OLDEST}+" if years >= OLDEST else f"{years // 10 * 10}-{years // 10 * 10 + 9}"


def _joined(*keywords: str) -> Callable[[Mapping[str, str]], str]:
    return lambda values: " ".join(dict.fromkeys(filter(None, (values[keyword] for keyword in keywords))))


def _youngest(values: Sequence[str]) -> str:
    return min(values, key=lambda group: int(re.split(r"[-+]", group)[0]))


ATTRIBUTES: dict[str, PatientAttribute] = {
    "sex": PatientAttribute(("PatientSex",), _sex),
    "age_group": PatientAttribute(("PatientAge", "PatientBirthDate", "StudyDate"), _age_group, _youngest),
    "site": PatientAttribute(("InstitutionName",), _joined("InstitutionName")),
    "scanner": PatientAttribute(
        ("Manufacturer", "ManufacturerModelName"), _joined("Manufacturer", "ManufacturerModelName")
    ),
    "protocol": PatientAttribute(("ProtocolName",), _joined("ProtocolName")),
}
"""By the column's name. `site` and `protocol` are free text of a hospital: only a user's choice reads them."""
DEFAULT_ATTRIBUTES = ("sex", "age_group", "scanner")


def keywords_of(names: Sequence[str]) -> list[str]:
    """The elements that columns are made of.

    Raises:
        SettingError: A column is unknown.
    """
    for name in names:
        if name not in ATTRIBUTES:
            raise SettingError(f"--attributes {name}: is unknown; one or more of {','.join(ATTRIBUTES)}, or none")
    return [keyword for name in names for keyword in ATTRIBUTES[name].keywords]


def compute_attributes(names: Sequence[str], values: Mapping[str, str]) -> dict[str, str]:
    """The columns of a file's header; those that are not stated are left out."""
    computed = {name: ATTRIBUTES[name].compute(values) for name in names}
    return {name: value for name, value in computed.items() if value}

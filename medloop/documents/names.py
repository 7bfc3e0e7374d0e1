"""Names that people and programs write: one normal form, a looser form for warnings, and words for a missing name.

Names are compared by `normalise`: patients, classes, labels, settings keyed by them, paths in a table. Standard library
only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, TypeVar

from medloop.errors import SettingError

Value = TypeVar("Value")

_FILLERS = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Characters without a width that are no control or format characters (Unicode's Default_Ignorable_Code_Point)."""
_HYPHENS = str.maketrans("\u2010\u2011", "--")
"""HYPHEN and NON-BREAKING HYPHEN: text processors write them for the key `-`."""
_MISSING = frozenset(
    {"NA", "na", "N/A", "n/a", "N/a", "n.a.", "N.A.", "#N/A", "#n/a", "#NA", "#N/A N/A", "#NV", "<NA>", "<na>"}
    | {"NaN", "nan", "NAN", "-nan", "-NaN", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "NaT"}
    | {"None", "none", "NONE", "null", "Null", "NULL", "(null)", "(NULL)", "<null>", "<NULL>", "\\N"}
)
"""The words that R, pandas, spreadsheets and databases write for a missing value; `Na` and `Nan` are names, too."""
_ACCENTS = re.compile("[\u0300-\u036f]")
"""Of Latin, Greek and Cyrillic letters; marks of other scripts distinguish words."""
_SPREADSHEET_ERROR = re.compile(r"#[^\W\d_]+(/0)?[!?]")
_MAX_LISTED = 20
"""Known names that a message lists."""
_NOT_STATED = frozenset(
    {"na", "nan", "unknown", "unk", "missing", "undefined", "undef", "unspecified", "not specified", "not stated"}
    | {"not available", "not known", "not given", "not recorded", "not reported", "tbd", "todo", "blank", "(blank)"}
    | {"anonymous", "anon", "anonymized", "anonymised", "(empty)", "k.a.", "k. a.", "keine angabe", "unbekannt"}
    | {"n.n.", "n. n.", "inconnu", "desconocido", "sconosciuto", "onbekend"}
)
"""Words for what is not known; an identifier, and nothing else, may be such a word."""
_PERHAPS = frozenset({"nil", "not applicable", "empty", "no id", "not found", "xxx", "-1"})
"""Words that may stand for a missing value, or be meant."""
_CODES = frozenset({"-9", "-99", "-999", "-9999"})
"""Numbers that stand for a missing one where no other is negative."""
_PLACEHOLDERS = _NOT_STATED | _PERHAPS | _CODES
_LEADING_SIGNS = "<>=\u2264\u2265+-~\u00b1"
"""Signs at the begin of a value, on which its meaning depends."""
_SIGNS = "+-/\N{MINUS SIGN}\N{EN DASH}"
"""Results of tests: +, -, ++, +/-."""
_LOOKALIKES = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0458\u0455"
    "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7",
    "abekmhopctyxijsabezhikmnoptyx",
)
"""Cyrillic and Greek letters, the capitals of which look as Latin ones do (Unicode's confusables.txt)."""
_LETTERS_O, _LETTERS_L = (re.compile(rf"(?<=\d)[{signs}]+|[{signs}]+(?=\d)") for signs in ("oO", "lI"))
"""Letters next to digits that look like 0 and 1."""
_PATIENT_WORD = re.compile(r"^(patient|pat|pt|subject|subj|sub|case|pid|id|mrn|nr|no)(?=-\d)")
"""At the begin of a folded identifier."""
_INVERTED = re.compile(r"([^,^\d]+)[,^] ?([^,^\d]+)")
"""A person's last name and first name, as lists and DICOM have them."""
_UMLAUT = re.compile(r"(?<=[aou])e")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_MONTHS = "jan|feb|mar|mrz|m\u00e4r|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez"
_DATE = re.compile(rf"\d{{1,2}}[-. ]{{1,2}}({_MONTHS})([-. ]\d{{2,4}})?|({_MONTHS})[-. ]\d{{2,4}}", re.IGNORECASE)
_SHORTENED = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d+")


def normalise(text: str) -> str:
    """The text's normal form: Unicode's NFKC, without invisible characters, white space as single spaces.

    Texts with one normal form look alike to a reader: composed and decomposed letters, full-width digits, non-breaking
    spaces and hyphens, soft hyphens, byte-order marks, padding NULs. Printable ASCII changes in its white space only.
    """
    return _visible(text, "NFKC")


def tidy(text: str) -> str:
    """The text as it looks, to be shown and written: as `normalise`, but full-width and raised signs stay (NFC)."""
    return _visible(text, "NFC")


def _visible(text: str, form: Literal["NFC", "NFKC"]) -> str:
    if not (text.isascii() and text.isprintable()):
        text = "".join(sign for sign in text if sign.isspace() or unicodedata.category(sign) not in ("Cc", "Cf"))
        text = unicodedata.normalize(form, _FILLERS.sub("", text)).translate(_HYPHENS)
    return " ".join(text.split())


def fold(text: str) -> str:
    """A looser form: texts that share it may be one name that two programs wrote (007 and 7, 7.0 and 7, P-7 and p7).

    Without case, accents, punctuation, leading zeros and a trailing `.0`; digits and letters of other scripts are those
    that they look like. Digits that punctuation divides stay apart, except for thousands (1,000 and 1000).
    """
    plain = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in normalise(text))
    plain = plain.replace(",", "") if _THOUSANDS.fullmatch(plain) else re.sub(r"(?<=\d)[.,]0+$", "", plain)
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", plain.casefold())).translate(_LOOKALIKES)
    letters = "".join(sign if unicodedata.category(sign)[0] in "LMN" else " " for sign in plain)
    parts = [part.lstrip("0") or "0" if part.isdecimal() else part for part in re.findall(r"\d+|[^\d\s]+", letters)]
    folded = "".join(f"-{part}" if part.isdecimal() else part for part in parts)
    return folded or plain


def fold_identifier(text: str) -> str:
    """A patient's identifier in a still looser form: patient 7 and 7; P1O and P10; Smith, John and John Smith.

    Without a leading word for a patient, with the digits that letters between digits are taken for, and with `ue` for
    an umlaut.
    """
    plain = normalise(text)
    if inverted := _INVERTED.fullmatch(plain):
        plain = f"{inverted[2]} {inverted[1]}"
    plain = _LETTERS_O.sub(lambda letters: "0" * len(letters[0]), plain)
    plain = _LETTERS_L.sub(lambda letters: "1" * len(letters[0]), plain)
    return _UMLAUT.sub("", _PATIENT_WORD.sub("", fold(plain)))


def alike(names: Iterable[str], form: Callable[[str], str] = fold) -> list[list[str]]:
    """Groups of different names that share a looser form, each in the order of the names."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[form(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def alike_values(values: Iterable[str]) -> list[list[str]]:
    """Groups of different values of one attribute that may be one: `alike`, with equal signs and numbers.

    `<50` and `>50` differ in signs, `0.5` and `-0.5` in their numbers.
    """
    groups: dict[object, list[str]] = defaultdict(list)
    for value in sorted(set(values)):
        signs = value[: len(value) - len(value.lstrip(_LEADING_SIGNS))]
        groups[fold(value), signs, _number(value)].append(value)
    return [group for group in groups.values() if len(group) > 1]


def find_name(name: str, known: Sequence[str]) -> str | None:
    """The known name that equals this one, or else has the same normal form; None if there is none."""
    if name in known:
        return name
    return next((each for each in known if normalise(each) == normalise(name)), None)


def known_keys(setting: str, values: Mapping[str, Value], known: Sequence[str]) -> dict[str, Value]:
    """The values of a setting by class, keyed by the classes' own names.

    Raises:
        SettingError: A key is no known name, or two keys are one.
    """
    by_class: dict[str, Value] = {}
    for key, value in values.items():
        name = find_name(key, known)
        if name is None:
            more = f" and {len(known) - _MAX_LISTED} more" if len(known) > _MAX_LISTED else ""
            raise SettingError(f"{setting}: class {key!r} is unknown; known: {', '.join(known[:_MAX_LISTED])}{more}")
        if name in by_class:
            raise SettingError(f"{setting}: class {name!r} is there twice; remove one")
        by_class[name] = value
    return by_class


def is_missing(name: str) -> bool:
    """True if a normalised name is a program's word for a missing value, or consists of punctuation."""
    if name[:1].isalnum():
        return name in _MISSING
    if name in _MISSING or _SPREADSHEET_ERROR.fullmatch(name):
        return True
    return all(unicodedata.category(sign)[0] == "P" or sign in "+<=>^`|~$" for sign in name)


def is_placeholder(name: str) -> bool:
    """True if a normalised name may stand for a missing one, but may be a name as well."""
    return name.casefold() in _PLACEHOLDERS


def find_missing_values(values: Collection[str]) -> set[str]:
    """The values of one attribute, normalised, that stand for a missing one: it is not stated.

    Words that may be meant stay values: `none` (of an implant), `not applicable`. So do signs in an attribute with a
    `+`, and negative numbers in one with others.
    """
    has_signs = any("+" in value and not value.strip(_SIGNS) for value in values)
    missing = {value for value in values if _is_not_stated(value) and not (has_signs and not value.strip(_SIGNS))}
    codes = {value for value in values if value.removesuffix(".0") in _CODES}
    return missing | codes if _are_not_negative(set(values) - missing - codes) else missing


def find_doubtful_values(values: Collection[str]) -> set[str]:
    """The values of one attribute, normalised, that are kept and may stand for a missing one."""
    kept_values = set(values) - find_missing_values(values)
    doubtful = {value for value in kept_values if value.casefold() in _PERHAPS | {"none"}}
    return doubtful if _are_not_negative(kept_values - {"-1"}) else doubtful - {"-1"}


def _is_not_stated(value: str) -> bool:
    return value.casefold() in _NOT_STATED or (is_missing(value) and value.casefold() != "none")


def _are_not_negative(values: Collection[str]) -> bool:
    """True if the values are numbers, none of them below zero."""
    numbers = [_number(value.replace(",", ".")) for value in values]
    return bool(numbers) and all(number is not None and number >= 0 for number in numbers)


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def is_shortened(name: str) -> bool:
    """True for a number in a spreadsheet's short form (1.23457E+11), in which different numbers are equal."""
    return bool(_SHORTENED.fullmatch(name))


def is_date(name: str) -> bool:
    """True for a date in a spreadsheet's form (3-Jan, Jan-26), which it makes of identifiers such as 3-1."""
    return bool(_DATE.fullmatch(name))

"""Names in their normal form: what looks alike is equal, what may be one name is found, plain names stay."""

from __future__ import annotations

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medloop.documents.names import (
    alike,
    find_name,
    fold,
    fold_identifier,
    is_date,
    is_missing,
    is_placeholder,
    is_shortened,
    normalise,
)


@given(st.text())
def test_the_normal_form_is_its_own_normal_form(text: str) -> None:
    """Once normalised, twice normalised; and the forms of Unicode don't matter."""
    assert normalise(normalise(text)) == normalise(text)
    assert normalise(unicodedata.normalize("NFD", text)) == normalise(unicodedata.normalize("NFC", text))


@given(st.text(string.ascii_letters + string.digits + string.punctuation))
def test_plain_names_stay(name: str) -> None:
    """A printable ASCII name without spaces is its own normal form: its pseudonym never changes."""
    assert normalise(name) == name


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("Zoe\u0308-1", "Zo\u00eb-1"),
        ("\uff30\uff11", "P1"),
        ("P\u00a01", "P 1"),
        ("P\u202f \t1\n", "P 1"),
        ("P\u200b1", "P1"),
        ("\ufeffP1", "P1"),
        ("P\u00ad1", "P1"),
        ("P1\0\0", "P1"),
        ("P\u20111", "P-1"),
        ("\u202aP1\u202c", "P1"),
        ("P\ufe0f1", "P1"),
        ("\u212bsa", "\u00c5sa"),
        ("\u3164", ""),
    ],
)
def test_what_looks_alike_is_equal(written: str, normal: str) -> None:
    """Composed letters, full-width digits, spaces and hyphens of every kind, characters without a width."""
    assert normalise(written) == normal


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("007", "7"),
        ("7.0", "7"),
        ("7,00", "7"),
        ("P7", "p7"),
        ("P 7", "P-7"),
        ("P_7", "P7"),
        ("P07", "P7"),
        ("Zo\u00eb", "Zoe"),
        ("S01-007", "S1-7"),
        ("MU\u0308LLER", "M\u00fcller"),
        ("P\u20137", "P-7"),
        ("#7", "7"),
        ("\u0420\u041d7", "PH7"),
        ("\u0391\u039a-7", "AK7"),
        ("\u0663\u0660", "30"),
        ("1,000", "1000"),
        ("12,345,678", "12345678"),
    ],
)
def test_forms_of_one_name_are_alike(first: str, second: str) -> None:
    """What two programs make of one identifier shares its looser form."""
    assert alike([first, second]) == [[first, second]]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("patient 7", "7"),
        ("sub-007", "7"),
        ("PAT_07", "patient 7"),
        ("MRN 1234", "1234.0"),
        ("P1O", "P10"),
        ("A1OO", "A100"),
        ("PO7", "P07"),
        ("B2I", "B21"),
        ("Smith, John", "John Smith"),
        ("SMITH^JOHN", "John Smith"),
        ("Mueller 3", "M\u00fcller 3"),
        ("Schoen, Uwe", "Sch\u00f6n^Uwe"),
    ],
)
def test_identifiers_that_people_wrote_are_alike(first: str, second: str) -> None:
    """A word for a patient, a letter for a digit, first and last name, an umlaut without its sign."""
    assert alike([first, second], fold_identifier) == [[first, second]]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("P7", "C7"),
        ("P7", "P71"),
        ("P1O", "P1"),
        ("patient 7", "patient 70"),
        ("Smith, John", "Smith, Joan"),
        ("7", "A7"),
    ],
)
def test_identifiers_of_two_patients_are_not_alike(first: str, second: str) -> None:
    """Controls and patients, and numbers that differ."""
    assert alike([first, second], fold_identifier) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("7-1", "71"),
        ("7.1", "71"),
        ("P7", "P70"),
        ("P7", "Q7"),
        ("A1B2", "A12B"),
        ("7.5", "7"),
        ("1.2.3", "1.23"),
        ("\u304b", "\u304c"),
        ("\u0915\u093f", "\u0915\u093e"),
        ("100", "1"),
        ("1,000", "1"),
        ("\u0416", "K"),
        ("7a", "a7"),
        ("-", "?"),
    ],
)
def test_other_names_are_not_alike(first: str, second: str) -> None:
    """Digits that punctuation divides, and marks that distinguish words, count."""
    assert fold(first) != fold(second)


@pytest.mark.parametrize(
    "word",
    [
        "NA",
        "na",
        "N/A",
        "n/a",
        "NaN",
        "nan",
        "None",
        "null",
        "NULL",
        "<NA>",
        "#N/A",
        "#NV",
        "#REF!",
        "#DIV/0!",
        "-",
        "--",
        "?",
        ".",
        "...",
        "\u2014",
        "\\N",
        "NaT",
        "(null)",
        "1.#QNAN",
        "\uff2e\uff21",
        " N/A\u00a0",
    ],
)
def test_words_for_a_missing_value(word: str) -> None:
    """What programs write for none, and punctuation alone."""
    assert is_missing(normalise(word))


@pytest.mark.parametrize("name", ["0", "7", "Nan", "Na", "NA1", "Nina", "#7", "-1", "N-A-7", "\u738b", "Nullmann"])
def test_names_are_not_missing(name: str) -> None:
    """A given name, a sentinel number and what only contains such a word are names."""
    assert not is_missing(name)


def test_doubtful_names() -> None:
    """Words that may be names, and numbers that a spreadsheet shortened."""
    assert all(map(is_placeholder, ("unknown", "UNKNOWN", "Nan", "anonymous", "-999", "unbekannt", "k.A.", "(blank)")))
    assert not any(map(is_placeholder, ("7", "Nina", "unknown-7")))
    assert all(map(is_shortened, ("1.23457E+11", "2E+05", "1,2E+12")))
    assert not any(map(is_shortened, ("1E5", "E+5", "12")))
    assert all(map(is_date, ("3-Jan", "03-Mar", "Jan-26", "1. Mrz", "1-Mar-2026")))
    assert not any(map(is_date, ("3-1", "Jan", "Jan7", "P3-Jan", "2026-01-03")))


def test_a_name_is_found_in_any_form() -> None:
    """The known name is returned as it is known; an equal one first."""
    assert find_name("Zyste u\u0308", ["a", "Zyste \u00fc"]) == "Zyste \u00fc"
    assert find_name("b ", ["b", "b "]) == "b "
    assert find_name("B", ["b"]) is None

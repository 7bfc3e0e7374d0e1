"""JSON of other programs is read within limits, everywhere by one reader."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from medloop.documents.json_text import JsonError, load_json, parse_json, read_json
from tests.architecture.source import ROOT, python_files

UNBOUNDED = re.compile(r"json\.loads?\([^\n]*(read_text|read_bytes|\.read\()|json\.load\((?!sys\.stdin)")
TRUSTED = {
    "medloop/local/session.py",
    "medloop/cloud/base_images.py",
    "medloop/definition/cost.py",
    "medloop/definition/service_models.py",
    "medloop/local/jobs/job_site.py",
    "medloop/local/jobs/warm_server.py",
}
"""Files of the package itself and of botocore, and of a process that the package starts."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"\xff\xfe\xfd", "decode"),
        (b"1" * 5000, "digits"),
        (b"", "Expecting value"),
        (b" " * 101, "has more than"),
    ],
)
def test_what_is_no_sound_json_is_one_error(tmp_path: Path, text: bytes, message: str) -> None:
    """Never a RecursionError; a file is not read beyond the limit."""
    limit = 100 if message == "has more than" else 10**7
    path = tmp_path / "x.json"
    path.write_bytes(text)
    for read in (lambda: parse_json(text, limit), lambda: read_json(path, limit)):
        with pytest.raises(JsonError, match=message):
            read()


def test_a_file_is_read_up_to_the_limit() -> None:
    """A file of gigabytes takes no memory."""
    file = io.BytesIO(b" " * 1000)
    with pytest.raises(JsonError):
        load_json(file, 100)
    assert file.tell() == 101
    assert load_json(io.BytesIO(b'{"a": [1, null]}')) == {"a": [1, None]}


def test_no_file_is_parsed_without_a_limit() -> None:
    """`json.load` of a file appears in files of the package itself only."""
    lines = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in python_files("medloop", "steps", "pipelines", "containers")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNBOUNDED.search(line) and path.relative_to(ROOT).as_posix() not in TRUSTED
    ]
    assert lines == []

"""No name, log, description or response moves the cursor, hides text or forges a line of the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from rich.live import Live
from rich.text import Text

from medloop.cli import app
from medloop.commands.hosting.invoking import Prediction
from medloop.commands.output import make_console, print_error, print_json, print_line, print_table, table
from medloop.errors import DataError, printable
from tests.unit.cli.account import ARN, START, Account

FORGED = "error: forged"
HOSTILE = f"a\x1b]0;title\x07\x1b[2J\x9b31m\n\r{FORGED}\x85\u2028{FORGED}\u202e\x7f\udcff[bold]b[/x]"
RISKY = "\x1b\x07\x9b\r\x85\u2028\u202e\x7f\udcff\x00\u2066\u200b\ufeff\U000e0041"
HARMLESS = "Käse 脳 मस्तिष्क\u200d नम\u200cक 🧠 a\tb é"
NOT_RUN = {
    *(("demo",), ("samples", "plane"), ("samples", "brain-tissue"), ("tracking", "ui")),
    *(("images", "build"), ("images", "list"), ("images", "push")),
}
"""Commands that take minutes, an account on AWS or an engine; tests/architecture/test_terminal.py covers them."""


def assert_clean(text: str) -> None:
    """The text can be printed, and none of its lines is forged."""
    assert printable(text, allowed="\n") == text
    assert not any(line.startswith(FORGED) for line in text.split("\n"))


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its path."""
    groups: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(app))]
    while groups:
        path, command = groups.pop()
        if hasattr(command, "commands"):
            groups += [((*path, name), child) for name, child in command.commands.items()]
        elif path not in NOT_RUN:
            yield path, command


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_arguments_are_printed_safely(medloop: Any, path: tuple[str, ...]) -> None:
    """Each command refuses hostile arguments without obeying them."""
    argv = [*path]
    for parameter in COMMANDS[path].params:
        if parameter.required:
            argv += (
                [HOSTILE.replace("\udcff", "")]
                if parameter.param_type_name == "argument"
                else [parameter.opts[0], HOSTILE]
            )
    medloop(*argv)
    assert_clean(medloop.out + medloop.err)


@pytest.fixture
def hostile(account: Account, finished: str) -> Account:
    """An account all of whose texts are hostile."""
    account.logs["t-1/algo-1"] = [HOSTILE.replace("\n", "").replace("\udcff", ""), "epoch=1; val_auroc=0.5;\x1b[2J"]
    failed = account.add_execution("bad123bad123", "Failed", FailureReason=HOSTILE)
    account.add_step(
        failed, "Train", "Failed", {"TrainingJob": {"Arn": f"{ARN}:training-job/t-1"}}, FailureReason=HOSTILE
    )
    package = account.packages[0]
    package |= {"ModelPackageDescription": HOSTILE, "ApprovalDescription": HOSTILE, "ModelApprovalStatus": "Approved"}
    package["CustomerMetadataProperties"] |= {"commit": HOSTILE, "classes": HOSTILE}
    second = {"ModelPackageArn": package["ModelPackageArn"].replace("/1", "/2"), "ModelPackageVersion": 2}
    account.packages.append(package | second | {"CreationTime": START})
    return account


READS = (
    *(
        "executions list",
        "executions show bad123bad123",
        "executions logs bad123bad123",
        "executions logs abc123abc123",
    ),
    *("executions show abc123abc123", "models list", "models show g/1", "models compare g/1 g/2", "endpoints list"),
    *("schedules list", "executions open bad123bad123 --no-browser"),
)


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("command", READS)
def test_records_and_logs_are_printed_safely(medloop: Any, command: str) -> None:
    """What an account contains is printed as text; as JSON it stays what it is."""
    medloop(*command.split())
    assert_clean(medloop.out + medloop.err)
    if command not in ("schedules list",) and "open" not in command:
        assert medloop(*command.split(), "--json") == 0
        assert_clean(medloop.out)
        medloop.json  # noqa: B018 (fails unless it is JSON)


def test_json_is_escaped_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The document that a program reads is the one that was printed."""
    document = {HOSTILE: [RISKY, HARMLESS]}
    print_json(document)
    out = capsys.readouterr().out
    assert_clean(out)
    assert json.loads(out) == document
    assert "Käse 脳" in out


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_every_way_to_the_console_is_safe(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """Lines, errors, tables with their headers, and what is drawn in place; a terminal gets rich's own codes only."""
    stream = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    console = make_console()
    console.file, console._force_terminal = stream, terminal
    print_line(console, HOSTILE)
    print_error(console, HOSTILE)
    print_table(console, (HOSTILE, "b"), [(HOSTILE, 1)])
    console.print(Text(RISKY), RISKY, markup=False)
    with Live(console=console, auto_refresh=False) as live:
        live.update(table(("step",), [(HOSTILE,)]), refresh=True)
    text = stream.getvalue()
    assert not any(sign in text for sign in RISKY.replace("\x1b", "").replace("\r", ""))
    assert "\x1b]0;" not in text
    assert "\x1b[2J\x9b" not in text
    assert not any(line.startswith(FORGED) for line in text.split("\n"))
    assert "\\x1b]0;title\\x07" in text


def test_harmless_text_stays(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts of all languages, joiners and tabs are no controls."""
    assert printable(HARMLESS) == HARMLESS
    print_line(make_console(), HARMLESS.replace("\t", " "))
    assert capsys.readouterr().out == HARMLESS.replace("\t", " ") + "\n"


def test_each_risky_sign_is_escaped() -> None:
    """Escaped text is printable, and names the sign; escaping it again changes nothing."""
    for sign in RISKY:
        escaped = printable(f"a{sign}b")
        assert escaped.isascii()
        assert escaped.isprintable()
        assert f"{ord(sign):x}" in escaped or sign == "\r"
        assert printable(escaped) == escaped


def test_a_message_is_one_line_that_can_be_printed() -> None:
    """Errors end in failure reasons and logs, too."""
    assert_clean(str(DataError(f"{HOSTILE}: is no image")))
    assert "\n" not in str(DataError(HOSTILE))


def test_a_folder_of_hostile_names_is_checked_safely(medloop: Any, tmp_path: Path) -> None:
    """Class and file names are the user's, and may be anything."""
    for name in ("a\x1b[31mb", f"c\n{FORGED}", "d\u202ee"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / f"{name}.png").write_bytes(b"no image")
    assert medloop("data", "check", str(tmp_path / "data"), "--task", "classification") == 2
    assert_clean(medloop.out + medloop.err)
    assert "\\x1b[31m" in medloop.err


def test_a_response_of_an_endpoint_is_a_table_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A model can return any JSON."""
    body = json.dumps({"predicted": HOSTILE.replace("\udcff", ""), "probabilities": {HOSTILE[:9]: 0.5}}).encode()
    summary = Prediction("application/json", body, "").summary
    print_table(make_console(), ("field", "value"), list(summary.items()))
    assert_clean(capsys.readouterr().out)


def test_an_encoding_without_the_sign_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a terminal with LANG=de_DE.ISO-8859-1."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", stream)
    print_line(make_console(), "Gehirn 脳")
    print_json({"class": "Käse 脳"})
    stream.flush()
    text = stream.buffer.getvalue().decode("latin-1")  # type: ignore[attr-defined]
    assert text.startswith("Gehirn \\u8133\n")
    assert json.loads(text.partition("\n")[2]) == {"class": "Käse 脳"}

"""The command line as a process: start-up, usage errors, broken pipes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest

from medloop.cli import main

HEAVY = ("torch", "monai", "sagemaker", "boto3", "botocore", "numpy", "pydantic", "nibabel")


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


def test_help_loads_nothing_heavy() -> None:
    """`medloop --help` imports neither torch nor the SDK nor boto3, nor anything else that is slow."""
    result = run(
        "import sys; from medloop.cli import main; code = main(['--help']);"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules]); sys.exit(code)"
    )

    assert result.returncode == 0, result.stderr
    assert "Usage: medloop" in result.stdout
    assert result.stdout.rstrip().endswith("LOADED []")


def test_help_lists_what_there_is(medloop: Any) -> None:
    """Help names every command group, and none that doesn't exist yet."""
    assert medloop("--help") == 0

    listed = [line.split()[0] for line in medloop.out.split("Commands:")[1].splitlines() if line.strip()]
    expected = "demo run init samples data pipelines executions models endpoints images presets schedules tracking"
    assert sorted(listed) == sorted(expected.split())


def test_the_version_is_the_packages_own(medloop: Any) -> None:
    """`--version` prints what is installed."""
    assert medloop("--version") == 0

    assert medloop.out == f"medloop {version('medloop')}\n"


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("medloop mod", ["models"]),
        ("medloop run cl", ["classification"]),
        ("medloop run classification --preset lab-0", [f"lab-0{number}" for number in range(5)]),
        ("medloop presets show smoke-s", ["smoke-segmentation"]),
        ("medloop pipelines definition seg", ["segmentation"]),
    ],
)
def test_the_shell_completes(medloop: Any, monkeypatch: Any, capsys: Any, typed: str, completed: list[str]) -> None:
    """Commands, pipelines and presets are completed as bash requests it."""
    monkeypatch.setenv("_MEDLOOP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))

    with pytest.raises(SystemExit):
        main([])

    completions = capsys.readouterr().out.split()
    assert len(completions) == len(completed)
    assert all(word.startswith(start) for word, start in zip(completions, completed, strict=True))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["executions", "show"], "Missing argument"),
        (["executions", "list", "--target", "mars"], "'mars'"),
        (["executions", "list", "--colour"], "--colour"),
    ],
)
def test_usage_errors_are_one_line(medloop: Any, arguments: list[str], said: str) -> None:
    """A wrong command, argument or option: one line that names it and the help, exit code 2."""
    assert medloop(*arguments) == 2

    assert said in medloop.err
    assert "--help`" in medloop.err
    assert medloop.err.count("\n") == 1


def test_a_bug_keeps_its_traceback(medloop: Any, account: Any) -> None:
    """What medloop doesn't expect is not dressed up as a user's error."""
    arn = account.add_execution("aaa", "Succeeded")
    del account.executions[arn]["PipelineExecutionStatus"]

    with pytest.raises(KeyError):
        medloop("executions", "show", "aaa")


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error() -> None:
    """`medloop ... | head` prints no traceback when the pipe closes."""
    script = (
        "import sys; from medloop.cli import main; from medloop.commands.output import make_console;"
        "import medloop.commands.presets as p; sys.exit(main(['presets', 'show', 'plane-demo']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(timeout=60)

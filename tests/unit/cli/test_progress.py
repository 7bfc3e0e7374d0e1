"""Following an execution on a terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from medloop.commands.execution.progress import follow


def test_a_terminal_gets_a_table_that_ends_as_the_execution(account: Any, finished: str) -> None:
    """On a terminal the steps stand in a table, with the running step's last metrics and at the end each state."""
    account.executions[finished]["PipelineExecutionStatus"] = "Executing"
    step = account.steps[finished]
    account.steps[finished] = [{**step[0], "StepStatus": "Executing"}]
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    during = []

    def later(seconds: float) -> None:
        during.append(screen.getvalue())
        account.steps[finished] = step
        account.executions[finished]["PipelineExecutionStatus"] = "Succeeded"

    target: Any = SimpleNamespace(name="local", boto=account.boto)
    execution = follow(target, finished, console, later)

    assert execution.status == "Succeeded"
    assert "Executing" in during[0]
    assert "epoch=2; val_auroc=0.7;" in during[0]
    last = screen.getvalue().removeprefix(during[0])
    assert "epoch=2" not in last
    assert {tuple(line.split()[:2]) for line in last.splitlines() if "Gate" in line} == {("Gate", "Succeeded")}


def test_parameters_are_read_once(account: Any, finished: str) -> None:
    """They never change, and each look would page through them again."""
    account.executions[finished]["PipelineExecutionStatus"] = "Executing"
    looks: list[float] = []
    calls: list[str] = []
    account.boto.events.register("before-parameter-build", lambda model, **_: calls.append(model.name))

    def later(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            account.executions[finished]["PipelineExecutionStatus"] = "Succeeded"

    target: Any = SimpleNamespace(name="local", boto=account.boto)
    execution = follow(target, finished, Console(file=io.StringIO()), later)
    assert execution.parameters
    assert (calls.count("DescribePipelineExecution"), calls.count("ListPipelineParametersForExecution")) == (4, 1)

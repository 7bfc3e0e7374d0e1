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


def test_a_build_of_an_image_is_shown_in_a_log(account: Any, finished: str) -> None:
    """Without a terminal each step of the first use's build is a line, by podman, Docker and Docker's builder."""
    steps = [
        "medloop: podman builds the image medloop-split:1f on python:3.11-slim",
        "STEP 2/9: COPY requirements.txt /opt/medloop/requirements.txt",
        "STEP 2: FROM base",
        "Step 3/9 : RUN python -m pip install",
        "#7 [3/9] RUN python -m pip install",
        "medloop: the image was built in 15 s",
    ]
    account.logs["t-1/algo-1"] = ["Collecting numpy", *steps, "STEPS are counted", "#1 DONE 0.0s"]
    screen = io.StringIO()
    target: Any = SimpleNamespace(name="local", boto=account.boto)
    follow(target, finished, Console(file=screen, width=200), lambda _: None)
    lines = [line.partition("Train: ")[2] for line in screen.getvalue().splitlines() if "Train: " in line]
    assert [line for line in lines if not line.startswith("Succeeded")] == steps

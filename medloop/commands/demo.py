"""`medloop demo`: sample data, pipeline, evidence, approval, endpoint, prediction, for each task, on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medloop.commands.execution.summary import ExecutionSummary, print_summary
from medloop.commands.execution.waiting import print_commands, wait_for_summary
from medloop.commands.execution_status import execution_id
from medloop.commands.launch.data_defaults import data_defaults
from medloop.commands.launch.launching import RunRequest, start
from medloop.commands.options import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    Services,
    TargetChoice,
    flags,
    services,
    usable_home,
)
from medloop.commands.output import print_json, print_line, print_table
from medloop.commands.samples import progress_bar

if TYPE_CHECKING:
    from medloop.commands.demo_prediction import Served
    from medloop.documents.evaluation import Evaluation


class DemoTask(StrEnum):
    """Task to demonstrate."""

    all = "all"
    classification = "classification"
    segmentation = "segmentation"


@dataclass(frozen=True)
class Demo:
    """One task's demonstration.

    Args:
        pipeline: The pipeline's name.
        preset: Its settings, small enough for a laptop.
        sample: The sample data set's name.
        caveat: Limits of the score; {num_patients} stands for the number of test patients.
    """

    pipeline: str
    preset: str
    sample: str
    caveat: str


@dataclass(frozen=True)
class End:
    """Result of a demonstration; `served` is None if the gate refused the model."""

    demo: Demo
    summary: ExecutionSummary
    served: Served | None

    @property
    def evaluation(self) -> Evaluation | None:
        """The execution's evaluation.json; None if no step wrote one."""
        return self.summary.evaluation


DEMOS = (
    Demo(
        "classification",
        "plane-demo",
        "plane",
        "plane: {num_patients} test patients, each one volume, prove little, so no interval is given",
    ),
    Demo(
        "segmentation",
        "brain-tissue-demo",
        "brain-tissue",
        "brain-tissue: all subjects are derived from one template; the score speaks of no population",
    ),
)


def demo(
    ctx: typer.Context,
    task: Annotated[DemoTask, typer.Option(help="Which task to demonstrate.")] = DemoTask.all,
    home: HomeOption = DEFAULT_HOME,
    json: JsonOption = False,
) -> None:
    """Run both pipelines on sample data, here, up to endpoints that respond."""
    home = usable_home(home)
    ends = _run_all(services(ctx), home, [d for d in DEMOS if task.value in ("all", d.pipeline)])
    if json:
        print_json([{"task": e.demo.pipeline, "caveat": _caveat(e), **asdict(e)} for e in ends])
    else:
        _print_summary(services(ctx), home, ends)
    raise typer.Exit(max(e.summary.exit_code for e in ends))


def sample_folder(services: Services, home: Path, sample: str) -> Path:
    """The sample data set below the home folder, made where it is not there yet."""
    folder = home / "samples" / sample
    if folder.is_dir():
        from medloop.samples.cards import write_card

        write_card(folder, sample)
        return folder
    from medloop.samples.plane import make_plane
    from medloop.samples.tissue import make_brain_tissue

    make: Callable[..., Path] = make_plane if sample == "plane" else make_brain_tissue
    print_line(services.err, f"making sample data: {folder}", "dim")
    with progress_bar(services.err, sample) as progress:
        make(folder, progress=progress)
    return folder


def _run_all(services: Services, home: Path, demos: list[Demo]) -> list[End]:
    """Run the pipelines at the same time, so that no core waits for a step that keeps only one busy."""
    running: dict[str, str] = {}
    ends = []
    try:
        # The last takes longest: it starts first, and trains while the others' models are deployed.
        for demo in reversed(demos):
            running[demo.pipeline] = _start(services, home, demo)
        for demo in demos:
            ends.append(_finish(services, home, demo, running.pop(demo.pipeline)))
    finally:
        for arn in running.values():
            identifier = execution_id(arn)
            print_line(services.err, f"execution {identifier} continues. Follow, show or stop it:", "yellow")
            print_commands(services, identifier, flags(TargetChoice.local, home))
    return ends


def _start(services: Services, home: Path, demo: Demo) -> str:
    """Start the pipeline on its sample data; returns the execution's ARN."""
    from medloop.settings import resolve

    folder = sample_folder(services, home, demo.sample)
    print_line(services.err, f"{demo.pipeline}: pipeline on {folder}, preset {demo.preset}", "bold")
    target = services.target(TargetChoice.local, home)
    resolved = resolve(demo.pipeline, demo.preset, data=data_defaults(str(folder), is_project=False))
    return start(services, target, RunRequest(resolved, str(folder), home))


def _finish(services: Services, home: Path, demo: Demo, arn: str) -> End:
    """Wait for the execution, and serve its model if the gate let it pass."""
    print_line(services.err, f"{demo.pipeline}: waiting for its execution", "bold")
    target = services.target(TargetChoice.local, home)
    summary = wait_for_summary(services, target, home, arn)
    if summary.model_arn is None:
        return End(demo, summary, None)
    from medloop.commands.demo_prediction import approve_and_predict

    served = approve_and_predict(services, target, home, demo.pipeline, summary.execution, summary.model_arn)
    return End(demo, replace(summary, approval="Approved"), served)


def _print_summary(services: Services, home: Path, ends: list[End]) -> None:
    options = flags(TargetChoice.local, home)
    for end in ends:
        print_line(services.out, "")
        print_line(services.out, end.demo.pipeline, "bold")
        print_summary(services.out, services.err, end.summary, options)
        if end.served:
            _print_served(services, end.served, options)
    print_line(services.out, "")
    rows = [
        (
            end.demo.pipeline,
            end.summary.model or end.summary.execution.status,
            f"{end.evaluation.score.name} {end.evaluation.score.value:.3f}" if end.evaluation else None,
            end.evaluation.gate.num_patients if end.evaluation else None,
            end.served.endpoint if end.served else None,
        )
        for end in ends
    ]
    headers = ("task", "model version", "score on held-out patients", "test patients", "endpoint")
    print_table(services.out, headers, rows)
    for end in ends:
        print_line(services.out, _caveat(end))
    if names := [end.served.endpoint for end in ends if end.served]:
        print_line(services.out, "The endpoints keep running. When you are done:")
        for name in names:
            print_line(services.out, f"  medloop endpoints delete {name}{options}")


def _print_served(services: Services, served: Served, options: str) -> None:
    print_line(services.out, f"  endpoint  {served.endpoint} is ready; medloop endpoints list{options}")
    print_line(services.out, f"  unseen    {served.case}: {served.predicted}, in {served.seconds:.1f} s")
    print_line(services.out, f"  picture   {served.picture}")


def _caveat(end: End) -> str:
    return end.demo.caveat.format(num_patients=end.evaluation.gate.num_patients if end.evaluation else "the few")

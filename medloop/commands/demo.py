"""`medloop demo`: sample data, pipeline, evidence and a registered model, for each task, on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medloop.commands.launching import Wish, start
from medloop.commands.options import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    Services,
    TargetName,
    flags,
    services,
    usable_home,
)
from medloop.commands.outcome import Outcome, print_outcome
from medloop.commands.output import print_json, print_table, say
from medloop.commands.run import follow_to_end
from medloop.commands.samples import counting


class DemoTask(StrEnum):
    """What to demonstrate."""

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
        caveat: What the score does not mean; {num_patients} stands for the number of test patients.
    """

    pipeline: str
    preset: str
    sample: str
    caveat: str


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
    """Run both pipelines on sample data, here."""
    home = usable_home(home)
    chosen = [d for d in DEMOS if task.value in ("all", d.pipeline)]
    folders = [sample_folder(services(ctx), home, d.sample) for d in chosen]
    outcomes = [_run(services(ctx), home, d, folder) for d, folder in zip(chosen, folders, strict=True)]
    if json:
        print_json(
            [{"task": d.pipeline, "caveat": _caveat(d, o), **asdict(o)} for d, o in zip(chosen, outcomes, strict=True)]
        )
    else:
        _print_summary(services(ctx), home, chosen, outcomes)
    raise typer.Exit(max(o.exit_code for o in outcomes))


def sample_folder(services: Services, home: Path, sample: str) -> Path:
    """The sample data set below the home folder, made where it is not there yet."""
    folder = home / "samples" / sample
    if folder.is_dir():
        return folder
    say(services.err, f"making sample data: {folder}", "dim")
    with counting(services.err, sample) as progress:
        _make(sample)(folder, progress=progress)
    return folder


def _make(sample: str) -> Callable[..., Path]:
    if sample == "plane":
        from medloop.samples.plane import make_plane

        return make_plane
    from medloop.samples.tissue import make_brain_tissue

    return make_brain_tissue


def _run(services: Services, home: Path, demo: Demo, folder: Path) -> Outcome:
    from medloop.settings import resolve

    say(services.err, f"{demo.pipeline}: pipeline on {folder}, preset {demo.preset}", "bold")
    target = services.target(TargetName.local, home)
    arn = start(services, target, Wish(resolve(demo.pipeline, demo.preset), str(folder), home))
    return follow_to_end(services, target, home, arn)


def _print_summary(services: Services, home: Path, demos: list[Demo], outcomes: list[Outcome]) -> None:
    for demo, outcome in zip(demos, outcomes, strict=True):
        say(services.out, "")
        say(services.out, demo.pipeline, "bold")
        print_outcome(services.out, services.err, outcome, flags(TargetName.local, home))
    say(services.out, "")
    rows = [
        (
            demo.pipeline,
            outcome.model or outcome.execution.status,
            f"{outcome.score.name} {outcome.score.value:.3f}" if outcome.score else None,
            outcome.score.num_patients if outcome.score else None,
            outcome.report,
        )
        for demo, outcome in zip(demos, outcomes, strict=True)
    ]
    headers = ("task", "model version", "score on held-out patients", "test patients", "report")
    print_table(services.out, headers, rows)
    for demo, outcome in zip(demos, outcomes, strict=True):
        say(services.out, _caveat(demo, outcome))


def _caveat(demo: Demo, outcome: Outcome) -> str:
    return demo.caveat.format(num_patients=outcome.score.num_patients if outcome.score else "the few")

"""An execution as one self-contained HTML page: graph, states, curves, tuning, the ends of the logs.

Everything that comes from a log, a name or a reason is escaped; the page loads nothing and runs no script.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medloop.commands.execution.charts import Chart
from medloop.commands.execution.curves import metric_charts, read_curves, tuning_charts
from medloop.commands.execution.graph_picture import Look, draw_graph
from medloop.commands.execution.logs import JobLog
from medloop.commands.execution.trials import Tuning, read_tuning, trial_rows
from medloop.commands.output import duration, shown
from medloop.commands.records import Execution, Job, Step, describe_job, failure_text, read_execution
from medloop.definition.read import Definition, read_definition
from medloop.errors import TargetError
from medloop.local.home import Home
from medloop.log_metrics import metric_patterns

TEMPLATE = "execution.html.jinja"
MAX_LINES = 40
MAX_CHARACTERS = 400


@dataclass(frozen=True)
class StepPart:
    """What the page says of one step beside the table's row."""

    step: Step
    reason: str
    charts: list[Chart] = field(default_factory=list)
    tuning: Tuning | None = None
    log: list[str] = field(default_factory=list)
    """The last lines."""
    num_lines: int = 0


def render_execution(boto: Any, arn: str) -> str:
    """Draw the page.

    Args:
        boto: A boto3 session of either target.
        arn: The execution.

    Returns:
        HTML.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    sagemaker, logs = boto.client("sagemaker"), boto.client("logs")
    execution = read_execution(sagemaker, arn)
    text = sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)["PipelineDefinition"]
    parts = [_part(sagemaker, logs, step) for step in execution.steps]
    environment = Environment(
        loader=PackageLoader("medloop.commands.execution", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "shown": shown}
    return environment.get_template(TEMPLATE).render(
        execution=execution,
        graphs=_graphs(read_definition(text), execution),
        parts=parts,
        trial_rows=trial_rows,
        max_lines=MAX_LINES,
    )


def write_page(home: Home, identifier: str, html: str, out: Path | None) -> Path:
    """Write a page, by default below home.

    Args:
        home: Where the page lies by default.
        identifier: The execution's id.
        html: The page.
        out: Where else to write it.

    Raises:
        TargetError: It can't be written there.
    """
    path = out or home.folder("pages") / f"{identifier}.html"
    try:
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise TargetError(f"{path}: can't be written ({error.strerror}); give another file with --out") from None
    return path.absolute()


def _part(sagemaker: Any, logs: Any, step: Step) -> StepPart:
    reason = failure_text(sagemaker, step) if step.status == "Failed" else step.reason
    if step.job is None:
        return StepPart(step, reason)
    lines = list(JobLog(logs, step.job).new_lines())
    tuning, charts = None, []
    if step.job.kind == "tuning":
        tuning = read_tuning(sagemaker, step.name, step.job)
        charts = tuning_charts(tuning, _trial_curves(sagemaker, tuning, lines))
    elif step.job.kind == "training":
        charts = metric_charts(read_curves(lines, _patterns(sagemaker, step.job)))
    ends = [line if len(line) <= MAX_CHARACTERS else line[:MAX_CHARACTERS] + " …" for line in lines[-MAX_LINES:]]
    return StepPart(step, reason, charts, tuning, ends, len(lines))


def _patterns(sagemaker: Any, job: Job) -> dict[str, Any]:
    described = describe_job(sagemaker, job)
    specification = described.get("TrainingJobDefinition", described).get("AlgorithmSpecification", {})
    return metric_patterns(specification.get("MetricDefinitions"))


def _trial_curves(sagemaker: Any, tuning: Tuning, lines: list[str]) -> dict[int, list[tuple[float, float]]]:
    """The objective by epoch of each trial, whose lines begin with its number."""
    job = Job("tuning", tuning.job, "")
    patterns = {name: found for name, found in _patterns(sagemaker, job).items() if name == tuning.metric}
    curves = {}
    for trial in tuning.trials:
        own = [line for line in lines if line.startswith(f"[{trial.number:03d}] ")]
        points = read_curves(own, patterns).get(tuning.metric)
        if points:
            curves[trial.number] = points
    return curves


def _graphs(definition: Definition, execution: Execution) -> list[str]:
    """The graph lying, and standing."""
    looks = {step.name: Look(step.status, _below(step)) for step in execution.steps}
    return [draw_graph(definition, looks, upright=upright) for upright in (False, True)]


def _below(step: Step) -> str:
    if step.cached:
        return "from the cache"
    if step.outcome:
        return f"condition: {step.outcome.lower()}"
    return f"{step.status} {duration(step.seconds)}" if step.seconds is not None else step.status

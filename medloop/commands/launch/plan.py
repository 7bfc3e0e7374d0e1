"""`run --dry-run`: the plan of a run, from the definition that would be uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medloop.commands.launch.costing import default_values, price_lines, print_cost
from medloop.commands.launch.launching import RunRequest, print_missing_card_fields
from medloop.commands.launch.run_time import run_hyperparameters, run_seconds, time_text
from medloop.commands.options import Call, TargetChoice
from medloop.commands.output import print_json, print_line, print_table
from medloop.definition.read import read_definition, references, value_text
from medloop.definition.step_types import type_of

if TYPE_CHECKING:
    from medloop.definition.read import Definition, Step
    from medloop.imaging.validation import DatasetReport

AT_START = "(digest of the data's listing)"


@dataclass(frozen=True)
class PlannedStep:
    """One step of the plan.

    Args:
        name: The step's name.
        type: `Processing`, `Training`, `Condition`, ...
        when: The condition and the outcome for which the step runs; empty if it always runs.
        instance: Such as `2 x ml.g5.xlarge`; empty for a step without instances.
        inputs: Inputs or channels, each with its source.
    """

    name: str
    type: str
    when: str
    instance: str
    inputs: tuple[str, ...]


def print_plan(call: Call, run_request: RunRequest, report: DatasetReport | None = None) -> None:
    """Print the plan of a run; nothing is uploaded, stored or started.

    Args:
        call: The command's.
        run_request: The run.
        report: The checked data, for the estimate of the time; None if they were not checked.
    """
    definition = read_definition(call.services.definition(call.where, run_request.resolved))
    values = parameter_values(definition, run_request)
    steps = [planned_step(step, values) for step in definition.in_order()]
    lines = price_lines(definition, values)
    settings = run_hyperparameters(run_request.resolved)
    print_missing_card_fields(call.services, run_request.resolved)
    if call.json:
        plan = {"pipeline": run_request.resolved.pipeline, "target": call.where.value, "data": run_request.data}
        seconds = run_seconds(report, settings) if call.where is TargetChoice.local else None
        print_json({**plan, "parameters": values, "steps": steps, "cost": lines, "estimated_seconds": seconds})
        return
    out = call.services.out
    print_line(
        out, f"dry run: pipeline {run_request.resolved.pipeline} on {call.where.value}; nothing is uploaded or started"
    )
    rows = [(s.name, s.type, s.when, s.instance, ", ".join(s.inputs)) for s in steps]
    print_table(out, ("step", "type", "when", "instances", "inputs"), rows)
    print_line(out, "")
    print_table(out, ("parameter", "value"), sorted(values.items()))
    if call.where is TargetChoice.local:
        print_line(out, "Locally, instance types have no effect: jobs are processes, and cost nothing.")
        if text := time_text(report, settings):
            print_line(out, f"Time of the run: {text}.")
        return
    print_line(out, "")
    print_cost(out, lines)


def parameter_values(definition: Definition, run_request: RunRequest) -> dict[str, str]:
    """Return the value of every pipeline parameter in this run."""
    chosen = run_request.resolved.parameters | {"InputData": run_request.data, "DataVersion": AT_START}
    return default_values(definition, chosen)


def planned_step(step: Step, values: dict[str, str]) -> PlannedStep:
    """Return a step of the plan, with the parameters' values."""
    return PlannedStep(
        name=step.name,
        type=step.type,
        when=": ".join(step.branch) if step.branch else "",
        instance=_instance(step, values),
        inputs=tuple(f"{name} from {_source(uri, values)}" for name, uri in _inputs(step.arguments)),
    )


def _instance(step: Step, values: dict[str, str]) -> str:
    job = type_of(step).job
    cluster = job.cluster(step.arguments) if job else None
    if not cluster:
        return ""
    return f"{value_text(cluster['InstanceCount'], values)} x {value_text(cluster['InstanceType'], values)}"


def _inputs(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for item in arguments.get("ProcessingInputs", []):
        yield item["InputName"], item["S3Input"]["S3Uri"]
    for channel in arguments.get("InputDataConfig", []):
        yield channel["ChannelName"], channel["DataSource"]["S3DataSource"]["S3Uri"]


def _source(uri: Any, values: dict[str, str]) -> str:
    """Return the name of the step that writes the URI, or else the URI."""
    step = next((r.split(".")[1] for r in references(uri) if r.startswith("Steps.")), None)
    return step or value_text(uri, values)

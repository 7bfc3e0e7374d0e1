"""`run --dry-run`: what would happen, read from the definition that would be uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medloop.commands.launch.building import definition_text
from medloop.commands.launch.costing import price_lines, print_cost
from medloop.commands.launch.launching import Wish, tell_unstated
from medloop.commands.options import Services, TargetName
from medloop.commands.output import print_json, print_table, say
from medloop.definition.read import value_in_words
from medloop.definition.step_types import type_of

if TYPE_CHECKING:
    from medloop.definition.read import Definition, Step

AT_START = "(digest of the data's listing)"


@dataclass(frozen=True)
class PlannedStep:
    """One step of the plan.

    Args:
        name: The step's name.
        type: `Processing`, `Training`, `Condition`, ...
        when: The condition and the outcome of it that lead to the step; empty where it always runs.
        instance: Such as `2 x ml.g5.xlarge`; empty for a step without machines.
        inputs: Inputs or channels, each with where it comes from.
    """

    name: str
    type: str
    when: str
    instance: str
    inputs: tuple[str, ...]


def print_plan(services: Services, target: TargetName, wish: Wish, *, json: bool) -> None:
    """Print the plan of a run; nothing is uploaded, stored or started."""
    from medloop.definition.read import read_definition

    definition = read_definition(definition_text(services, target, wish.resolved))
    values = parameter_values(definition, wish)
    steps = [planned_step(step, values) for step in definition.in_order()]
    lines = price_lines(definition, values)
    tell_unstated(services, wish.resolved)
    if json:
        plan = {"pipeline": wish.resolved.spec.name, "target": target.value, "data": wish.data}
        print_json({**plan, "parameters": values, "steps": steps, "cost": lines})
        return
    out = services.out
    say(out, f"dry run: pipeline {wish.resolved.spec.name} on {target.value}; nothing is uploaded or started")
    rows = [(s.name, s.type, s.when, s.instance, ", ".join(s.inputs)) for s in steps]
    print_table(out, ("step", "type", "when", "instances", "inputs"), rows)
    say(out, "")
    print_table(out, ("parameter", "value"), sorted(values.items()))
    if target is TargetName.local:
        say(out, "On this machine instance types are records only: jobs are processes, and cost nothing.")
        return
    say(out, "")
    print_cost(out, lines)


def parameter_values(definition: Definition, wish: Wish) -> dict[str, str]:
    """Every pipeline parameter as this run would set it."""
    defaults = {p.name: "" if p.default is None else str(p.default) for p in definition.parameters}
    return defaults | wish.resolved.parameters | {"InputData": wish.data, "DataVersion": AT_START}


def planned_step(step: Step, values: dict[str, str]) -> PlannedStep:
    """A definition's step with the parameters' values put in."""
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
    return f"{value_in_words(cluster['InstanceCount'], values)} x {value_in_words(cluster['InstanceType'], values)}"


def _inputs(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for given in arguments.get("ProcessingInputs", []):
        yield given["InputName"], given["S3Input"]["S3Uri"]
    for channel in arguments.get("InputDataConfig", []):
        yield channel["ChannelName"], channel["DataSource"]["S3DataSource"]["S3Uri"]


def _source(uri: Any, values: dict[str, str]) -> str:
    """A step's name for what a step makes, the address itself otherwise."""
    from medloop.definition.read import references

    step = next((r.split(".")[1] for r in references(uri) if r.startswith("Steps.")), None)
    return step or value_in_words(uri, values)

"""A typed view of a pipeline definition: SageMaker's own JSON, the single truth of what runs.

Schema: https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/ (out of date in
details; `requests` reads botocore's model instead). No SDK import.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from medloop.errors import SettingError

CONDITION = "Condition"
"""The one step type whose arguments hold steps."""
BRANCHES = {"yes": "IfSteps", "no": "ElseSteps"}
"""A condition's outcomes and the members of its arguments that hold their steps."""
OUTCOMES = {"yes": "True", "no": "False"}
"""The same outcomes in the service's spelling: a Condition step's property and metadata `Outcome`."""
PREFIX = "pipeline definition: "
"""The beginning of every error of this module; callers that name the definition themselves remove it."""


@dataclass(frozen=True)
class Parameter:
    """A pipeline parameter."""

    name: str
    type: str
    default: str | int | float | bool | None
    """None: every start must set it."""
    values: tuple[str, ...] = ()
    """The allowed values of a String; empty allows all."""


@dataclass(frozen=True)
class Step:
    """One step.

    Args:
        name: Unique in the pipeline.
        type: SageMaker's step type.
        arguments: The service's request, with expressions in scalar slots; a Condition's without its branches.
        document: The whole step, unchanged.
        needs: Names of the steps that end before it starts: DependsOn, the steps its arguments refer to, its condition.
        branch: The name of its condition, and `yes` or `no`; None at top level.
    """

    name: str
    type: str
    arguments: dict[str, Any]
    document: dict[str, Any]
    needs: frozenset[str]
    branch: tuple[str, str] | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of a processing step's outputs."""
        outputs = mappings(member(self.arguments, "ProcessingOutputConfig.Outputs"))
        return tuple(str(output.get("OutputName")) for output in outputs)

    @property
    def property_files(self) -> dict[str, str]:
        """Names of its property files, and of the outputs that contain them."""
        files = mappings(self.document.get("PropertyFiles"))
        return {str(file.get("PropertyFileName")): str(file.get("OutputName")) for file in files}


@dataclass(frozen=True)
class Definition:
    """A whole pipeline definition; the steps of branches follow their condition."""

    version: str
    parameters: tuple[Parameter, ...]
    steps: tuple[Step, ...]
    members: tuple[str, ...] = ()
    """Names of the document's own members."""

    def step(self, name: str) -> Step:
        """Return the step of this name.

        Raises:
            KeyError: There is no such step.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def in_order(self) -> list[Step]:
        """Return the steps in an order in which they could run one by one; ties as in the definition.

        Raises:
            SettingError: Steps wait for each other.
        """
        sorter = TopologicalSorter({step.name: sorted(step.needs) for step in self.steps})
        try:
            sorter.prepare()
        except CycleError as error:
            raise SettingError(f"{PREFIX}steps wait for each other: {' -> '.join(error.args[1])}") from None
        position = {step.name: index for index, step in enumerate(self.steps)}
        ordered: list[Step] = []
        while sorter.is_active():
            ready = sorter.get_ready()
            ordered += [self.steps[index] for index in sorted(position[name] for name in ready if name in position)]
            sorter.done(*ready)
        return ordered


def read_definition(text: str) -> Definition:
    """Read a definition's JSON text.

    Raises:
        SettingError: The text is not JSON, or not a definition; the message names the place.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SettingError(f"{PREFIX}is not JSON ({error}); build it again") from None
    if not isinstance(document, dict) or not isinstance(document.get("Steps"), list):
        raise SettingError(f"{PREFIX}has no list of Steps; build it again")
    parameters = tuple(_parameter(entry) for entry in document.get("Parameters") or [])
    return Definition(str(document.get("Version")), parameters, tuple(_steps(document["Steps"], None)), tuple(document))


def references(value: Any) -> Iterator[str]:
    """Yield every `Get` in a value: `Parameters.X`, `Steps.Y.…` or `Execution.Z`."""
    if isinstance(value, dict):
        if set(value) == {"Get"}:
            yield str(value["Get"])
            return
        value = list(value.values())
    if isinstance(value, list):
        for element in value:
            yield from references(element)


def mappings(value: Any) -> list[dict[str, Any]]:
    """Return the mappings in a list; empty for anything else."""
    return [element for element in value if isinstance(element, dict)] if isinstance(value, list) else []


def is_expression(value: Any) -> bool:
    """True if a value is computed when the pipeline runs."""
    return isinstance(value, dict) and set(value) in ({"Get"}, {"Std:Join"}, {"Std:JsonGet"})


def describe_value(value: Any) -> str:
    """Return an expression as text: a parameter's name, a JSON path, a property's last part."""
    if not isinstance(value, dict):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if "Std:JsonGet" in value:
        return str(value["Std:JsonGet"].get("Path"))
    if "Std:Join" in value:
        join = value["Std:Join"]
        return str(join.get("On", "")).join(describe_value(part) for part in join.get("Values") or [])
    reference = str(value.get("Get", ""))
    kind, _, name = reference.partition(".")
    return name if kind == "Parameters" else f"{{{value.get('Get')}}}"


def value_text(value: Any, values: Mapping[str, str]) -> str:
    """Return a scalar as text, parameters replaced by their values."""
    text = describe_value(value)
    return values.get(text, text) if isinstance(value, dict) else text


def member(document: Any, path: str) -> Any:
    """Return a document's value at a path, names of members joined by dots; None if there is no value."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _parameter(entry: Any) -> Parameter:
    if not isinstance(entry, dict) or not isinstance(entry.get("Name"), str):
        raise SettingError(f"{PREFIX}a parameter has no Name: {_short(entry)}; give it one")
    values = tuple(str(value) for value in entry.get("EnumValues") or [])
    return Parameter(entry["Name"], str(entry.get("Type")), entry.get("DefaultValue"), values)


def _steps(documents: list[Any], branch: tuple[str, str] | None) -> Iterator[Step]:
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("Name"), str):
            raise SettingError(f"{PREFIX}a step has no Name: {_short(document)}; give it one")
        name, kind, arguments = document["Name"], str(document.get("Type")), document.get("Arguments") or {}
        if not isinstance(arguments, dict):
            raise SettingError(f"{PREFIX}step {name}: Arguments must be a mapping; build it again")
        inner = {outcome: arguments.get(member) or [] for outcome, member in BRANCHES.items()}
        if kind == CONDITION:
            arguments = {key: value for key, value in arguments.items() if key not in BRANCHES.values()}
        yield Step(name, kind, arguments, document, _needs(arguments, document, branch), branch)
        if kind == CONDITION:
            for outcome, steps in inner.items():
                if not isinstance(steps, list):
                    raise SettingError(f"{PREFIX}step {name}: {BRANCHES[outcome]} must be a list; build it again")
                yield from _steps(steps, (name, outcome))


def _needs(arguments: dict[str, Any], document: dict[str, Any], branch: tuple[str, str] | None) -> frozenset[str]:
    implicit = {reference.split(".")[1] for reference in references(arguments) if reference.startswith("Steps.")}
    explicit = {str(name) for name in document.get("DependsOn") or []}
    return frozenset(implicit | explicit | ({branch[0]} if branch else set()))


def _short(value: Any) -> str:
    return json.dumps(value, default=str)[:80]

"""Validation of a pipeline definition, before anything costs money.

Each `_check` yields one line for each problem; `CHECKS` lists them. All that AWS would refuse later, or accept and
interpret differently, is refused here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from medloop.definition.caching import compared, max_age
from medloop.definition.job_rules import check_jobs
from medloop.definition.read import PREFIX, Definition, Step, read_definition, references
from medloop.definition.requests import request_problems
from medloop.definition.retrying import read_policies
from medloop.definition.service_shape import check_members
from medloop.definition.step_types import STEP_TYPES, type_of
from medloop.definition.structure import (
    MAX_NAME,
    absent_steps,
    is_name,
    outer_condition,
    repeated_names,
    undeclared_parameters,
)
from medloop.errors import SettingError

MAX_CHARACTERS = 1_048_576
"""CreatePipeline's limit for a definition's JSON text."""
MAX_STEPS = 50
"""https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-quotas.html (steps a pipeline)."""
PARAMETER_TYPES: dict[str, tuple[type, ...]] = {
    "String": (str,),
    "Integer": (int,),
    "Float": (int, float),
    "Boolean": (bool,),
}


def validate(text: str) -> list[str]:
    """List the problems of a definition's JSON text, one line each."""
    if len(text) > MAX_CHARACTERS:
        return [f"the definition has {len(text)} characters; {MAX_CHARACTERS} are allowed"]
    try:
        definition = read_definition(text)
    except SettingError as error:
        return [str(error)]
    return [problem for check in CHECKS for problem in check(definition)]


def _check_names(definition: Definition) -> Iterator[str]:
    for name, count in repeated_names(definition).items():
        yield f"step {name}: the name is used {count} times; names must be unique, in branches too"
    for name in dict.fromkeys(step.name for step in definition.steps):
        if len(name) > MAX_NAME:
            yield f"step {name}: the name has {len(name)} characters; {MAX_NAME} are allowed"
        elif not is_name(name):
            yield f"step {name}: names hold letters, digits, - and _ only"
    if len(definition.steps) > MAX_STEPS:
        yield f"the pipeline has {len(definition.steps)} steps; {MAX_STEPS} are allowed"


def _check_parameters(definition: Definition) -> Iterator[str]:
    for name, count in Counter(parameter.name for parameter in definition.parameters).items():
        if count > 1:
            yield f"parameter {name}: is declared {count} times"
    for parameter in definition.parameters:
        kinds = PARAMETER_TYPES.get(parameter.type)
        if kinds is None:
            yield f"parameter {parameter.name}: unknown type {parameter.type}; one of {', '.join(PARAMETER_TYPES)}"
        elif parameter.default is not None and not isinstance(parameter.default, kinds):
            yield f"parameter {parameter.name}: default {parameter.default!r} is not of type {parameter.type}"
        elif parameter.values and parameter.default is not None and parameter.default not in parameter.values:
            yield f"parameter {parameter.name}: default {parameter.default!r} is none of {', '.join(parameter.values)}"


def _check_types(definition: Definition) -> Iterator[str]:
    for step in definition.steps:
        if step.type not in STEP_TYPES:
            yield f"step {step.name}: unknown type {step.type}; one of {', '.join(sorted(STEP_TYPES))}"
        if "RetryPolicies" in step.document and not type_of(step).retried:
            yield f"step {step.name}: a {step.type} step takes no retry policies"
        refused = {name for policy in _retried(step) for name in policy} - type_of(step).retried
        if refused and type_of(step).retried:
            yield f"step {step.name}: a {step.type} step can't be retried after {', '.join(sorted(refused))}"
        if "CacheConfig" in step.document and not type_of(step).compared:
            yield f"step {step.name}: a {step.type} step is never cached"


def _retried(step: Step) -> list[frozenset[str]]:
    """The exceptions of a step's policies; of malformed policies none, which another check names."""
    try:
        return [policy.exceptions for policy in read_policies(step)]
    except SettingError:
        return []


def _check_own_rules(definition: Definition) -> Iterator[str]:
    for step in definition.steps:
        if (outer := outer_condition(step)) is not None:
            yield f"step {step.name}: is nested in condition {outer}; SageMaker has no nested conditions"
        for problem in type_of(step).check(step):
            yield f"step {step.name}: {problem}"


def _check_references(definition: Definition) -> Iterator[str]:
    steps = {step.name: step for step in definition.steps}
    for step in definition.steps:
        for need in absent_steps(definition, step):
            yield f"step {step.name}: refers to step {need}, which does not exist"
        for name in undeclared_parameters(definition, step):
            yield f"step {step.name}: refers to parameter {name}, which is not declared"
        for reference in references(step.arguments):
            kind, _, rest = reference.partition(".")
            if kind == "Steps" and (referenced := steps.get(rest.partition(".")[0])) is not None:
                yield from _check_step_reference(step, referenced, rest.partition(".")[2])
            elif kind not in ("Parameters", "Steps", "Execution"):
                yield f"step {step.name}: {reference} is not a reference"


def _check_step_reference(step: Step, referenced: Step, path: str) -> Iterator[str]:
    if not type_of(referenced).has_properties:
        yield f"step {step.name}: refers to {referenced.type} step {referenced.name}, which has no properties"
    if referenced.branch is not None and referenced.branch != step.branch:
        yield f"step {step.name}: refers to {referenced.name}, which runs only in a branch of {referenced.branch[0]}"
    output = re.match(r"ProcessingOutputConfig\.Outputs\[['\"](.+?)['\"]\]", path)
    if output and output[1] not in referenced.outputs:
        outputs = ", ".join(referenced.outputs)
        yield f"step {step.name}: refers to output {output[1]} of {referenced.name}, which has {outputs}"
    file = re.match(r"PropertyFiles\.(.+)", path)
    if file and file[1] not in referenced.property_files:
        yield f"step {step.name}: refers to property file {file[1]} of {referenced.name}, which has no such file"


def _check_property_files(definition: Definition) -> Iterator[str]:
    for step in definition.steps:
        for name, output in step.property_files.items():
            if output not in step.outputs:
                yield f"step {step.name}: property file {name} is in output {output}, which the step doesn't have"


def _check_order(definition: Definition) -> Iterator[str]:
    try:
        definition.in_order()
    except SettingError as error:
        yield str(error).removeprefix(PREFIX)


def _check_requests(definition: Definition) -> Iterator[str]:
    parameters = {parameter.name: parameter for parameter in definition.parameters}
    for step in definition.steps:
        for problem in request_problems(step, parameters):
            yield f"step {step.name}: {problem}"


def _check_cache_keys(definition: Definition) -> Iterator[str]:
    for step in definition.steps:
        for key, value in compared(step).items():
            for reference in references(value):
                if reference.startswith("Execution."):
                    yield f"step {step.name}: {key} holds {reference}, which differs at every run: it can't be cached"


def _check_policies(definition: Definition) -> Iterator[str]:
    for step in definition.steps:
        for read in (max_age, read_policies):
            try:
                read(step)
            except SettingError as error:
                yield str(error)


CHECKS: tuple[Callable[[Definition], Iterator[str]], ...] = (
    _check_names,
    _check_parameters,
    _check_types,
    _check_own_rules,
    _check_references,
    _check_property_files,
    _check_order,
    _check_requests,
    _check_cache_keys,
    _check_policies,
    check_jobs,
    check_members,
)

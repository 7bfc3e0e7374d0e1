"""Ranges of tuned hyperparameters: as settings spell them, checked against the task's own hyperparameters."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from medloop.documents.hyperparameters import Hyperparameters
from medloop.documents.networks import NETWORKS, networks_with
from medloop.errors import SettingError
from steps.base import Settings

_MAX_COMBINATIONS = 1000
"""Corners of the search space that are checked together; beyond, each range is checked by itself."""


class Interval(Settings):
    """A number between two others, both included."""

    min: float
    max: float
    scaling: Literal["Auto", "Linear", "Logarithmic", "ReverseLogarithmic"] = "Auto"

    @model_validator(mode="after")
    def _scales(self) -> Self:
        if self.min >= self.max:
            raise ValueError("min must be less than max")
        if self.scaling == "Logarithmic" and self.min <= 0:
            raise ValueError("scaling=Logarithmic needs a min above 0")
        if self.scaling == "ReverseLogarithmic" and not (self.min >= 0 and self.max < 1):
            raise ValueError("scaling=ReverseLogarithmic needs 0 <= min and max < 1")
        return self

    @property
    def ends(self) -> Sequence[Any]:
        """The values whose checks stand for all."""
        return [self.min, self.max]


class Choices(Settings):
    """One of several values."""

    values: list[Any] = Field(min_length=1, max_length=30)

    @property
    def ends(self) -> Sequence[Any]:
        """The values whose checks stand for all."""
        return self.values


Range = Interval | Choices


def wire_value(value: Any) -> str:
    """Return a categorical value as the job gets it: JSON, except text that can't be mistaken for another type."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except json.JSONDecodeError:
        return value
    return json.dumps(value)


def sdk_ranges(ranges: Mapping[str, Range], model: type[Hyperparameters]) -> dict[str, Any]:
    """Make the SDK's parameter ranges by hyperparameter, sorted.

    Args:
        ranges: The settings.
        model: The task's hyperparameters, whose types say which numbers are integers.
    """
    from sagemaker.core.parameter import CategoricalParameter, ContinuousParameter, IntegerParameter

    parameters: dict[str, Any] = {}
    for name, item in sorted(ranges.items()):
        if isinstance(item, Choices):
            parameters[name] = CategoricalParameter([wire_value(value) for value in item.values])
        elif model.model_fields[name].annotation is int:
            parameters[name] = IntegerParameter(int(item.min), int(item.max), item.scaling)
        else:
            parameters[name] = ContinuousParameter(item.min, item.max, item.scaling)
    return parameters


def check_ranges(ranges: Mapping[str, Range], base: Hyperparameters) -> None:
    """Refuse what no training job could be started with.

    Args:
        ranges: The settings.
        base: The hyperparameters that aren't tuned.

    Raises:
        SettingError: The message names the range.
    """
    fields = type(base).model_fields
    for name, item in ranges.items():
        if name not in fields:
            raise SettingError(f"tune.ranges.{name}: no such hyperparameter; known: {', '.join(sorted(fields))}")
        if isinstance(item, Interval):
            _check_interval(name, item, fields[name].annotation)
        elif len({wire_value(value) for value in item.values}) < len(item.values):
            raise SettingError(f"tune.ranges.{name}: a value is there twice; remove one")
        for value in item.ends:
            _check_values(base, {name: value})
    _check_networks(ranges, base)
    corners = [item.ends for item in ranges.values()]
    size = 1
    for ends in corners:
        size *= len(ends)
    if len(ranges) > 1 and size <= _MAX_COMBINATIONS:
        for values in itertools.product(*corners):
            _check_values(base, dict(zip(ranges, values, strict=True)))


def _check_networks(ranges: Mapping[str, Range], base: Hyperparameters) -> None:
    """Refuse the range of a setting that no network of the trials takes: they would differ in nothing."""
    configured: str = base.model_dump()["model_name"]
    networks = ranges["model_name"].ends if "model_name" in ranges else [configured]
    for name in ranges:
        takers = networks_with(name, NETWORKS[configured].task)
        if takers and not any(network in takers for network in networks):
            shown = " or ".join(networks)
            raise SettingError(
                f"tune.ranges.{name}: {name} is for {' and '.join(takers)}, not for {shown}: leave it out"
            )


def _check_interval(name: str, item: Interval, kind: Any) -> None:
    if kind is int:
        if not (item.min.is_integer() and item.max.is_integer()):
            raise SettingError(f"tune.ranges.{name}: is a whole number; min and max must be whole numbers too")
        if item.scaling == "ReverseLogarithmic":
            raise SettingError(f"tune.ranges.{name}: a whole number can't be scaled ReverseLogarithmic; choose another")
    elif kind is not float:
        raise SettingError(f"tune.ranges.{name}: is no number between two others; give it `values: [...]`")


def _check_values(base: Hyperparameters, values: dict[str, Any]) -> None:
    """Refuse values that the job would refuse, spelled as it gets them."""
    try:
        type(base).from_wire({**base.to_wire(), **{name: wire_value(value) for name, value in values.items()}})
    except SettingError as error:
        blamed = next((name for name in values if f"hyperparameter {name}" in str(error)), None)
        setting = f"tune.ranges.{blamed or ', '.join(values)}"
        raise SettingError(f"{setting}: {error}") from None

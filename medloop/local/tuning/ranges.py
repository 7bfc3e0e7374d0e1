"""Ranges of hyperparameters as a tuning request spells them, and as Optuna searches them.

Optuna knows a value by its position; a job gets it as text. ReverseLogarithmic ranges are searched as
1 - x on a logarithmic scale, as SageMaker has them:
https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-define-ranges.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from medloop.local.errors import ServiceError, invalid
from medloop.local.state.store import Document

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Position = str | int | float
Scaling = Literal["Linear", "Logarithmic", "ReverseLogarithmic"]
_WIDE = 100.0
"""Auto searches a range logarithmically whose ends are this many times apart."""


@dataclass(frozen=True)
class CategoricalRange:
    """A categorical hyperparameter: each value is given to the job as it is spelled."""

    name: str
    values: tuple[str, ...]

    def distribution(self) -> BaseDistribution:
        """Optuna's distribution of its values."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def text(self, position: Position) -> str:
        """A value as the text of the job's hyperparameter."""
        return str(position)

    def position(self, text: str) -> Position | None:
        """The position of a value of an earlier tuning; None outside the range."""
        return text if text in self.values else None


@dataclass(frozen=True)
class NumericRange:
    """An integer or continuous hyperparameter from `low` to `high`, both included; Auto scaling is decided before."""

    name: str
    kind: Literal["Integer", "Continuous"]
    low: float
    high: float
    scaling: Scaling

    def distribution(self) -> BaseDistribution:
        """Optuna's distribution of its values."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.kind == "Integer":
            return IntDistribution(int(self.low), int(self.high), log=self.scaling == "Logarithmic")
        if self.scaling == "ReverseLogarithmic":
            return FloatDistribution(1 - self.high, 1 - self.low, log=True)
        return FloatDistribution(self.low, self.high, log=self.scaling == "Logarithmic")

    def text(self, position: Position) -> str:
        """A value as the text of the job's hyperparameter."""
        if self.kind == "Integer":
            return str(int(position))
        value = 1 - float(position) if self.scaling == "ReverseLogarithmic" else float(position)
        return repr(min(max(value, self.low), self.high))

    def position(self, text: str) -> Position | None:
        """The position of a value of an earlier tuning; None outside the range."""
        try:
            value = float(text)
        except ValueError:
            return None
        if not self.low <= value <= self.high or (self.kind == "Integer" and not value.is_integer()):
            return None
        if self.scaling == "ReverseLogarithmic":
            return min(max(1 - value, 1 - self.high), 1 - self.low)
        return int(value) if self.kind == "Integer" else value


Range = CategoricalRange | NumericRange


def read_ranges(config: Document) -> list[Range]:
    """The ranges of a HyperParameterTuningJobConfig, sorted by name.

    Raises:
        ServiceError: ValidationException that names the hyperparameter.
    """
    declared = config.get("ParameterRanges") or {}
    if declared.get("AutoParameters"):
        raise invalid("AutoParameters are not known to the local backend; give the ranges.")
    ranges: list[Range] = [
        CategoricalRange(item["Name"], tuple(item["Values"]))
        for item in declared.get("CategoricalParameterRanges") or []
    ]
    ranges += [_interval(item, "Integer") for item in declared.get("IntegerParameterRanges") or []]
    ranges += [_interval(item, "Continuous") for item in declared.get("ContinuousParameterRanges") or []]
    names = sorted(item.name for item in ranges)
    if not names:
        raise invalid("ParameterRanges must contain at least one hyperparameter.")
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise invalid(f"The hyperparameter {min(repeated)} has more than one range.")
    return sorted(ranges, key=lambda item: item.name)


def _interval(item: Document, kind: Literal["Integer", "Continuous"]) -> NumericRange:
    name = item["Name"]
    low, high = _number(item, "MinValue", kind), _number(item, "MaxValue", kind)
    if low > high:
        raise invalid(f"The range of the hyperparameter {name}: MinValue {low:g} is greater than MaxValue {high:g}.")
    scaling = item.get("ScalingType") or "Auto"
    if scaling == "Auto":
        scaling = "Logarithmic" if low > 0 and high / low >= _WIDE else "Linear"
    if scaling == "Logarithmic" and low <= 0:
        raise invalid(f"The range of the hyperparameter {name}: Logarithmic scaling needs a MinValue above 0.")
    if scaling == "ReverseLogarithmic" and (kind == "Integer" or low < 0 or high >= 1):
        raise invalid(
            f"The range of the hyperparameter {name}: ReverseLogarithmic scaling needs continuous values, 0 <= x < 1."
        )
    return NumericRange(name, kind, low, high, cast(Scaling, scaling))


def _number(item: Document, field: str, kind: str) -> float:
    error: ServiceError = invalid(
        f"The range of the hyperparameter {item['Name']}: {field} '{item[field]}' is not of type {kind}."
    )
    try:
        value = float(int(item[field])) if kind == "Integer" else float(item[field])
    except ValueError:
        raise error from None
    if not math.isfinite(value):
        raise error
    return value

"""The cost of an execution on AWS, computed from the pipeline's definition before anything starts.

The ceiling is the largest possible cost: every job runs until its MaxRuntimeInSeconds ends it. The estimate takes
hours that the user gives. Prices are data (`prices.json`). Spot instances are billed at the current Spot price, never
above the on-demand price, so the ceiling takes the on-demand price.

Not included: S3 requests and transfers, CloudWatch, Lambda (cents), and taxes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from medloop.definition.read import Definition, Step, member, value_text
from medloop.definition.step_types import type_of
from medloop.errors import SettingError

PRICES_FILE = Path(__file__).with_name("prices.json")
HOURS_A_MONTH = 730
_DEFAULT_RUNTIME = 86_400
"""SageMaker's limit for a job without MaxRuntimeInSeconds, in seconds."""


class Instance(BaseModel):
    """An instance type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpus: int
    usd_per_hour: float


class Prices(BaseModel):
    """The price list, in US dollars."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    as_of: str
    region: str
    storage_usd_per_gb_month: float
    s3_usd_per_gb_month: float
    spot_saving: float
    """The largest saving of Spot instances that AWS advertises, as a fraction."""
    instances: dict[str, Instance]

    def with_prices(self, hourly: Mapping[str, float]) -> Prices:
        """Return the list with some hourly prices replaced or added."""
        blank = Instance(gpus=0, usd_per_hour=0)
        replaced = {
            name: self.instances.get(name, blank).model_copy(update={"usd_per_hour": price})
            for name, price in hourly.items()
        }
        return self.model_copy(update={"instances": self.instances | replaced})


@dataclass(frozen=True)
class CostLine:
    """The cost of one step.

    Args:
        step: The step's name.
        instance: The instance type; empty for a serverless endpoint.
        what: The instances and their purchase option, as text.
        usd_per_hour: Price of all instances together; None if the type has no price.
        max_hours: The largest number of billed hours, over all jobs of the step.
        ceiling_usd: The largest cost of the step; None if the type has no price.
        hours: The hours that the user gave for the step.
        estimate_usd: Cost of those hours, Spot instances at their largest saving; None without hours.
        usd_per_month: Monthly cost after the execution, of an endpoint.
    """

    step: str
    instance: str
    what: str
    usd_per_hour: float | None
    max_hours: float
    ceiling_usd: float | None
    hours: float | None = None
    estimate_usd: float | None = None
    usd_per_month: float | None = None


@dataclass(frozen=True)
class _Cluster:
    """The instances of one job of a step."""

    instance: str
    count: int
    max_hours: float
    volume_gb: int
    jobs: int = 1
    spot: bool = False
    warm_hours: float = 0.0
    strategy: str = ""
    """The job's distribution strategy; empty if it names none."""


@cache
def load_prices() -> Prices:
    """Load the shipped price list."""
    return Prices.model_validate(json.loads(PRICES_FILE.read_text(encoding="utf-8")))


def price_definition(
    definition: Definition, values: Mapping[str, str], prices: Prices, hours: Mapping[str, float] | None = None
) -> list[CostLine]:
    """Price every step that costs money, with these values of the pipeline parameters.

    `hours` are those of a step's job (of all its jobs together, for tuning), by the step's name.

    Raises:
        SettingError: `hours` has a name that is not a step with a cost.
    """
    hours = hours or {}
    lines = [line for step in definition.in_order() for line in _lines(step, values, prices, hours.get(step.name))]
    if unknown := sorted(set(hours) - {line.step for line in lines}):
        known = ", ".join(line.step for line in lines)
        raise SettingError(f"--hours {unknown[0]}: no step of that name is billed by the hour; known: {known}")
    return lines


def ceiling(lines: list[CostLine]) -> float:
    """Return the largest possible cost of an execution, without monthly costs after it.

    Raises:
        SettingError: An instance type has no price.
    """
    for line in lines:
        if line.ceiling_usd is None:
            name = line.instance
            raise SettingError(f"step {line.step}: {name} has no price in the list; give one: --price {name}=USD")
    return sum(line.ceiling_usd or 0.0 for line in lines)


def _lines(step: Step, values: Mapping[str, str], prices: Prices, hours: float | None) -> Iterator[CostLine]:
    if type_of(step).variants:
        yield from _endpoint_lines(step, values, prices)
    cluster = _cluster(step, values)
    if cluster is None:
        return
    instance = prices.instances.get(cluster.instance)
    resources = f"{cluster.count} x {cluster.instance}{_terms(cluster, instance)}"
    max_hours = cluster.jobs * cluster.max_hours + cluster.warm_hours
    if instance is None:
        yield CostLine(step.name, cluster.instance, resources, None, max_hours, None, hours)
        return
    disk = cluster.count * cluster.volume_gb * prices.storage_usd_per_gb_month / HOURS_A_MONTH
    rate = cluster.count * instance.usd_per_hour
    paid = rate * (1 - prices.spot_saving) if cluster.spot else rate
    estimate = None if hours is None else hours * (paid + disk) + cluster.warm_hours * (rate + disk)
    yield CostLine(step.name, cluster.instance, resources, rate, max_hours, max_hours * (rate + disk), hours, estimate)


def _terms(cluster: _Cluster, instance: Instance | None) -> str:
    terms = [f", {cluster.jobs} jobs"] if cluster.jobs > 1 else []
    terms += [", spot"] if cluster.spot else []
    terms += [f", kept warm {60 * cluster.warm_hours:g} min"] if cluster.warm_hours else []
    if cluster.strategy in ("ddp", "fsdp") and instance and instance.gpus == 1 and cluster.count == 1:
        terms.append(f", one GPU: {cluster.strategy} trains as one process")
    return "".join(terms)


def _cluster(step: Step, values: Mapping[str, str]) -> _Cluster | None:
    kind = type_of(step).job
    if kind is None:
        return None
    job = kind.request(step.arguments)
    config = kind.cluster(step.arguments)
    if "InstanceType" not in config:
        return None
    seconds = _number(member(job, "StoppingCondition.MaxRuntimeInSeconds"), values, _DEFAULT_RUNTIME)
    return _Cluster(
        instance=value_text(config["InstanceType"], values),
        count=int(_number(config.get("InstanceCount"), values, 1)),
        max_hours=seconds / 3600,
        volume_gb=int(_number(config.get("VolumeSizeInGB"), values, 0)),
        jobs=int(_number(member(step.arguments, kind.num_trials), values, 1)),
        spot=job.get("EnableManagedSpotTraining") is True,
        warm_hours=_number(config.get("KeepAlivePeriodInSeconds"), values, 0) / 3600,
        strategy=_strategy(job),
    )


def _strategy(job: Mapping[str, Any]) -> str:
    """Return the job's hyperparameter `strategy`; hyperparameters are JSON text."""
    hyperparameters = job.get("HyperParameters") or job.get("StaticHyperParameters") or {}
    return str(hyperparameters.get("strategy", "")).strip('"')


def _endpoint_lines(step: Step, values: Mapping[str, str], prices: Prices) -> Iterator[CostLine]:
    """Yield the monthly cost of an endpoint; a serverless endpoint costs nothing while it is idle."""
    for variant in member(step.arguments, type_of(step).variants) or []:
        if "InstanceType" not in variant:
            yield CostLine(step.name, "", "serverless endpoint", 0.0, 0.0, 0.0, usd_per_month=0.0)
            continue
        kind = value_text(variant["InstanceType"], values)
        count = int(_number(variant.get("InitialInstanceCount"), values, 1))
        instance = prices.instances.get(kind)
        rate = None if instance is None else count * instance.usd_per_hour
        month = None if rate is None else rate * HOURS_A_MONTH
        cost = 0.0 if instance else None
        yield CostLine(step.name, kind, f"{count} x {kind}, endpoint", rate, 0.0, cost, usd_per_month=month)


def _number(value: Any, values: Mapping[str, str], default: float) -> float:
    if value is None:
        return default
    text = value_text(value, values)
    try:
        return float(text)
    except ValueError:
        raise SettingError(f"the plan has {text!r} where a number belongs; give the parameter a value") from None

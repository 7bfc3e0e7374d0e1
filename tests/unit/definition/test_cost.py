"""What a plan costs, against sums done by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medloop.definition.cost import HOURS_A_MONTH, Instance, Prices, ceiling, load_prices, price_definition
from medloop.definition.read import read_definition
from medloop.errors import SettingError

STORAGE = 0.073
"""USD a GB and month: 0.0001 a GB and hour."""
PRICES = Prices(
    source="test", as_of="now", region="r", storage_usd_per_gb_month=STORAGE, s3_usd_per_gb_month=0.02,
    spot_saving=0.7,
    instances={"ml.x.y": Instance(gpus=0, usd_per_hour=2.0)},
)  # fmt: skip
RESOURCES = {"InstanceType": {"Get": "Parameters.Type"}, "InstanceCount": 3, "VolumeSizeInGB": 100}


def lines(kind: str, arguments: dict[str, Any], hours: dict[str, float] | None = None, machine: str = "ml.x.y") -> Any:
    """The priced lines of a pipeline of one step."""
    steps = [{"Name": "Only", "Type": kind, "Arguments": arguments}]
    text = json.dumps({"Version": "2020-12-01", "Steps": steps})
    return price_definition(read_definition(text), {"Type": machine}, PRICES, hours)


def test_a_job_costs_its_machines_and_disks_for_its_longest_time() -> None:
    """3 x 2 USD, and 300 GB of disk, for half an hour; the estimate for the hours given."""
    job = {"ResourceConfig": RESOURCES, "StoppingCondition": {"MaxRuntimeInSeconds": 1800}}
    (line,) = lines("Training", job, {"Only": 0.1})
    assert (line.usd_per_hour, line.max_hours) == (6.0, 0.5)
    assert line.ceiling_usd == pytest.approx(0.5 * (6 + 300 * STORAGE / HOURS_A_MONTH))
    assert line.estimate_usd == pytest.approx(0.1 * (6 + 0.03))


def test_a_job_without_a_limit_ends_after_a_day() -> None:
    """SageMaker's default of MaxRuntimeInSeconds."""
    cluster = {"InstanceType": "ml.x.y", "InstanceCount": 1, "VolumeSizeInGB": 0}
    (line,) = lines("Processing", {"ProcessingResources": {"ClusterConfig": cluster}})
    assert line.ceiling_usd == pytest.approx(48.0)


def test_spot_saves_in_the_estimate_and_not_in_the_ceiling() -> None:
    """AWS never bills spot above on-demand; what it saves is not known before."""
    job = {
        "ResourceConfig": RESOURCES | {"VolumeSizeInGB": 0},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200},
        "EnableManagedSpotTraining": True,
    }
    (line,) = lines("Training", job, {"Only": 1.0})
    assert line.ceiling_usd == pytest.approx(6.0)
    assert line.estimate_usd == pytest.approx(1.8)
    assert "spot" in line.what


def test_a_warm_pool_is_billed_while_it_waits() -> None:
    """Half an hour kept warm costs half an hour more."""
    job = {
        "ResourceConfig": RESOURCES | {"VolumeSizeInGB": 0, "KeepAlivePeriodInSeconds": 1800},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }
    (line,) = lines("Training", job)
    assert line.ceiling_usd == pytest.approx(9.0)


@pytest.mark.parametrize(("strategy", "gpus", "count", "said"), [
    ("ddp", 1, 1, True), ("fsdp", 1, 1, True), ("single", 1, 1, False), ("ddp", 4, 1, False), ("ddp", 1, 2, False),
])  # fmt: skip
def test_one_gpu_for_many_processes_is_reported(strategy: str, gpus: int, count: int, said: bool) -> None:
    """It is allowed, and one process; the one who pays may have meant another machine."""
    card = PRICES.instances["ml.x.y"].model_copy(update={"gpus": gpus})
    prices = PRICES.model_copy(update={"instances": {"ml.x.y": card}})
    job = {
        "ResourceConfig": {"InstanceType": "ml.x.y", "InstanceCount": count, "VolumeSizeInGB": 1},
        "HyperParameters": {"strategy": json.dumps(strategy)},
    }
    text = json.dumps({"Version": "2020-12-01", "Steps": [{"Name": "Only", "Type": "Training", "Arguments": job}]})
    (line,) = price_definition(read_definition(text), {}, prices)
    assert ("trains as one process" in line.what) == said


def test_a_tuning_costs_all_its_jobs() -> None:
    """Twenty jobs of an hour."""
    job = {"ResourceConfig": RESOURCES | {"VolumeSizeInGB": 0}, "StoppingCondition": {"MaxRuntimeInSeconds": 3600}}
    limits = {"MaxNumberOfTrainingJobs": 20, "MaxParallelTrainingJobs": 2}
    arguments = {"TrainingJobDefinition": job, "HyperParameterTuningJobConfig": {"ResourceLimits": limits}}
    (line,) = lines("Tuning", arguments)
    assert line.ceiling_usd == pytest.approx(120.0)


def test_an_endpoint_costs_by_the_month_and_a_serverless_one_nothing_idle() -> None:
    """An endpoint keeps running after the execution, so its price is no part of the execution's."""
    real = {"VariantName": "a", "InstanceType": "ml.x.y", "InitialInstanceCount": 2}
    serverless = {"VariantName": "b", "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}}
    priced = lines("EndpointConfig", {"ProductionVariants": [real, serverless]})
    assert [line.usd_per_month for line in priced] == [4.0 * HOURS_A_MONTH, 0.0]
    assert ceiling(priced) == 0.0


def test_a_type_without_a_price_is_named_with_the_option_that_sets_it() -> None:
    """No guess takes a price's place."""
    priced = lines("Training", {"ResourceConfig": RESOURCES}, machine="ml.new.huge")
    with pytest.raises(
        SettingError, match=r"step Only: ml\.new\.huge has no price in the list; .*--price ml\.new\.huge"
    ):
        ceiling(priced)


def test_hours_of_an_unknown_step_are_refused() -> None:
    """A misspelt step would leave its estimate out."""
    with pytest.raises(SettingError, match=r"--hours Trian: no step .* known: Only"):
        lines("Training", {"ResourceConfig": RESOURCES}, {"Trian": 1.0})


def test_the_shipped_list_has_the_workshops_machines_at_its_prices() -> None:
    """The workshop's table of recommended instances, to the cent."""
    table = {"ml.g5.xlarge": 1.41, "ml.g5.2xlarge": 1.52, "ml.g5.12xlarge": 7.09, "ml.g4dn.12xlarge": 4.89}
    listed = load_prices().instances
    assert {name: round(listed[name].usd_per_hour + 1e-9, 2) for name in table} == table
    assert {name: listed[name].gpus for name in table} == {
        "ml.g5.xlarge": 1, "ml.g5.2xlarge": 1, "ml.g5.12xlarge": 4, "ml.g4dn.12xlarge": 4,
    }  # fmt: skip

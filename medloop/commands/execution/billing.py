"""The bill of an execution on AWS: billed seconds x instances x prices. Locally: the largest cost it would have on AWS.

The service bills BillableTimeInSeconds of a training job, which includes the Spot discount, and the time in a warm
pool; of other jobs, the time from start to end. Prices are those of the shipped list, not of the account's bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medloop.commands.execution.step_facts import instances
from medloop.commands.execution.trials import TuningTrials
from medloop.commands.execution_status import Execution, ExecutionStep, StepJob, describe_job, seconds_between
from medloop.commands.output import duration
from medloop.definition.cost import HOURS_A_MONTH, CostLine, Prices, load_prices, price_definition
from medloop.definition.read import Definition
from medloop.definition.step_types import JobType
from medloop.errors import SettingError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient


@dataclass(frozen=True)
class StepBill:
    """The cost of one step.

    Args:
        step: The step's name.
        machines: The instances, as text.
        seconds: Billed seconds of each instance, over all jobs of the step; None if not known yet.
        usd: None if the seconds or the price are not known.
        remark: Conditions of the number.
    """

    step: str
    machines: str
    seconds: float | None
    usd: float | None
    remark: str = ""


@dataclass(frozen=True)
class Bill:
    """The cost of an execution.

    Args:
        spent: The cost by step, on AWS.
        plan: The largest cost by step on AWS, of a local execution.
        prices: The price list.
        region: The execution's region.
    """

    prices: Prices
    region: str
    spent: list[StepBill] = field(default_factory=list)
    plan: list[CostLine] = field(default_factory=list)

    @property
    def total(self) -> float:
        """US dollars of all steps with a known cost."""
        return sum(item.usd or 0.0 for item in self.spent)

    @property
    def unknown(self) -> list[str]:
        """Names of the steps without a known cost."""
        return [item.step for item in self.spent if item.usd is None]

    @property
    def ceiling(self) -> float | None:
        """The largest cost of the plan in US dollars; None if an instance has no price."""
        ceilings = [line.ceiling_usd for line in self.plan]
        return None if None in ceilings or not ceilings else sum(usd or 0.0 for usd in ceilings)


def plan_bill(definition: Definition, execution: Execution) -> Bill:
    """Return the bill of a local execution: nothing was billed; it has a ceiling for AWS only."""
    prices = load_prices()
    try:
        plan = [line for line in price_definition(definition, execution.parameters, prices) if line.max_hours]
    except SettingError:  # a parameter without a value
        plan = []
    return Bill(prices, "", plan=plan)


def bill_step(
    sagemaker: SageMakerClient, step: ExecutionStep, job: Mapping[str, Any], tuning: TuningTrials | None, prices: Prices
) -> StepBill | None:
    """Return the cost of a step's job, as the service describes it, until now; None if the step has no job.

    The client is for trials on Spot instances, whose descriptions alone have the discount.
    """
    if step.job is None:
        return None
    machines, cluster = instances(step.job.type, job) or "machines of several kinds", step.job.type.cluster(job)
    if step.source:
        return StepBill(step.name, machines, 0.0, 0.0, step.origin)
    seconds, remark = _billed(sagemaker, step.job.type, job, tuning)
    if step.attempts > 1:
        remark = "; ".join(filter(None, (remark, f"attempt {step.attempts}; those before it are not counted")))
    instance = prices.instances.get(str(cluster.get("InstanceType")))
    if instance is None:
        return StepBill(step.name, machines, seconds, None, "; ".join(filter(None, (remark, "not in the price list"))))
    disk = cluster.get("VolumeSizeInGB", 0) * prices.storage_usd_per_gb_month / HOURS_A_MONTH
    rate = cluster.get("InstanceCount", 1) * (instance.usd_per_hour + disk)
    return StepBill(step.name, machines, seconds, None if seconds is None else seconds / 3600 * rate, remark)


def _billed(
    sagemaker: SageMakerClient, kind: JobType, job: Mapping[str, Any], tuning: TuningTrials | None
) -> tuple[float | None, str]:
    """Return the billed seconds of each instance, and a remark."""
    if tuning is not None:
        return _billed_trials(sagemaker, job, tuning)
    if kind.trains:
        return _billed_training(job, kind)
    return _between(job, kind), ""


def _billed_training(job: Mapping[str, Any], kind: JobType) -> tuple[float | None, str]:
    retained = job.get("WarmPoolStatus", {}).get("ResourceRetainedBillableTimeInSeconds", 0)
    remarks = [f"{duration(retained)} of it kept warm"] if retained else []
    billed, ran = job.get("BillableTimeInSeconds"), job.get("TrainingTimeInSeconds")
    if job.get("EnableManagedSpotTraining"):
        if billed is None:
            return None, "spot: known when the job has ended"
        remarks.append(f"spot saved {100 * (1 - billed / ran):.0f} %" if ran else "spot")
    if billed is None:
        billed = _between(job, kind)
    return billed + retained, "; ".join(remarks)


def _billed_trials(
    sagemaker: SageMakerClient, job: Mapping[str, Any], tuning: TuningTrials
) -> tuple[float | None, str]:
    """Return billed seconds of all trials and a remark."""
    if not job.get("TrainingJobDefinition", {}).get("EnableManagedSpotTraining"):
        begun = [(trial.started, trial.seconds) for trial in tuning.trials if trial.started]
        ran = [seconds_between(started, None) or 0.0 if seconds is None else seconds for started, seconds in begun]
        return sum(ran), f"{len(ran)} jobs"
    described = [describe_job(sagemaker, StepJob("training", trial.job, "")) for trial in tuning.trials]
    known = [item for item in described if "BillableTimeInSeconds" in item]
    billed = sum(item["BillableTimeInSeconds"] for item in known)
    ran_for = sum(item.get("TrainingTimeInSeconds", 0) for item in known)
    saved = f", spot saved {100 * (1 - billed / ran_for):.0f} %" if ran_for else ", spot"
    running = len(described) - len(known)
    return float(billed), f"{len(known)} jobs{saved}" + (f"; {running} not ended are not counted" if running else "")


def _between(job: Mapping[str, Any], kind: JobType) -> float:
    """Return the seconds from a job's start to its end, or until now; 0 if it did not start."""
    started, ended = job.get(f"{kind.time_prefix}StartTime"), job.get(f"{kind.time_prefix}EndTime")
    return seconds_between(started, ended) or 0.0

"""What an execution's steps cost on AWS: billed seconds x machines x prices. Locally: what they would cost at most.

What is billed, by the service's reference: of a training job, BillableTimeInSeconds, from which spot's discount has
been taken already, and the time that a warm pool was kept; of other jobs the time from their start to their end. Prices
are those of the shipped list, not of the account's bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medloop.commands.execution.step_facts import instances
from medloop.commands.execution.trials import Tuning
from medloop.commands.execution_status import Execution, Job, Step, describe_job
from medloop.commands.output import duration
from medloop.definition.cost import HOURS_A_MONTH, CostLine, Prices, load_prices, price_definition
from medloop.definition.read import Definition
from medloop.definition.step_types import JobType
from medloop.errors import SettingError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient


@dataclass(frozen=True)
class StepBill:
    """What one step cost.

    Args:
        step: Its name.
        machines: In words.
        seconds: Billed, of each machine, over all jobs of the step; None where it can't be known yet.
        usd: None where that, or the price, isn't known.
        remark: What a reader must know of it.
    """

    step: str
    machines: str
    seconds: float | None
    usd: float | None
    remark: str = ""


@dataclass(frozen=True)
class Bill:
    """What an execution cost, or would ask.

    Args:
        spent: By step, on AWS.
        plan: By step, locally: what its machines would cost on AWS at most.
        prices: The list.
        region: Where the execution ran.
    """

    prices: Prices
    region: str
    spent: list[StepBill] = field(default_factory=list)
    plan: list[CostLine] = field(default_factory=list)

    @property
    def total(self) -> float:
        """US dollars of all steps whose cost is known."""
        return sum(item.usd or 0.0 for item in self.spent)

    @property
    def unknown(self) -> list[str]:
        """Steps whose cost is not known."""
        return [item.step for item in self.spent if item.usd is None]

    @property
    def ceiling(self) -> float | None:
        """US dollars at most, of the plan; None where a machine has no price."""
        found = [line.ceiling_usd for line in self.plan]
        return None if None in found or not found else sum(usd or 0.0 for usd in found)


def plan_bill(definition: Definition, execution: Execution) -> Bill:
    """The bill of an execution on this machine: nothing was billed, and only a ceiling can be told of AWS."""
    prices = load_prices()
    try:
        plan = [line for line in price_definition(definition, execution.parameters, prices) if line.max_hours]
    except SettingError:  # a parameter without a value
        plan = []
    return Bill(prices, "", plan=plan)


def bill_step(
    sagemaker: SageMakerClient, step: Step, job: Mapping[str, Any], tuning: Tuning | None, prices: Prices
) -> StepBill | None:
    """What a step's job cost until now; None where the step has no job.

    Args:
        sagemaker: A client, for the trials of a tuning on spot.
        step: The step.
        job: The service's description of its job.
        tuning: The trials, where the step tuned.
        prices: The list.
    """
    if step.job is None:
        return None
    machines, found = instances(step.job.type, job) or "machines of several kinds", step.job.type.cluster(job)
    if step.source:
        return StepBill(step.name, machines, 0.0, 0.0, step.origin)
    seconds, remark = _billed(sagemaker, step.job.type, job, tuning)
    if step.attempts > 1:
        remark = "; ".join(filter(None, (remark, f"attempt {step.attempts}; those before it are not counted")))
    instance = prices.instances.get(str(found.get("InstanceType")))
    if instance is None:
        return StepBill(step.name, machines, seconds, None, "; ".join(filter(None, (remark, "not in the price list"))))
    disk = found.get("VolumeSizeInGB", 0) * prices.storage_usd_per_gb_month / HOURS_A_MONTH
    rate = found.get("InstanceCount", 1) * (instance.usd_per_hour + disk)
    return StepBill(step.name, machines, seconds, None if seconds is None else seconds / 3600 * rate, remark)


def _billed(
    sagemaker: SageMakerClient, kind: JobType, job: Mapping[str, Any], tuning: Tuning | None
) -> tuple[float | None, str]:
    """Billed seconds of each machine, and a remark."""
    if tuning is not None:
        return _billed_trials(sagemaker, job, tuning)
    if kind.trains:
        return _billed_training(job, kind)
    return _between(job, kind), ""


def _billed_training(job: Mapping[str, Any], kind: JobType) -> tuple[float | None, str]:
    kept = job.get("WarmPoolStatus", {}).get("ResourceRetainedBillableTimeInSeconds", 0)
    remarks = [f"{duration(kept)} of it kept warm"] if kept else []
    billed, ran = job.get("BillableTimeInSeconds"), job.get("TrainingTimeInSeconds")
    if job.get("EnableManagedSpotTraining"):
        if billed is None:
            return None, "spot: known when the job has ended"
        remarks.append(f"spot saved {100 * (1 - billed / ran):.0f} %" if ran else "spot")
    if billed is None:
        billed = _between(job, kind)
    return billed + kept, "; ".join(remarks)


def _billed_trials(sagemaker: SageMakerClient, job: Mapping[str, Any], tuning: Tuning) -> tuple[float | None, str]:
    """A trial's summary has the times that are billed; on spot, only its own description knows the discount."""
    if not job.get("TrainingJobDefinition", {}).get("EnableManagedSpotTraining"):
        now = datetime.now(UTC)
        begun = [(trial.started, trial.seconds) for trial in tuning.trials if trial.started]
        ran = [(now - started).total_seconds() if seconds is None else seconds for started, seconds in begun]
        return sum(ran), f"{len(ran)} jobs"
    described = [describe_job(sagemaker, Job("training", trial.job, "")) for trial in tuning.trials]
    known = [item for item in described if "BillableTimeInSeconds" in item]
    billed = sum(item["BillableTimeInSeconds"] for item in known)
    ran_for = sum(item.get("TrainingTimeInSeconds", 0) for item in known)
    saved = f", spot saved {100 * (1 - billed / ran_for):.0f} %" if ran_for else ", spot"
    running = len(described) - len(known)
    return float(billed), f"{len(known)} jobs{saved}" + (f"; {running} not ended are not counted" if running else "")


def _between(job: Mapping[str, Any], kind: JobType) -> float:
    """Seconds from a job's start to its end, or until now; none where it did not start."""
    started, ended = job.get(f"{kind.time_prefix}StartTime"), job.get(f"{kind.time_prefix}EndTime")
    if started is None:
        return 0.0
    return float(((ended or datetime.now(UTC)) - started).total_seconds())

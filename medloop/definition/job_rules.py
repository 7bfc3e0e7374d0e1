"""Rules of jobs beyond a request's shape, of Spot instances and network isolation.

AWS refuses a job that breaks one when the job starts, or accepts it and does something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medloop.definition.read import Definition, mappings, member
from medloop.definition.step_types import JobType, type_of

DRIVERS = "sm_drivers"
"""The channel that makes a training job one of script mode."""
_W_AND_B_OFFLINE = {"offline", "disabled", "dryrun"}


def check_jobs(definition: Definition) -> Iterator[str]:
    """Yield the problems of all steps that start jobs, one line each."""
    defaults = {parameter.name: parameter.default for parameter in definition.parameters}
    for step in definition.steps:
        if (kind := type_of(step).job) is not None:
            for job in kind.requests(step.arguments):
                yield from (f"step {step.name}: {problem}" for problem in _problems(kind, job, defaults))


def _problems(kind: JobType, job: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    if kind.trains:
        yield from _spot(job)
    if member(job, kind.isolation) is True:
        yield from _isolation(job, defaults)
    elif is_script_mode(job) and job.get("VpcConfig") and not member(job, "Environment.PIP_INDEX_URL"):
        yield (
            "script mode in a VPC, which reaches no package index unless it has a way out, and pip would fail on a "
            "billed instance; set train.mode=container, or train.package_index to an index that the VPC reaches"
        )


def _spot(job: Mapping[str, Any]) -> Iterator[str]:
    running = member(job, "StoppingCondition.MaxRuntimeInSeconds")
    waiting = member(job, "StoppingCondition.MaxWaitTimeInSeconds")
    if not job.get("EnableManagedSpotTraining"):
        if waiting is not None:
            yield "MaxWaitTimeInSeconds is for EnableManagedSpotTraining only"
        return
    if waiting is None:
        yield "EnableManagedSpotTraining needs a MaxWaitTimeInSeconds"
    elif isinstance(running, int) and isinstance(waiting, int) and waiting < running:
        yield f"MaxWaitTimeInSeconds is {waiting}, less than MaxRuntimeInSeconds, {running}, which it includes"
    if member(job, "ResourceConfig.KeepAlivePeriodInSeconds"):
        yield "EnableManagedSpotTraining and a warm pool (KeepAlivePeriodInSeconds) exclude each other"
    if not job.get("CheckpointConfig"):
        yield "EnableManagedSpotTraining without a CheckpointConfig starts again from nothing at each interruption"
    if is_script_mode(job):
        yield "EnableManagedSpotTraining in script mode: its shell hides the signal of an interruption"


def _isolation(job: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield what needs the network in an isolated job."""
    environment = job.get("Environment")
    environment = environment if isinstance(environment, Mapping) else {}  # `requests` checks its type
    if is_script_mode(job):
        yield "network isolation in script mode, whose requirements are installed from the network; take container"
    if _is_set(environment.get("MLFLOW_TRACKING_URI"), defaults):
        yield "network isolation with an MLflow server (MLFLOW_TRACKING_URI), which the job could not reach"
    keys = [name for name in environment if name.startswith("WANDB_") and "KEY" in name]
    mode = environment.get("WANDB_MODE", "online" if keys else "offline")
    if mode not in _W_AND_B_OFFLINE:
        yield "network isolation with Weights & Biases online (WANDB_MODE); log offline, or not at all"


def _is_set(value: Any, defaults: Mapping[str, Any]) -> bool:
    """True if a value is set: a parameter by its default, any other expression always."""
    if isinstance(value, Mapping) and str(value.get("Get", "")).startswith("Parameters."):
        return bool(defaults.get(str(value["Get"]).removeprefix("Parameters.")))
    return bool(value)


def is_script_mode(job: Mapping[str, Any]) -> bool:
    """True if the SDK's drivers start a training job's code."""
    return any(channel.get("ChannelName") == DRIVERS for channel in mappings(job.get("InputDataConfig")))

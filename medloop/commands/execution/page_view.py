"""The content of an execution's page, read from either target; later reads fetch only what may have changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloop.commands.evaluations import evaluation_uri
from medloop.commands.execution.billing import Bill, StepBill, bill_step, plan_bill
from medloop.commands.execution.charts import Chart
from medloop.commands.execution.curves import metric_charts, read_curves, tuning_charts
from medloop.commands.execution.logs import JobLog
from medloop.commands.execution.redaction import clean_text
from medloop.commands.execution.step_facts import Group, job_facts, other_facts
from medloop.commands.execution.summary import Evidence, RegisteredVersion, read_evidence, read_version
from medloop.commands.execution.trials import TuningTrials, read_tuning
from medloop.commands.execution_status import (
    Execution,
    ExecutionStep,
    StepJob,
    describe_job,
    failed_step,
    failure_text,
    read_execution,
)
from medloop.definition.cost import load_prices
from medloop.definition.read import Definition, member, read_definition
from medloop.errors import UserError
from medloop.log_metrics import metric_patterns

if TYPE_CHECKING:
    from medloop.cloud.target import Target

MAX_LINES = 40
MAX_CHARACTERS = 400
_ENDED = frozenset({"Succeeded", "Failed", "Stopped"})


@dataclass(frozen=True)
class StepPart:
    """The content of one step."""

    step: ExecutionStep
    reason: str
    facts: list[Group] = field(default_factory=list)
    spent: StepBill | None = None
    charts: list[Chart] = field(default_factory=list)
    tuning: TuningTrials | None = None
    log: list[str] = field(default_factory=list)
    """The last lines, cleaned."""
    num_lines: int = 0

    @property
    def remark(self) -> str:
        """The text next to its state."""
        return self.step.remark(" ".join(self.reason.split()))


@dataclass(frozen=True)
class View:
    """An execution at one moment."""

    execution: Execution
    definition: Definition
    parts: list[StepPart]
    bill: Bill
    evidence: Evidence | None
    version: RegisteredVersion | None
    at: datetime

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Names and reasons of failures, the step that ended the execution first; the execution's own has no name."""
        ended_by = failed_step(self.execution)
        parts = sorted((p for p in self.parts if p.step.status == "Failed"), key=lambda p: p.step is not ended_by)
        failures = [(part.step.name, _first_line(part.reason) or "no reason was given") for part in parts]
        reason = _first_line(clean_text(self.execution.reason))
        is_named = any(reason in text or text in reason for _, text in failures)
        return failures if is_named or not reason else [*failures, ("", reason)]


class ViewReader:
    """Reads an execution repeatedly.

    Steps that have ended are read once, and logs from where the last read stopped. An execution that has ended is read
    as a whole, as the last lines of a log may arrive after the end of its job.
    """

    def __init__(self, target: Target, home: Path, arn: str) -> None:
        """Read this execution; reports on S3 are downloaded into home."""
        self._target, self._home, self._arn = target, home, arn
        self._sagemaker, self._logs = target.boto.client("sagemaker"), target.boto.client("logs")
        self._lines: dict[str, tuple[JobLog, list[str]]] = {}
        self._parts: dict[tuple[str, str, str], StepPart] = {}
        self._evidence: tuple[str, Evidence | None] = ("", None)
        text = self._sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)
        self._definition = read_definition(text["PipelineDefinition"])

    def read(self) -> View:
        """Read the execution's current state."""
        execution = read_execution(self._sagemaker, self._arn)
        if not execution.running:
            self._lines, self._parts = {}, {}
        parts = [self._part(step) for step in execution.steps]
        return View(
            execution=execution,
            definition=self._definition,
            parts=parts,
            bill=self._bill(execution, parts),
            evidence=self._read_evidence(execution),
            version=read_version(self._sagemaker, execution),
            at=datetime.now(UTC),
        )

    def _bill(self, execution: Execution, parts: list[StepPart]) -> Bill:
        if self._target.name == "local":
            return plan_bill(self._definition, execution)
        region = self._arn.split(":")[3]
        return Bill(load_prices(), region, spent=[part.spent for part in parts if part.spent])

    def _part(self, step: ExecutionStep) -> StepPart:
        key = (step.name, step.job.name if step.job else "", step.status)
        if key not in self._parts:
            part = self._read_part(step)
            if step.status not in _ENDED:
                return part
            self._parts[key] = part
        return self._parts[key]

    def _read_part(self, step: ExecutionStep) -> StepPart:
        reason = clean_text(failure_text(self._sagemaker, step) if step.status == "Failed" else step.reason)
        if step.job is None:
            return StepPart(step, reason, other_facts(self._sagemaker, self._definition, step))
        job, lines = describe_job(self._sagemaker, step.job), self._log(step.job)
        tuning, charts = None, []
        if step.job.type.trials:
            tuning = read_tuning(self._sagemaker, step.name, step.job)
            charts = tuning_charts(tuning, _trial_curves(step.job.type.request(job), tuning, lines))
        elif step.job.type.trains:
            charts = metric_charts(read_curves(lines, _patterns(job)))
        ends = [_end(line) for line in lines[-MAX_LINES:]]
        spent = None
        if self._target.name != "local":
            spent = bill_step(self._sagemaker, step, job, tuning, load_prices())
        return StepPart(step, reason, job_facts(step.job.type, job), spent, charts, tuning, ends, len(lines))

    def _log(self, job: StepJob) -> list[str]:
        log, lines = self._lines.setdefault(job.name, (JobLog(self._logs, job), []))
        lines += log.new_lines()
        return lines

    def _read_evidence(self, execution: Execution) -> Evidence | None:
        uri = evaluation_uri(self._target, execution)
        if uri and uri != self._evidence[0]:
            self._evidence = uri, _evidence(self._target, self._home, uri)
        return self._evidence[1] if uri else None


def _evidence(target: Target, home: Path, uri: str) -> Evidence | None:
    """None where it was deleted since, or is of a form that is not known: the page says the rest all the same."""
    from botocore.exceptions import ClientError

    try:
        return read_evidence(target, home, uri)
    except (ClientError, UserError):
        return None


def _first_line(text: str) -> str:
    """First line of a reason; a traceback after it is shown with the step."""
    return text.strip().partition("\n")[0]


def _end(line: str) -> str:
    shown = clean_text(line)
    return shown if len(shown) <= MAX_CHARACTERS else shown[:MAX_CHARACTERS] + " …"


def _patterns(job: Mapping[str, Any]) -> dict[str, Any]:
    return metric_patterns(member(job, "AlgorithmSpecification.MetricDefinitions"))


def _trial_curves(
    job: Mapping[str, Any], tuning: TuningTrials, lines: list[str]
) -> dict[int, list[tuple[float, float]]]:
    """The objective by epoch of each trial, whose lines begin with its number; `job` is the trials' own request."""
    patterns = {name: pattern for name, pattern in _patterns(job).items() if name == tuning.metric}
    curves = {}
    for trial in tuning.trials:
        trial_lines = [line for line in lines if line.startswith(f"[{trial.number:03d}] ")]
        points = read_curves(trial_lines, patterns).get(tuning.metric)
        if points:
            curves[trial.number] = points
    return curves

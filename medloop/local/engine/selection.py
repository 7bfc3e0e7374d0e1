"""Selective execution: some steps of a pipeline run, what they need comes from an earlier execution.

https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-selective-ex.html
"""

from __future__ import annotations

from medloop.definition.read import OUTCOMES, Definition, Step
from medloop.local.engine.executions import pipeline_of, read
from medloop.local.engine.results import recorded
from medloop.local.errors import ServiceError, invalid
from medloop.local.state.store import Document, Table, Transaction

_OF_ITS_EXECUTION = ("AttemptCount", "CacheHitResult", "FailureReason")
"""Fields of a step's record that concern its own execution only."""
_ENDED = ("Failed", "Succeeded", "Stopped")


class Selection:
    """A SelectiveExecutionConfig: the names of the steps that run, and the execution that others' results come from."""

    def __init__(self, config: Document) -> None:
        self.selected = frozenset(step["StepName"] for step in config["SelectedSteps"])
        self.source: str = config.get("SourcePipelineExecutionArn", "")

    def reused(self, transaction: Transaction, pipeline: str, definition: Definition) -> list[Document]:
        """Records of the steps whose results are taken from the source execution of the pipeline of that name.

        Raises:
            ServiceError: ValidationException: the selection has a gap, or a result that it needs is not in the source.
        """
        steps = {step.name: step for step in definition.steps}
        self._check(steps)
        needed = sorted({need for name in self.selected for need in steps[name].needs} - self.selected)
        if needed and not self.source:
            raise invalid(
                f"Invalid SourcePipelineExecutionArn: null. "
                f"The selected steps [{self._names()}] have dependencies on [{', '.join(needed)}]"
            )
        if not self.source:
            return []
        source = self._source(transaction, pipeline)
        done = {
            step["StepName"]: step
            for step in transaction.select(Table.STEPS, self.source)
            if step["StepStatus"] == "Succeeded"
        }
        if missing := [name for name in needed if name not in done]:
            raise invalid(
                f"Invalid SourcePipelineExecutionArn: {self.source}. The selected steps [{self._names()}] have "
                f"dependencies on [{', '.join(missing)}], which did not succeed in that execution"
            )
        self._check_branches(steps, done)
        above = {name for selected in self.selected for name in _above(steps, selected)} - self.selected
        return [self._reuse(transaction, source, step) for name, step in done.items() if name in above]

    def _names(self) -> str:
        return ", ".join(sorted(self.selected))

    def _check(self, steps: dict[str, Step]) -> None:
        if unknown := sorted(self.selected - set(steps)):
            raise invalid(f"Invalid SelectedSteps: [{', '.join(unknown)}] are no steps of the pipeline")
        for name in sorted(self.selected):
            above = _above(steps, name)
            for between in sorted(above - self.selected):
                if _above(steps, between) & self.selected:
                    raise invalid(
                        f"Invalid SelectedSteps: step {between} is on a path between selected steps "
                        f"[{self._names()}]; all steps of all paths between two selected steps must be selected"
                    )

    def _source(self, transaction: Transaction, pipeline: str) -> Document:
        try:
            source = read(transaction, self.source)
        except ServiceError as error:
            raise invalid(f"Invalid SourcePipelineExecutionArn: {self.source}. {error.message}") from error
        if pipeline_of(self.source) != pipeline:
            raise invalid(f"Invalid SourcePipelineExecutionArn: {self.source} is not an execution of {pipeline}")
        if source["PipelineExecutionStatus"] not in _ENDED:
            raise invalid(
                f"Invalid SourcePipelineExecutionArn: {self.source} has not ended ({source['PipelineExecutionStatus']})"
            )
        return source

    def _check_branches(self, steps: dict[str, Step], done: dict[str, Document]) -> None:
        for name in sorted(self.selected):
            branch = steps[name].branch
            if branch is None or branch[0] in self.selected:
                continue
            outcome = done[branch[0]].get("Metadata", {}).get("Condition", {}).get("Outcome")
            if outcome != OUTCOMES[branch[1]]:
                raise invalid(
                    f"Invalid SelectedSteps: step {name} runs only where {branch[0]} is {OUTCOMES[branch[1]]}, "
                    f"and in {self.source} it was {outcome}"
                )

    def _reuse(self, transaction: Transaction, source: Document, step: Document) -> Document:
        result = recorded(transaction, source, step)
        origin = step.get("SelectiveExecutionResult", {}).get("SourcePipelineExecutionArn", self.source)
        shown = {key: value for key, value in step.items() if key not in _OF_ITS_EXECUTION}
        result_fields = {"_properties": result.properties, "_property_files": result.property_files}
        return {**shown, **result_fields, "SelectiveExecutionResult": {"SourcePipelineExecutionArn": origin}}


def _above(steps: dict[str, Step], name: str) -> set[str]:
    """All steps that a step waits for, directly or not."""
    above: set[str] = set()
    left = [name]
    while left:
        new = steps[left.pop()].needs - above
        above |= new
        left += new
    return above

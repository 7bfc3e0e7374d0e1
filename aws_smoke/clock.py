"""Check `schedule`: a schedule two minutes ahead starts a pipeline, whose condition isn't met.

The stack's own scheduler role may start the guard alone, and the guard the stack's pipelines alone, so the schedule
has a role of this run: it starts the pipeline itself, as `schedules create` does without the stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError

from aws_smoke.check import Case, NotTriedError, UnexpectedError
from aws_smoke.lab import Lab, policy
from aws_smoke.refusal import MESSAGE, failed_step, follow, refusal_definition
from medloop.cloud.schedules import PREFIX as SCHEDULE_PREFIX
from medloop.cloud.schedules import SCHEDULED_TIME, create_schedule
from medloop.errors import MedloopError

AHEAD = timedelta(minutes=2)


def schedule_cases(lab: Lab) -> Iterator[Case]:
    """Yield the schedule's creation, its start, and the execution's end."""
    check = _Schedule(lab)
    yield Case("created two minutes ahead", check.create)
    yield Case("started the pipeline at its time", check.wait_for_start)
    yield Case("failed by its condition, with the time that the schedule named", check.verify_end)


@dataclass
class _Schedule:
    lab: Lab
    created: bool = False
    execution: str = ""

    @property
    def name(self) -> str:
        """The name of schedule, pipeline and role."""
        return self.lab.name("clock")

    def create(self) -> str:
        """Create role, pipeline and schedule."""
        lab = self.lab
        role = lab.create_role("clock", "scheduler", lab.target.account)
        arn = lab.create_pipeline(self.name, refusal_definition(), lab.target.role_arn)
        start = {"Effect": "Allow", "Action": "sagemaker:StartPipelineExecution", "Resource": arn}
        request = {"RoleName": self.name, "PolicyName": "start", "PolicyDocument": policy(start)}
        lab.send("iam", "PutRolePolicy", request)
        lab.notes.append(("schedule", self.name))
        expression = lab.until(
            lambda: self._create_schedule(role), seconds=60, every=10, subject="EventBridge can assume the role"
        )
        self.created = True
        return str(expression)

    def _create_schedule(self, role: str) -> str | None:
        """Create the schedule; None while the new role isn't known everywhere."""
        time = f"at({self.lab.now() + AHEAD:%Y-%m-%dT%H:%M:%S})"
        short = self.name.removeprefix(SCHEDULE_PREFIX)
        try:
            create_schedule(self.lab.target, short, self.name, time, "UTC", {}, role)
        except (ClientError, MedloopError) as error:
            if "assume" not in str(error):
                raise
            return None
        return time

    def wait_for_start(self) -> str:
        """Wait for the execution that the schedule starts."""
        if not self.created:
            raise NotTriedError("the schedule wasn't created")

        def poll() -> list[dict[str, Any]]:
            listed = self.lab.send("sagemaker", "ListPipelineExecutions", {"PipelineName": self.name})
            return list(listed["PipelineExecutionSummaries"])

        executions = self.lab.until(poll, seconds=480, every=15, subject="the schedule started an execution")
        if len(executions) > 1:
            raise UnexpectedError(f"ListPipelineExecutions: the schedule started {len(executions)} executions, not one")
        self.execution = executions[0]["PipelineExecutionArn"]
        return self.execution

    def verify_end(self) -> str:
        """Compare the execution's end with the condition's."""
        if not self.execution:
            raise NotTriedError("no execution was started")
        described = follow(self.lab, self.execution, seconds=600)
        if described["PipelineExecutionStatus"] != "Failed":
            raise UnexpectedError(f"the execution is {described['PipelineExecutionStatus']}, expected Failed")
        reason = str(failed_step(self.lab, self.execution).get("FailureReason", ""))
        if MESSAGE not in reason or SCHEDULED_TIME in reason:
            raise UnexpectedError(f"the Fail step's reason is {reason!r}, expected {MESSAGE!r} and the scheduled time")
        return reason

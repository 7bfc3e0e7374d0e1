"""The parts of a check: its row in the table, its cases, and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from botocore.exceptions import ClientError
from pydantic import BaseModel, ConfigDict

from medloop.errors import MedloopError, printable

if TYPE_CHECKING:
    from aws_smoke.lab import Lab

Status = Literal["passed", "failed", "not tried"]


class UnexpectedError(MedloopError):
    """A response of AWS that differs from what medloop relies on."""


class NotTriedError(MedloopError):
    """A case that can't be tried; the message is the reason."""


class Learned(str):
    """The text of a case that resolves an unknown of docs/deploy.md."""

    __slots__ = ()


@dataclass(frozen=True)
class Case:
    """One thing that a check tries.

    Args:
        name: Unique within the check.
        run: Tries it, and returns what was learned in one line.
    """

    name: str
    run: Callable[[], str]


@dataclass(frozen=True)
class Check:
    """A row of the table.

    Args:
        name: As in `--only` and in docs/deploy.md.
        proves: What holds in the account if it passes.
        cases: Makes the cases; nothing is sent before one of them runs.
        makes: Kinds of resources that it creates (aws_smoke.resources), which are deleted after it.
        calls: Operations that it sends, except those that delete.
        unknown: Beginning of the row of docs/deploy.md's unknowns that it resolves; empty for none.
        images: Containers whose images it needs in ECR.
        usd: Estimated cost.
        most_usd: The largest cost: each job runs until its time limit.
        consent: True if it is confirmed by itself, with its price.
    """

    name: str
    proves: str
    cases: Callable[[Lab], Iterator[Case]]
    makes: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    usd: float = 0.0
    most_usd: float = 0.0
    consent: bool = False


class ServiceProblem(BaseModel):
    """An error as a service reported it."""

    model_config = ConfigDict(extra="forbid")

    operation: str
    code: str
    message: str
    request_id: str

    @classmethod
    def read(cls, error: ClientError) -> ServiceProblem:
        """Read a client's error; what the response lacks is empty."""
        facts, response = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        return cls(
            operation=str(getattr(error, "operation_name", "")),
            code=str(facts.get("Code", "")),
            message=_one_line(str(facts.get("Message", ""))),
            request_id=str(response.get("RequestId", "")),
        )

    @property
    def text(self) -> str:
        """One line."""
        return f"{self.operation}: {self.code}: {self.message} (request {self.request_id or 'without id'})"


class Result(BaseModel):
    """The result of a case."""

    model_config = ConfigDict(extra="forbid")

    check: str
    case: str
    status: Status
    detail: str
    learned: bool = False
    """True if it resolves an unknown of docs/deploy.md."""
    error: ServiceProblem | None = None


def try_case(check: str, case: Case) -> Result:
    """Run a case; any error becomes a result of one line, an interruption doesn't."""
    try:
        text = case.run()
        learned = isinstance(text, Learned)
        return Result(check=check, case=case.name, status="passed", detail=_one_line(text), learned=learned)
    except NotTriedError as reason:
        return Result(check=check, case=case.name, status="not tried", detail=str(reason))
    except Exception as error:
        return failure(check, case.name, error)


def failure(check: str, case: str, error: Exception) -> Result:
    """Make the result of an error: the service's own words, with its notes; a bug's type and message."""
    # medloop's own functions put a service's error into words of theirs.
    chain = (error, error.__cause__, error.__context__)
    refusal = next((each for each in chain if isinstance(each, ClientError)), None)
    problem = ServiceProblem.read(refusal) if refusal else None
    text = problem.text if problem else str(error)
    expected = isinstance(error, MedloopError | TimeoutError) or type(error).__module__.startswith("botocore")
    if problem is None and not expected:
        text = f"unexpected response: {type(error).__name__}: {error}"
    notes = "; ".join(getattr(error, "__notes__", ()))
    return Result(
        check=check,
        case=case,
        status="failed",
        detail=_one_line(f"{text}; {notes}" if notes else text),
        error=problem,
    )


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))

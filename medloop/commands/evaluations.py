"""An execution's or a version's evaluation.json, as commands read and print it.

pydantic is imported only when one is read: `medloop --help` doesn't wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medloop.commands.execution_status import Execution, output_uri
from medloop.commands.objects import read_object
from medloop.documents.file_names import EVALUATION_FILE

if TYPE_CHECKING:
    from medloop.cloud.target import Target
    from medloop.documents.evaluation import Evaluation


def evaluation_uri(target: Target, execution: Execution) -> str | None:
    """URI of the execution's evaluation.json; None if no step wrote one."""
    folder = output_uri(target, execution, "evaluation")
    return f"{folder}/{EVALUATION_FILE}" if folder else None


def read_evaluation(target: Target, uri: str) -> Evaluation:
    """Read an evaluation.json.

    Raises:
        DataError: It is malformed, or of a newer version than this code knows.
    """
    from medloop.documents.evaluation import Evaluation

    return Evaluation.parse(read_object(target, uri), uri)


def score_text(evaluation: Evaluation) -> str:
    """The main score as one phrase: name, value, interval, number of patients."""
    return f"{evaluation.score.name} {evaluation.score.value:.4f} {score_basis(evaluation)}"


def score_basis(evaluation: Evaluation) -> str:
    """The main score's interval and the patients that it is computed from."""
    interval, num_patients = evaluation.score.interval, evaluation.gate.num_patients
    patients = f"{num_patients} test patient{'' if num_patients == 1 else 's'}"
    basis = patients if num_patients else f"{evaluation.data.num_cases} test cases, patients unknown"
    return f"(95 % interval {interval.lower:.3f} to {interval.upper:.3f}) on {basis}" if interval else f"on {basis}"


def score_facts(evaluation: Evaluation) -> dict[str, Any]:
    """The main score as commands print it as JSON."""
    score = evaluation.score
    return {
        "name": score.name,
        "value": score.value,
        "num_patients": evaluation.gate.num_patients,
        "num_cases": evaluation.data.num_cases,
        "interval": (score.interval.lower, score.interval.upper) if score.interval else None,
    }


def metric_rows(evaluation: Evaluation) -> list[tuple[str, float, float | None]]:
    """Metrics as rows of name, value and standard deviation; a deviation of 0 was not estimated."""
    return [(name, metric.value, metric.standard_deviation or None) for name, metric in evaluation.metrics().items()]

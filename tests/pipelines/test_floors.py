"""Floors in the definition: arguments of Evaluate, within the service's limits, that the job reads back."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from medloop.container.arguments import parse_arguments, read_pairs
from medloop.evaluation.evaluate import EvaluateArguments
from steps.evaluate import MAX_ARGUMENT, MAX_FLOORS, EvaluateSettings, floor_arguments


def test_floors_reach_the_job() -> None:
    """Each an argument of its own; names with spaces, equal signs and other alphabets survive."""
    floors = {"cancer-associated stroma": 0.8, "a=b": 0.123456789, "Drüse": 1.0, "-x": 0.0}
    named = floor_arguments(EvaluateSettings(floors=floors))
    arguments = [word for name, value in named.items() for word in (f"--{name}", value)]
    assert list(named) == ["floor-1", "floor-2", "floor-3", "floor-4"]
    assert all(len(word) <= MAX_ARGUMENT for word in arguments)
    assert parse_arguments(EvaluateArguments, read_pairs(["--task", "classification", *arguments])).floors == floors


@pytest.mark.parametrize(
    "floors",
    [
        {"a": 1.01}, {"a": -0.1}, {"a": float("nan")}, {"": 0.5}, {"x" * 255: 0.5},
        {str(i): 0.5 for i in range(MAX_FLOORS + 1)},
    ],
    ids=["above 1", "below 0", "not finite", "no name", "too long", "too many"],
)  # fmt: skip
def test_what_does_not_fit_is_refused(floors: dict[str, float]) -> None:
    """Before anything is built."""
    with pytest.raises(ValidationError, match="floors"):
        EvaluateSettings(floors=floors)

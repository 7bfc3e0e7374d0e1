"""evaluation.json's record."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from medloop.documents.evaluation import MetricValue


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    """A number that isn't finite can't get into the record."""
    with pytest.raises(ValidationError):
        MetricValue(value=value, standard_deviation=0.0)

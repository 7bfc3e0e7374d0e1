"""The budget and the options of `pipelines cost`, on lines made by hand: building a definition takes seconds."""

from __future__ import annotations

import pytest

from medloop.commands.launch.costing import check_budget, price_lines
from medloop.definition.cost import CostLine
from medloop.definition.read import Definition
from medloop.errors import SettingError, UserError

LINES = [
    CostLine("Split", "ml.a.b", "1 x ml.a.b", 1.0, 1.0, 1.0),
    CostLine("Train", "ml.c.d", "1 x ml.c.d, spot", 4.0, 2.0, 8.0),
]


def test_a_plan_within_the_budget_passes() -> None:
    """The ceiling itself is still within."""
    check_budget(LINES, 9.0)


def test_a_plan_over_the_budget_names_the_step_that_weighs_most() -> None:
    """One line: the sum, the step, what to change."""
    with pytest.raises(UserError, match=r"--budget 8.99: .* 9.00 USD, Train alone 8.00 USD .*lower its max_runtime"):
        check_budget(LINES, 8.99)


def test_a_plan_without_a_price_is_not_within_any_budget() -> None:
    """An unknown price could be any."""
    with pytest.raises(SettingError, match=r"step Train: ml\.q\.r has no price"):
        check_budget([CostLine("Train", "ml.q.r", "2 x ml.q.r, spot", None, 1.0, None)], 1e9)


@pytest.mark.parametrize("text", ["Train", "Train=", "Train=-1", "Train=nan", "=3", "Train=soon"])
def test_malformed_hours_are_refused_by_their_text(text: str) -> None:
    """What stands there is shown, with the form."""
    with pytest.raises(SettingError, match=r"--hours .*must be STEP=HOURS"):
        price_lines(Definition("1", (), ()), {}, hours=[text])

"""The cost of an execution, as text, and the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from medloop.commands.output import duration, print_line, print_table
from medloop.definition.cost import CostLine, ceiling, load_prices, price_definition
from medloop.errors import SettingError, UserError

if TYPE_CHECKING:
    from medloop.definition.read import Definition


def default_values(definition: Definition, parameters: dict[str, str]) -> dict[str, str]:
    """Return every pipeline parameter's value: the given value, or else the default."""
    return {p.name: "" if p.default is None else str(p.default) for p in definition.parameters} | parameters


def price_lines(
    definition: Definition, parameters: dict[str, str], hours: Sequence[str] = (), prices: Sequence[str] = ()
) -> list[CostLine]:
    """Price a definition.

    Args:
        definition: The definition.
        parameters: Pipeline parameters by name, if they are not to have their defaults.
        hours: Texts `STEP=HOURS`.
        prices: Texts `TYPE=USD`.

    Raises:
        SettingError: A text is malformed, or names no step; the message has the text.
    """
    listed = load_prices().with_prices(_numbers(prices, "--price", "TYPE=USD"))
    values = default_values(definition, parameters)
    return price_definition(definition, values, listed, _numbers(hours, "--hours", "STEP=HOURS"))


def print_cost(out: Console, lines: list[CostLine]) -> None:
    """Print the cost of each step, the sum, and what the numbers mean."""
    estimated = any(line.estimate_usd is not None for line in lines)
    jobs = [line for line in lines if line.usd_per_month is None]
    headers = ("step", "instances", "USD/h", "at most", "USD at most") + (("hours", "USD estimate") * estimated)
    print_table(out, headers, [_row(line, estimated=estimated) for line in jobs])
    print_line(out, "")
    priced = [line for line in lines if line.ceiling_usd is not None]
    rest = "" if len(priced) == len(lines) else " and the steps without a price (--price TYPE=USD)"
    total = _usd(sum(line.ceiling_usd or 0 for line in priced))
    print_line(out, f"An execution costs at most {total}{rest}: every job ends")
    print_line(out, "at its max_runtime_minutes. Steps whose results come from the step cache cost nothing.")
    if estimated:
        known = [line for line in jobs if line.estimate_usd is not None]
        names = ", ".join(line.step for line in known)
        print_line(out, f"At the hours given ({names}): {_usd(sum(line.estimate_usd or 0 for line in known))}.")
    for line in lines:
        if line.usd_per_month is not None:
            print_line(out, f"{line.what}: {_usd(line.usd_per_month)} a month until it is deleted.")
    listed = load_prices()
    print_line(
        out,
        f"List prices of {listed.region}, {listed.as_of}; S3 {listed.s3_usd_per_gb_month} USD a GB and month.",
        "dim",
    )


def check_budget(lines: list[CostLine], budget: float) -> None:
    """Refuse an execution that could cost more than the budget.

    Raises:
        UserError: It could; the message names the most expensive step.
        SettingError: An instance type has no price.
    """
    total = ceiling(lines)
    if total <= budget:
        return
    most = max(lines, key=lambda line: line.ceiling_usd or 0.0)
    raise UserError(
        f"--budget {budget:g}: the execution could cost {_usd(total)}, {most.step} alone {_usd(most.ceiling_usd or 0)} "
        f"({most.what}, {duration(3600 * most.max_hours)} at most); lower its max_runtime_minutes, choose a cheaper "
        "instance type, or raise the budget"
    )


def _row(line: CostLine, *, estimated: bool) -> tuple[object, ...]:
    rate = None if line.usd_per_hour is None else f"{line.usd_per_hour:.3f}"
    most = None if line.ceiling_usd is None else f"{line.ceiling_usd:.2f}"
    row = (line.step, line.what, rate, duration(3600 * line.max_hours), most)
    if not estimated:
        return row
    return (*row, line.hours, None if line.estimate_usd is None else f"{line.estimate_usd:.2f}")


def _usd(value: float) -> str:
    return f"{value:,.2f} USD"


def _numbers(texts: Sequence[str], option: str, form: str) -> dict[str, float]:
    numbers = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not name or not math.isfinite(number) or number < 0:
            raise SettingError(f"{option} {text}: must be {form}, the number at least 0")
        numbers[name] = number
    return numbers

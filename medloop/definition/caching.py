"""The step cache's rules: the members that are compared, and how long an earlier run stays valid.

AWS's rules: https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html and pipelines-caching.html.
"""

from __future__ import annotations

import re
from typing import Any

from medloop.definition.read import Step, member
from medloop.definition.step_types import type_of
from medloop.errors import SettingError

_UNITS = {"y": 365 * 86400, "mo": 30 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DATE = re.compile(r"(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)w)?(?:(\d+)d)?")
_TIME = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def is_cached(step: Step) -> bool:
    """True if the step's CacheConfig enables the cache."""
    return member(step.document, "CacheConfig.Enabled") is True


def compared(step: Step) -> dict[str, Any]:
    """The members of a step that a cache hit must share, by path, expressions unresolved; without absent members."""
    members = {**step.arguments, **step.document, "Arguments": step.arguments}
    values = {path: member(members, path) for path in type_of(step).compared}
    return {path: value for path, value in values.items() if value is not None}


def max_age(step: Step) -> float | None:
    """Seconds for which an earlier run stays valid; None: without limit.

    Raises:
        SettingError: ExpireAfter is not a duration.
    """
    text = member(step.document, "CacheConfig.ExpireAfter")
    try:
        return None if text is None else seconds_of(str(text))
    except SettingError as error:
        raise SettingError(f"step {step.name}: {error}") from None


def seconds_of(text: str) -> float:
    """A duration such as `30d`, `T16m`, `30dT5h` or `P1DT12H` in seconds; a year has 365 days, a month 30.

    Raises:
        SettingError: The text is not a duration.
    """
    date, _, time = text.strip().lower().removeprefix("p").partition("t")
    days, hours = _DATE.fullmatch(date), _TIME.fullmatch(time)
    if days is None or hours is None or not (date or time):
        raise SettingError(f"ExpireAfter {text!r} is not a duration; write 30d, T16m or 30dT5h")
    counts = [*zip(("y", "mo", "w", "d"), days.groups(), strict=True), *zip("hms", hours.groups(), strict=True)]
    return float(sum(int(count) * _UNITS[unit] for unit, count in counts if count))

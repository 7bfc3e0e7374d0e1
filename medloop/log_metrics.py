"""Metrics in a training job's log, by its metric definitions: the first group of each is the value.

https://docs.aws.amazon.com/sagemaker/latest/dg/define-train-metrics.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def metric_patterns(definitions: Iterable[Mapping[str, Any]] | None) -> dict[str, re.Pattern[str]]:
    """Compile a job's `MetricDefinitions`, by name.

    Raises:
        re.error: A regular expression is malformed.
    """
    return {str(item["Name"]): re.compile(str(item["Regex"])) for item in definitions or ()}


def find_metrics(line: str, patterns: Mapping[str, re.Pattern[str]]) -> Iterator[tuple[str, float]]:
    """Yield the metrics in one line of a log; values that are not finite numbers are skipped."""
    for name, pattern in patterns.items():
        match = pattern.search(line)
        try:
            value = float(match[1]) if match else math.nan
        except (ValueError, IndexError, TypeError):
            continue
        if math.isfinite(value):
            yield name, value

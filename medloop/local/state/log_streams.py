"""CloudWatch's log streams as files: `<home>/logs/<group>/<stream>`, each line `<milliseconds since 1970> <text>`."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from medloop.local.state.home import Home, now
from medloop.local.state.store import Document
from medloop.log_metrics import find_metrics


@dataclass
class LogStream:
    """Writes lines with their times, and reads metrics from them.

    Args:
        path: The stream's file.
        patterns: Regular expression by metric name; its first group is the value.
    """

    path: Path
    patterns: dict[str, re.Pattern[str]] = field(default_factory=dict)
    metrics: dict[str, Document] = field(default_factory=dict)

    @classmethod
    def in_group(cls, home: Home, group: str, *parts: str) -> LogStream:
        """The stream of these parts in a log group such as `/aws/sagemaker/TrainingJobs`, its folder made."""
        *folders, name = parts
        return cls(home.folder("logs", group.strip("/"), *folders) / name)

    def follow(self, stream: IO[str]) -> None:
        """Write every line of a stream until it ends."""
        with self.path.open("a", encoding="utf-8") as file:
            for line in stream:
                file.write(f"{int(time.time() * 1000)} {line.rstrip()}\n")
                file.flush()
                for name, value in find_metrics(line, self.patterns):
                    self.metrics[name] = {"MetricName": name, "Value": value, "Timestamp": now()}

    def write(self, text: str) -> None:
        """Add the lines of a text."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{int(time.time() * 1000)} {line}\n" for line in text.splitlines())

"""Job logs, read through a CloudWatch Logs client of either target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from medloop.commands.records import Job

METRICS_LINE = re.compile(r"^(\[\d+\] )?epoch=\d+;")
"""A line that reports an epoch, behind its trial's number where it was tuned."""


@dataclass
class JobLog:
    """The log of one job, read on from where the last reading ended.

    Args:
        client: A `logs` client.
        job: Whose log; a job on several instances has one stream each, a tuning job those of its training jobs.
    """

    client: Any
    job: Job
    _tokens: dict[str, str] = field(default_factory=dict)

    def new_lines(self) -> Iterator[str]:
        """Lines that were written since the last call, the first call's from the beginning."""
        from botocore.exceptions import ClientError

        try:
            for stream in self._streams():
                yield from self._read(stream)
        except ClientError as error:
            if not error.response["Error"]["Code"].startswith("ResourceNotFound"):
                raise  # a job that has not begun has no log; anything else is an error

    def _streams(self) -> list[str]:
        prefix = f"{self.job.name}-" if self.job.type.trials else f"{self.job.name}/"
        pages = self.client.get_paginator("describe_log_streams")
        listed = pages.paginate(logGroupName=self.job.type.log_group, logStreamNamePrefix=prefix)
        return [stream["logStreamName"] for page in listed for stream in page["logStreams"]]

    def _read(self, stream: str) -> Iterator[str]:
        """CloudWatch gives the same token again when there is nothing more."""
        # A trial's name is its tuning job's, its number, and something that makes it unique.
        lead = f"[{stream[len(self.job.name) + 1 :].partition('-')[0]}] " if self.job.type.trials else ""
        while True:
            arguments = {"logGroupName": self.job.type.log_group, "logStreamName": stream, "startFromHead": True}
            token = self._tokens.get(stream)
            answer = self.client.get_log_events(**arguments, **({"nextToken": token} if token else {}))
            for event in answer["events"]:
                yield lead + event["message"].rstrip("\n")
            self._tokens[stream] = answer["nextForwardToken"]
            if answer["nextForwardToken"] == token:
                return

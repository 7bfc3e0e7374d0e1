"""Job logs, read through a CloudWatch Logs client of either target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medloop.commands.execution_status import StepJob

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import GetLogEventsRequestTypeDef

METRICS_LINE = re.compile(r"^(\[\d+\] )?epoch=\d+;")
"""A line that reports an epoch; a trial's begins with its number."""
BUILD_LINE = re.compile(
    r"^(\[\d+\] )?(medloop: (\S+ builds )?the image |STEP \d+(/\d+)?: |Step \d+/\d+ : |#\d+ \[ *\d+/\d+\] )"
)
"""A line of an image's build: its beginning, its steps as podman, buildah and Docker print them, and its end."""


@dataclass
class JobLog:
    """The log of one job; each read returns what is new since the last one.

    Args:
        client: A `logs` client.
        job: The job. One on several instances has one stream an instance, a tuning job those of its trials.
    """

    client: CloudWatchLogsClient
    job: StepJob
    _tokens: dict[str, str] = field(default_factory=dict)

    def new_lines(self) -> Iterator[str]:
        """New lines since the last call; the first call returns all."""
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
        """New lines of one stream. CloudWatch returns the same token again when there are no more."""
        # A trial's name is its tuning job's, its number, and something that makes it unique.
        lead = f"[{stream[len(self.job.name) + 1 :].partition('-')[0]}] " if self.job.type.trials else ""
        request: GetLogEventsRequestTypeDef = {
            "logGroupName": self.job.type.log_group,
            "logStreamName": stream,
            "startFromHead": True,
        }
        while True:
            if token := self._tokens.get(stream):
                request["nextToken"] = token
            response = self.client.get_log_events(**request)
            for event in response["events"]:
                yield lead + event["message"].rstrip("\n")
            self._tokens[stream] = response["nextForwardToken"]
            if response["nextForwardToken"] == token:
                return

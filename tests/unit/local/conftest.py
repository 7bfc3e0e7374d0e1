"""A local backend in a temporary home, and containers of a few lines for its jobs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from medloop.local.session import local_session
from medloop.local.state.home import ACCOUNT, BUCKET, REGION, ROLE_ARN


@dataclass
class Local:
    """One home and the clients that a test speaks to it with."""

    home: Path
    boto: boto3.Session
    sagemaker: Any
    s3: Any

    def image(self, code: str, files: dict[str, str] | None = None) -> str:
        """Store a bundle whose entry point is `code`; returns its image URI."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, text in {"containers/tiny/main.py": textwrap.dedent(code), **(files or {})}.items():
                member = tarfile.TarInfo(name)
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
        return self.image_of(packed.getvalue())

    def image_of(self, archive: bytes) -> str:
        """Store a tar archive as a bundle; returns its image URI."""
        digest = hashlib.sha256(archive).hexdigest()[:40]
        self.s3.put_object(Bucket=BUCKET, Key=f"bundles/{digest}.tar.gz", Body=gzip.compress(archive))
        return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/medloop-tiny:{digest}"

    def start(self, steps: list[dict[str, Any]], parameters: list[dict[str, Any]] | None = None, **values: str) -> str:
        """Create a pipeline of these steps and start it; returns the execution's ARN."""
        definition = {"Version": "2020-12-01", "Parameters": parameters or [], "Steps": steps}
        name = f"p{hashlib.sha256(json.dumps(definition).encode()).hexdigest()[:8]}"
        if not self.sagemaker.list_pipelines(PipelineNamePrefix=name)["PipelineSummaries"]:
            self.sagemaker.create_pipeline(
                PipelineName=name, PipelineDefinition=json.dumps(definition), RoleArn=ROLE_ARN
            )
        parameters = [{"Name": key, "Value": value} for key, value in values.items()]
        response = self.sagemaker.start_pipeline_execution(PipelineName=name, PipelineParameters=parameters)
        return str(response["PipelineExecutionArn"])

    def describe(self, arn: str) -> dict[str, Any]:
        """DescribePipelineExecution."""
        return dict(self.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn))

    def steps(self, arn: str) -> dict[str, dict[str, Any]]:
        """The execution's steps by name."""
        response = self.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn, MaxResults=100)
        return {step["StepName"]: step for step in response["PipelineExecutionSteps"]}

    def finish(self, arn: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for the execution's end; returns its description."""
        wait_until(lambda: self.describe(arn)["PipelineExecutionStatus"] not in ("Executing", "Stopping"), seconds)
        return self.describe(arn)

    def run(self, steps: list[dict[str, Any]], parameters: list[dict[str, Any]] | None = None, **values: str) -> Any:
        """Start and finish; returns the description and the steps."""
        arn = self.start(steps, parameters, **values)
        return self.finish(arn), self.steps(arn)

    def read(self, uri: str) -> bytes:
        """The object at an S3 URI."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return bytes(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def wait_until(holds: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until something holds, or fail."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def local(tmp_path: Path) -> Local:
    """A fresh local backend; its home has a space and letters beyond ASCII in its name."""
    boto = local_session(tmp_path / "ma maison é")
    return Local(tmp_path / "ma maison é", boto, boto.client("sagemaker"), boto.client("s3"))

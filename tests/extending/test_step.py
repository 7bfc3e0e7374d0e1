"""A processing step with a container of its own, added as docs/extending.md says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.extending.checkout import Checkout

CONTAINER = {
    "container.toml": """# What this container is; read by the bundle, the Dockerfile's test and the pipeline's steps.
name = "census"
kind = "processing"
role = "evaluation" # what its jobs may do on AWS
base = "public.ecr.aws/docker/library/python:3.11-slim"
include = ["containers/census", "medloop/__init__.py", "medloop/errors.py", "medloop/container", "medloop/documents"]
""",
    "main.py": '''"""Census job: count the images of each class."""

import json
import sys

from pydantic import BaseModel

from medloop.container.arguments import parse_arguments
from medloop.container.processing import ProcessingJob
from medloop.container.run import run


class Arguments(BaseModel):
    """The job's arguments."""

    minimum: int


def main() -> None:
    """Read the contract, count, write."""
    job = ProcessingJob.read(sys.argv[1:])
    arguments = parse_arguments(Arguments, job.arguments)
    counts = {folder.name: len(list(folder.iterdir())) for folder in sorted(job.input("train").iterdir())}
    rare = [name for name, count in counts.items() if count < arguments.minimum]
    (job.output("census") / "census.json").write_text(json.dumps({"counts": counts, "rare": rare}))
    print(f"classes={len(counts)} rare={len(rare)}", flush=True)


if __name__ == "__main__":
    run(main, kind="processing")
''',
    "requirements.txt": "pydantic==2.14.3\n",
    "Dockerfile": """ARG BASE_IMAGE=public.ecr.aws/docker/library/python:3.11-slim
FROM ${BASE_IMAGE}
COPY containers/census/requirements.txt /opt/medloop/requirements.txt
RUN python -m pip install --no-cache-dir --requirement /opt/medloop/requirements.txt
WORKDIR /opt/medloop
COPY . .
ENV PYTHONPATH=/opt/medloop
ENTRYPOINT ["python", "/opt/medloop/containers/census/main.py"]
""",
    "README.md": "# census\n\nCounts the images of each class.\n",
}
STEP = '''"""Census: count the images of each class that Train sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from steps.common import Context, ProcessingResources, job_retries, make_processor, processing_input, processing_output
from steps.split import SplitData

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.steps import ProcessingStep


class CensusSettings(ProcessingResources):
    """The census job."""

    minimum: int = Field(default=2, ge=1)
    """A class with fewer images is rare."""


def census_step(context: Context, settings: CensusSettings, data: SplitData) -> ProcessingStep:
    """The SDK's step; its output `census` holds census.json."""
    from sagemaker.mlops.workflow.steps import ProcessingStep

    return ProcessingStep(
        name="Census",
        display_name="Census",
        description="Count the images of each class.",
        step_args=make_processor(context, "census", settings).run(
            inputs=[processing_input("train", *data.source("train"))],
            outputs=[processing_output("census", context.destination("Census", "census"))],
            arguments=["--minimum", str(settings.minimum)],
        ),
        cache_config=context.cache(),
        retry_policies=job_retries(),
    )
'''
ROLE = """from dataclasses import replace
from medloop.cloud.sessions import open_target
print(replace(open_target("local"), job_roles={"evaluation": "judges"}).container_role("census"))
"""
ONLY = ("--only", "Split", "--only", "Census")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six images of each of two classes, no two alike."""
    folder, noise = tmp_path / "images", np.random.default_rng(0)
    for number in range(12):
        file = folder / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (32, 32), dtype=np.uint8)).save(file)
    return folder


@pytest.fixture
def project(checkout: Checkout) -> Iterator[Checkout]:
    """A checkout whose classification counts the images of each class after Split."""
    for name, text in CONTAINER.items():
        checkout.add(f"containers/census/{name}", text)
    checkout.add("steps/census.py", STEP)
    pipeline = "pipelines/classification.py"
    checkout.insert(pipeline, "from steps.census import CensusSettings, census_step", before="from steps.champion")
    checkout.insert(pipeline, "    census: CensusSettings = CensusSettings()", before="    train: Classification")
    checkout.insert(pipeline, "    census = census_step(context, settings.census, data)", before="    train, model")
    checkout.replace(pipeline, "pipeline_of([split, train,", "pipeline_of([split, census, train,")
    with checkout.sharing_the_sdk():
        yield checkout


@pytest.mark.slow
def test_a_step_with_its_container_is_a_folder_a_builder_and_a_call(project: Checkout, images: Path) -> None:
    """Upsert stores the container's code, though only the step names it; the job runs with the role it declares."""
    assert len(project.touched) == 7

    assert project.medloop("pipelines", "show", "classification", "--set", "census.minimum=0") == 2
    assert "census.minimum=0: Input should be greater than or equal to 1" in project.err
    assert project.python("-c", ROLE) == 0, project.err
    assert project.out == "judges\n"

    ended = project.json("run", "classification", "--data", str(images), *ONLY, "--set", "census.minimum=9")
    steps = {step["name"]: step for step in ended["execution"]["steps"]}
    assert {name: step["status"] for name, step in steps.items()} == {"Split": "Succeeded", "Census": "Succeeded"}
    assert steps["Census"]["job"]["kind"] == "processing"
    assert project.json("executions", "logs", "latest")["Census"][-1] == "classes=2 rare=2"

    again = project.json("run", "classification", "--data", str(images), *ONLY, "--set", "census.minimum=2")
    assert [step["cached"] for step in again["execution"]["steps"]] == [True, False]
    assert project.json("executions", "logs", "latest")["Census"][-1] == "classes=2 rare=0"

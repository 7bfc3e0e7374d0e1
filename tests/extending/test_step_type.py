"""A step type added as docs/extending.md says: QualityCheck, a processing job whose violations fail the step.

The pipeline and the container that use it are the test's own; they are no part of what a step type costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.extending.checkout import Checkout

ROW = """
def _check_type_problems(step: Step) -> Iterator[str]:
    kind = step.document.get("CheckType")
    if kind not in ("DATA_QUALITY", "MODEL_QUALITY"):
        yield f"CheckType must be DATA_QUALITY or MODEL_QUALITY, not {kind!r}"


_ROWS = (
    StepType(
        name="QualityCheck",
        runner="quality_check:QualityCheck",
        job=PROCESSING_JOB,
        check=_check_type_problems,
        compared=("AppSpecification", "ProcessingInputs", "FailOnViolation"),
        metadata="QualityCheck",
        arn_member="CheckJobArn",
    ),
"""
RUNNER = '''"""QualityCheck steps: a processing job whose violations fail the step, where the step says so."""

from __future__ import annotations

import json

from medloop.local.engine.step_runs.base import StepResult, StepRun
from medloop.local.engine.step_runs.jobs import Processing
from medloop.local.state.store import Document


class QualityCheck(Processing):
    """Runs the check's job, then reads the violations that it reports."""

    def result(self, run: StepRun, ended: Document, metadata: Document) -> StepResult:
        """See JobRunner."""
        result = super().result(run, ended, metadata)
        if result.status != "Succeeded" or not run.step.document.get("FailOnViolation"):
            return result
        report = ended["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"] + "/constraint_violations.json"
        if violations := json.loads(run.backend.objects.read(report))["violations"]:
            return StepResult("Failed", ended, metadata, f"ClientError: {len(violations)} violations, see {report}")
        return result
'''
BUILDER = '''"""QualityCheck: compare a data set with what is expected of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steps.common import Context, ProcessingResources, make_processor, processing_input, processing_output

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.steps import ProcessingStep


class QualityCheckSettings(ProcessingResources):
    """How data are checked."""

    check_type: str = "DATA_QUALITY"
    fail_on_violation: bool = True


def quality_check_step(context: Context, settings: QualityCheckSettings) -> ProcessingStep:
    """The SDK's step; its own QualityCheckStep runs AWS's images alone."""
    from sagemaker.mlops.workflow.steps import ProcessingStep, StepTypeEnum

    class QualityCheckStep(ProcessingStep):
        def to_request(self) -> dict[str, Any]:
            check = {"CheckType": settings.check_type, "FailOnViolation": settings.fail_on_violation}
            return {**super().to_request(), **check}

    step = QualityCheckStep(
        name="Check",
        step_args=make_processor(context, "quality", settings).run(
            inputs=[processing_input("data", context.parameters["InputData"])],
            outputs=[processing_output("report", context.destination("Check", "report"))],
            arguments=["--data-version", context.parameters["DataVersion"]],
        ),
        cache_config=context.cache(),
    )
    step.step_type = StepTypeEnum.QUALITY_CHECK
    return step
'''
PIPELINE = '''"""A pipeline of one check."""

from medloop.settings import PipelineSpec
from steps.common import Context, PipelineSettings
from steps.parameters import PARAMETERS
from steps.quality_check import QualityCheckSettings, quality_check_step


class QualitySettings(PipelineSettings):
    check: QualityCheckSettings = QualityCheckSettings()


def build(settings, target):
    context = Context.open("quality", "classification", settings, target, PARAMETERS[:2])
    return context.pipeline_of([quality_check_step(context, settings.check)])


PIPELINE = PipelineSpec("quality", "classification", QualitySettings, build, PARAMETERS[:2])
'''
CONTAINER = {
    "container.toml": """name = "quality"
kind = "processing"
role = "processing"
base = "public.ecr.aws/docker/library/python:3.11-slim"
include = ["containers/quality", "medloop/__init__.py", "medloop/errors.py", "medloop/container", "medloop/documents"]
""",
    "main.py": '''"""Every class must have two images."""

import json
import sys

from medloop.container.processing import ProcessingJob
from medloop.container.run import run


def main() -> None:
    job = ProcessingJob.read(sys.argv[1:])
    counts = {folder.name: len(list(folder.iterdir())) for folder in sorted(job.input("data").iterdir())}
    violations = [{"feature_name": name} for name, count in counts.items() if count < 2]
    (job.output("report") / "constraint_violations.json").write_text(json.dumps({"violations": violations}))
    print(f"images={sum(counts.values())}", flush=True)


if __name__ == "__main__":
    run(main, kind="processing")
''',
}


@pytest.fixture
def project(checkout: Checkout) -> Iterator[Checkout]:
    """A checkout with a pipeline of one QualityCheck step, and without the step type."""
    (checkout.root / "pipelines/quality.py").write_text(PIPELINE)
    info = checkout.root / "quality-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: quality\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[medloop.pipelines]\nquality = pipelines.quality:PIPELINE\n")
    (checkout.root / "containers/quality").mkdir()
    for name, text in CONTAINER.items():
        (checkout.root / "containers/quality" / name).write_text(text)
    checkout.add("steps/quality_check.py", BUILDER)
    with checkout.sharing_the_sdk():
        yield checkout


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images of each of two classes."""
    folder = tmp_path / "images"
    for number, name in enumerate(("a/1", "a/2", "b/3", "b/4")):
        file = folder / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), 50 * number).save(file)
    return folder


@pytest.mark.slow
def test_a_step_type_is_a_row_a_runner_and_a_builder(project: Checkout, images: Path) -> None:
    """Then definitions with it are validated, priced, compared, run, cached and shown as those of any other type."""
    assert project.medloop("pipelines", "definition", "quality") == 2
    assert "step Check: unknown type QualityCheck; one of" in project.err

    project.replace("medloop/definition/step_types.py", "\n_ROWS = (\n", ROW)
    project.add("medloop/local/engine/step_runs/quality_check.py", RUNNER)
    assert len(project.touched) == 3

    assert project.medloop("pipelines", "definition", "quality", "--set", "check.check_type=TASTE") == 2
    assert "step Check: CheckType must be DATA_QUALITY or MODEL_QUALITY, not 'TASTE'" in project.err
    assert len(project.err.splitlines()) == 1
    (line,) = project.json("pipelines", "cost", "quality", "--set", "check.max_runtime_minutes=60")["steps"]
    assert (line["step"], line["max_hours"], line["ceiling_usd"] > 0) == ("Check", 1.0, True)

    ended = project.json("run", "quality", "--data", str(images))
    (step,) = ended["execution"]["steps"]
    assert (step["status"], step["type"], step["job"]["kind"]) == ("Succeeded", "QualityCheck", "processing")
    assert project.json("executions", "logs", "latest")["Check"][-1] == "images=4"
    (step,) = project.json("run", "quality", "--data", str(images))["execution"]["steps"]
    assert step["cached"]

    changes = project.json(
        "pipelines", "diff", "quality", "--project", "images", "--set", "check.fail_on_violation=false"
    )["changes"]
    assert [change["path"] for change in changes] == ["settings check", "Steps.Check.FailOnViolation"]
    (images / "b" / "4.png").unlink()
    assert project.medloop("run", "quality", "--data", str(images)) == 1
    assert "step Check: ClientError: 1 violations, see s3://" in project.err

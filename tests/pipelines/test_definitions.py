"""The definitions that the builders make: valid, stable, and what DESIGN.md says they are."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medloop.bundle import load_container
from medloop.definition.caching import compared
from medloop.definition.draw import draw_text
from medloop.definition.read import references
from medloop.definition.step_types import type_of
from medloop.definition.validate import validate
from medloop.documents.hyperparameters import ClassificationHyperparameters, SegmentationHyperparameters
from medloop.settings import resolve, setting_value
from tests.pipelines.conftest import Built
from tests.pipelines.world import unreachable_target

ROOT = Path(__file__).parents[2]
TRAINING = {"classification": "classify", "segmentation": "segment"}
"""The containers that train."""
HYPERPARAMETERS = {"classification": ClassificationHyperparameters, "segmentation": SegmentationHyperparameters}


def task_of(built: Built) -> str:
    """The task in Split's arguments, which is the pipeline's name."""
    arguments = built.definition.step("Split").arguments["AppSpecification"]["ContainerArguments"]
    return str(arguments[arguments.index("--task") + 1])


def scalars(value: Any) -> Iterator[Any]:
    """Every scalar within a document."""
    if isinstance(value, dict | list):
        for element in value.values() if isinstance(value, dict) else value:
            yield from scalars(element)
    else:
        yield value


def substituted(value: Any, parameters: dict[str, Any]) -> Any:
    """An expression over parameters, computed as the service computes it."""
    if isinstance(value, str):
        return value
    if "Get" in value:
        return parameters[value["Get"].removeprefix("Parameters.")]
    join = value["Std:Join"]
    return join["On"].join(str(substituted(part, parameters)) for part in join["Values"])


@pytest.mark.slow
def test_two_builds_are_byte_identical(built: Built) -> None:
    """The same settings and the same code give the same JSON, and the second build too calls nothing."""
    calls: list[str] = []
    resolved = resolve(built.name)
    assert built.text == resolved.spec.build(resolved.settings, unreachable_target(calls)).definition()
    assert calls == []


def test_building_calls_nothing_and_sends_no_telemetry(built: Built) -> None:
    """A definition is made without one call, to the account or to anyone else."""
    assert built.calls == ()


def test_definition_breaks_no_rule(built: Built) -> None:
    """Each step's arguments fit the service's request shapes, and all other rules hold."""
    assert validate(built.text) == []
    assert {step.type for step in built.definition.steps if not type_of(step).operation} == {
        "Condition",
        "Fail",
        "Lambda",
    }


def test_steps_and_their_order(built: Built) -> None:
    """Split, Train, Champion, Evaluate, Gate; then Register, or Fail."""
    definition = built.definition
    assert [step.name for step in definition.in_order()][:5] == ["Split", "Train", "Champion", "Evaluate", "Gate"]
    assert definition.step("Register").branch == ("Gate", "yes")
    assert definition.step("Fail").branch == ("Gate", "no")
    assert len(definition.steps) == 7


def test_parameters_have_types_and_the_settings_defaults(built: Built) -> None:
    """All of DESIGN.md's run-time parameters; only the data must be given at every start."""
    resolved = resolve(task_of(built))
    expected = {
        parameter.name: (
            parameter.kind,
            setting_value(resolved.settings, parameter.setting) if parameter.setting else None,
        )
        for parameter in resolved.spec.parameters
    }
    parameters = {parameter.name: (parameter.type, parameter.default) for parameter in built.definition.parameters}
    assert parameters == expected
    assert {name for name, (_, default) in parameters.items() if default is None} == {"InputData", "DataVersion"}
    assert {"ModelName", "Epochs", "BatchSize", "LearningRate", "TrainInstanceType", "TrainInstanceCount"} < set(
        parameters
    )
    assert parameters["MinScore"][0] == "Float"
    assert parameters["ApprovalStatus"] == ("String", "PendingManualApproval")


def test_every_parameter_is_used(built: Built) -> None:
    """A parameter that nothing reads would be a lie; one that a setting overrules is refused where it is given."""
    used = {r for step in built.definition.steps for r in references(step.arguments)}
    unread = {p.name for p in built.definition.parameters if f"Parameters.{p.name}" not in used}
    assert unread == set(resolve(task_of(built)).facts.ignored_parameters) == {"ApprovalStatus"}


def test_gate_reads_score_and_margin_from_evaluation(built: Built) -> None:
    """Score at least MinScore, margin_left and floor_left at least 0, all from Evaluate's evaluation.json."""
    conditions = built.definition.step("Gate").arguments["Conditions"]
    paths = [condition["LeftValue"]["Std:JsonGet"]["Path"] for condition in conditions]
    files = {condition["LeftValue"]["Std:JsonGet"]["PropertyFile"]["Get"] for condition in conditions}
    assert paths == ["score.value", "gate.margin_left", "gate.floor_left"]
    assert files == {"Steps.Evaluate.PropertyFiles.evaluation"}
    assert [condition["Type"] for condition in conditions] == ["GreaterThanOrEqualTo"] * 3
    assert [condition["RightValue"] for condition in conditions] == [{"Get": "Parameters.MinScore"}, 0.0, 0.0]
    file = built.definition.step("Evaluate").document["PropertyFiles"][0]
    assert file == {"PropertyFileName": "evaluation", "OutputName": "evaluation", "FilePath": "evaluation.json"}


def test_failure_says_score_bound_and_margin(built: Built) -> None:
    """The message is joined from the numbers that the gate compared, and where the report lies."""
    message = built.definition.step("Fail").arguments["ErrorMessage"]
    paths = [part["Std:JsonGet"]["Path"] for part in message["Std:Join"]["Values"] if "Std:JsonGet" in part]
    assert paths == ["score.value", "gate.margin_left", "gate.floor_left", "gate.verdict"]
    assert "Parameters.MinScore" in set(references(message))
    assert any("Evaluate.ProcessingOutputConfig" in reference for reference in references(message))


def test_execution_variables_are_destinations_and_evidence_only(built: Built) -> None:
    """Nothing that the step cache compares differs from run to run; each output's place does."""
    for step in built.definition.steps:
        assert not [r for r in references(compared(step)) if r.startswith("Execution.")]
        for output in step.arguments.get("ProcessingOutputConfig", {}).get("Outputs", []):
            assert "Execution.PipelineExecutionId" in set(references(output))
    assert "Execution.PipelineExecutionId" in set(
        references(built.definition.step("Train").arguments["OutputDataConfig"])
    )


def test_data_version_is_an_argument_of_split(built: Built) -> None:
    """The cache compares arguments, not data: the data's digest is among them."""
    arguments = built.definition.step("Split").arguments["AppSpecification"]["ContainerArguments"]
    assert arguments[arguments.index("--data-version") + 1] == {"Get": "Parameters.DataVersion"}


def test_hyperparameters_decode_to_the_settings(built: Built) -> None:
    """The job reads the values of the settings, of any type; a parameter replaces the setting."""
    task = task_of(built)
    settings = setting_value(resolve(task).settings, "train.hyperparameters")
    wire = built.definition.step("Train").arguments["HyperParameters"]
    assert set(wire) == set(HYPERPARAMETERS[task].model_fields)
    defaults = {parameter.name: parameter.default for parameter in built.definition.parameters}
    read = {name: str(substituted(value, defaults)) for name, value in wire.items()}
    assert HYPERPARAMETERS[task].from_wire(read) == settings
    chosen = defaults | {"Epochs": 41, "LearningRate": 1e-05}
    read = {name: str(substituted(value, chosen)) for name, value in wire.items()}
    assert HYPERPARAMETERS[task].from_wire(read).epochs == 41
    assert HYPERPARAMETERS[task].from_wire(read).learning_rate == pytest.approx(1e-05)


def test_images_are_named_by_their_code(built: Built) -> None:
    """Each job runs the image of its container, whose tag is its bundle's digest; training puts it in model.json."""
    images = {
        step.name: step.arguments["AppSpecification"]["ImageUri"]
        if step.type == "Processing"
        else step.arguments["AlgorithmSpecification"]["TrainingImage"]
        for step in built.definition.steps
        if step.type in ("Processing", "Training")
    }
    jobs = ["split", TRAINING[task_of(built)], "evaluate"]
    assert [uri.rpartition("/")[2].partition(":")[0] for uri in images.values()] == [f"medloop-{c}" for c in jobs]
    assert all(len(uri.rpartition(":")[2]) == 40 for uri in images.values())
    digest = built.definition.step("Train").arguments["Environment"]["MEDLOOP_CODE_DIGEST"]
    assert images["Train"].endswith(f":{digest}")


def test_training_metrics_are_the_containers(built: Built) -> None:
    """Metric definitions come from container.toml."""
    container = TRAINING[task_of(built)]
    metrics = built.definition.step("Train").arguments["AlgorithmSpecification"]["MetricDefinitions"]
    assert {metric["Name"]: metric["Regex"] for metric in metrics} == load_container(container).metrics


def test_jobs_are_retried_and_cached_and_described(built: Built) -> None:
    """Jobs are retried when the service is at fault; equal steps are reused; every step is described."""
    for step in built.definition.steps:
        assert step.document["DisplayName"]
        assert step.document["Description"]
        is_job = step.type in ("Processing", "Training")
        assert ("CacheConfig" in step.document) == is_job
        assert ("RetryPolicies" in step.document) == (is_job or step.type == "RegisterModel")
        if is_job:
            assert step.document["CacheConfig"] == {"Enabled": True, "ExpireAfter": "30d"}
            assert {"Key": "medloop:task", "Value": task_of(built)} in step.arguments["Tags"]


def test_registration_carries_its_evidence(built: Built) -> None:
    """The version names its group, model, scores, data, code and execution; its intended use is missing: Rejected."""
    arguments = built.definition.step("Register").arguments
    assert arguments["ModelPackageGroupName"] == f"medloop-{task_of(built)}"
    assert arguments["ModelApprovalStatus"] == "Rejected"
    quality = arguments["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
    assert quality["Std:Join"]["Values"][-1] == "evaluation.json"
    (container,) = arguments["InferenceSpecification"]["Containers"]
    assert container["ModelDataUrl"] == {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
    metadata = arguments["CustomerMetadataProperties"]
    assert set(metadata) >= {"data", "data_version", "code_digest", "git_commit", "split", "evaluation", "execution"}


def test_no_experiment_is_requested(built: Built) -> None:
    """The SDK's default experiment needs permissions that nothing here needs."""
    assert json.loads(built.text)["PipelineExperimentConfig"] is None


def test_no_time_stamp_and_no_path_of_this_machine(built: Built) -> None:
    """Nothing in the definition depends on when or where it was built."""
    texts = [text for text in scalars(json.loads(built.text)) if isinstance(text, str)]
    assert not [text for text in texts if str(ROOT) in text or "file:" in text]


def test_drawing_names_every_step(built: Built) -> None:
    """The picture leaves nothing out."""
    drawing = draw_text(built.definition)
    assert all(step.name in drawing for step in built.definition.steps)


@pytest.mark.parametrize("name", ["classification", "segmentation"])
def test_builders_are_short(name: str) -> None:
    """A builder reads like the picture: under 60 lines."""
    tree = ast.parse((ROOT / "pipelines" / f"{name}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60


@pytest.mark.slow
def test_processes_agree_with_any_hash_seed() -> None:
    """Another Python process, with another hash seed, builds the same bytes."""
    code = (
        "from medloop.settings import resolve; from tests.pipelines.world import unreachable_target;"
        "r = resolve('segmentation', 'brain-tissue-demo', ['tags.b=x', 'tags.a=y']);"
        "print(r.spec.build(r.settings, unreachable_target([])).definition(), end='')"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    resolved = resolve("segmentation", "brain-tissue-demo", ["tags.b=x", "tags.a=y"])
    assert done.stdout == resolved.spec.build(resolved.settings, unreachable_target([])).definition(), done.stderr

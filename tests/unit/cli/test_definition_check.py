"""An approval compares the execution's definition with the one of the approver's checkout; a difference is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from medloop.commands.registry import definition_check
from medloop.commands.registry.decisions import decisions_of
from medloop.definition.origin import Recorded, with_origin
from medloop.errors import SettingError, UserError
from tests.unit.cli.conftest import Desk
from tests.unit.cli.versions import COMMIT, DEFINITION, EXECUTION, answer_executions, register

OTHER_COMMIT = "d1" * 20


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Name the commit of the approver's checkout."""

    def name(commit: str) -> None:
        monkeypatch.setattr("medloop.cloud.commit.source_commit", lambda module: commit)

    name(COMMIT)
    return name


def changed(change: Callable[[dict[str, Any]], object], text: str = DEFINITION) -> str:
    """DEFINITION after a change."""
    document = json.loads(text)
    change(document)
    return json.dumps(document)


def of_commit(commit: str, text: str = DEFINITION) -> str:
    """DEFINITION as another commit registers it."""
    return text.replace(COMMIT, commit)


def approve(desk: Desk, *more: str) -> int:
    """`models approve g/1`."""
    who = ("--as", "QM") if desk.target == "local" else ()
    return desk("models", "approve", "g/1", "--reason", "r", *who, *more)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another image": (
        lambda d: d["Steps"][0]["Arguments"].update(Image="evil:1"),
        "Steps.Train.Arguments.Image (train:1 built, evil:1 ran)",
    ),
    "an entry point": (
        lambda d: d["Steps"][1]["Arguments"].update(ContainerEntrypoint=["sh", "-c", "env"]),
        "Steps.Evaluate.Arguments.ContainerEntrypoint",
    ),
    "another step": (lambda d: d["Steps"].append({"Name": "Print", "Arguments": {}}), "Steps.Print"),
    "a missing step": (lambda d: d["Steps"].pop(1), "Steps.Evaluate"),
    "a parameter": (lambda d: d["Parameters"].append({"Name": "Uses"}), "Parameters"),
    "several": (
        lambda d: [s["Arguments"].update(RoleArn="other") for s in d["Steps"]],
        "Steps.Train.Arguments.RoleArn (none built, other ran) and 2 more",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("target", ["local", "aws"])
def test_another_definition_than_its_commit_builds_is_refused(
    request: pytest.FixtureRequest, checkout: Callable[[str], None], name: str, target: str
) -> None:
    """In one line that names the first difference; on both targets, as the commit is the one that it names."""
    desk: Desk = request.getfixturevalue("aws" if target == "aws" else "desk")
    change, path = CHANGES[name]
    answer_executions(desk.boto, definition=changed(change))
    (arn,) = register(desk.boto)
    assert approve(desk, "--yes") == 2
    assert desk.err.count("\n") == 1
    assert f"ran another definition than its commit {COMMIT[:12]} builds: {path}" in desk.err
    assert "--accept-definition" in desk.err
    assert decisions_of(desk.package(arn)) == []


def test_an_accepted_difference_is_recorded_with_the_decision(desk: Desk, checkout: Callable[[str], None]) -> None:
    """What differed is in the version, and shown."""
    answer_executions(desk.boto, definition=changed(CHANGES["another image"][0]))
    (arn,) = register(desk.boto)
    assert approve(desk, "--accept-definition") == 0, desk.err
    (decision,) = decisions_of(desk.package(arn))
    assert decision.definition.startswith("accepted: execution abc123abc123 ran another definition")
    assert desk("models", "show", "g/1") == 0
    assert "definition: accepted:" in desk.out
    assert desk("models", "show", "g/1", "--json") == 0
    assert json.loads(desk.out)["decisions"][0]["definition"] == decision.definition


@pytest.mark.parametrize("target", ["local", "aws"])
@pytest.mark.parametrize("commit", [COMMIT, OTHER_COMMIT, f"{COMMIT}-dirty", "none"])
def test_the_same_definition_is_approved_by_any_commit_that_builds_it(
    request: pytest.FixtureRequest, checkout: Callable[[str], None], target: str, commit: str
) -> None:
    """A later commit that changed no code of it, too; the commit is recorded."""
    desk: Desk = request.getfixturevalue("aws" if target == "aws" else "desk")
    checkout(commit)
    desk.built = of_commit(commit)
    (arn,) = register(desk.boto)
    assert approve(desk) == 0, desk.err
    assert decisions_of(desk.package(arn))[0].definition == f"as built by commit {commit}"


@pytest.mark.parametrize("commit", [OTHER_COMMIT, f"{OTHER_COMMIT}-dirty", "none"])
def test_a_difference_from_another_commit_names_both(aws: Desk, checkout: Callable[[str], None], commit: str) -> None:
    """On AWS it is refused: whether the code was reviewed is unknown. The commit to check out is named."""
    checkout(commit)
    aws.built = changed(CHANGES["another image"][0], of_commit(commit))
    (arn,) = register(aws.boto)
    assert approve(aws, "--yes") == 2
    assert aws.err.count("\n") == 1
    assert f"check out its commit {COMMIT[:12]} and approve there" in aws.err
    assert approve(aws, "--accept-definition") == 0, aws.err
    assert decisions_of(aws.package(arn))[0].definition.startswith("accepted: ")


def test_locally_a_difference_from_another_commit_is_a_warning(desk: Desk, checkout: Callable[[str], None]) -> None:
    """The checkout may be newer than the run; nothing is recorded as compared."""
    checkout(OTHER_COMMIT)
    desk.built = changed(CHANGES["another image"][0], of_commit(OTHER_COMMIT))
    (arn,) = register(desk.boto)
    assert approve(desk) == 0, desk.err
    assert f"check out its commit {COMMIT[:12]}" in desk.err
    assert decisions_of(desk.package(arn))[0].definition == ""


UNKNOWN = {
    "records no settings": changed(lambda d: d.update(Metadata={})),
    "settings that this checkout doesn't know": with_origin(DEFINITION, Recorded("classification", {"new": 1})),
    "a pipeline that isn't installed": with_origin(DEFINITION, Recorded("other", {})),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_definition_that_cannot_be_built_again(
    request: pytest.FixtureRequest, checkout: Callable[[str], None], name: str
) -> None:
    """Accepted by name on AWS, with a warning locally: versions of before are approved as they were."""
    for fixture, code in (("desk", 0), ("aws", 2)):
        desk: Desk = request.getfixturevalue(fixture)
        answer_executions(desk.boto, definition=UNKNOWN[name])
        register(desk.boto)
        assert approve(desk) == code, desk.err
        assert f"it names commit {COMMIT}" in desk.err


def test_a_definition_of_another_pipeline_is_refused(desk: Desk, checkout: Callable[[str], None]) -> None:
    """The record claims settings that belong elsewhere."""
    answer_executions(desk.boto, definition=with_origin(DEFINITION, Recorded("segmentation", {})))
    register(desk.boto)
    assert approve(desk) == 2
    assert "ran a definition of another pipeline, segmentation" in desk.err


def test_a_rejection_compares_nothing(aws: Desk, checkout: Callable[[str], None]) -> None:
    """It is always allowed."""
    answer_executions(aws.boto, definition="{")
    (arn,) = register(aws.boto)
    assert aws("models", "reject", "g/1", "--reason", "r") == 0, aws.err
    assert decisions_of(aws.package(arn))[0].definition == ""


class Executions:
    """A client that knows executions with their definitions, of which one took results from another."""

    def __init__(self, definitions: dict[str, str], sources: dict[str, tuple[str, list[str]]]) -> None:
        """By ARN; a source with the steps that were run again."""
        self.definitions, self.sources = definitions, sources

    def client(self, _: str) -> Executions:
        """The client of SageMaker."""
        return self

    def describe_pipeline_definition_for_execution(self, *, PipelineExecutionArn: str) -> dict[str, Any]:  # noqa: N803
        """DescribePipelineDefinitionForExecution."""
        if PipelineExecutionArn not in self.definitions:
            raise ClientError({"Error": {"Code": "ResourceNotFound"}}, "DescribePipelineDefinitionForExecution")
        return {"PipelineDefinition": self.definitions[PipelineExecutionArn]}

    def describe_pipeline_execution(self, *, PipelineExecutionArn: str) -> dict[str, Any]:  # noqa: N803
        """DescribePipelineExecution."""
        if PipelineExecutionArn not in self.sources:
            return {}
        arn, steps = self.sources[PipelineExecutionArn]
        config = {"SourcePipelineExecutionArn": arn, "SelectedSteps": [{"StepName": name} for name in steps]}
        return {"SelectiveExecutionConfig": config}


@pytest.mark.parametrize(
    ("selected", "change", "problem"),
    [
        (["Evaluate"], "another image", "Steps.Train.Arguments.Image"),
        (["Train", "Evaluate"], "another image", ""),
        (["Evaluate"], "an entry point", ""),
        (["Train"], "an entry point", "Steps.Evaluate"),
        (["Train"], "another step", "Steps.Print"),
    ],
)
def test_results_of_an_earlier_execution_are_of_its_definition(
    desk: Desk, checkout: Callable[[str], None], selected: list[str], change: str, problem: str
) -> None:
    """Of those steps that weren't run again; a chain of three is followed, and a circle ends."""
    from types import SimpleNamespace

    middle, source = f"{EXECUTION[:-1]}4", f"{EXECUTION[:-1]}5"
    definitions = {EXECUTION: DEFINITION, middle: DEFINITION, source: changed(CHANGES[change][0])}
    sources = {EXECUTION: (middle, selected), middle: (source, []), source: (EXECUTION, [])}
    target: Any = SimpleNamespace(name="local", boto=Executions(definitions, sources))
    services: Any = SimpleNamespace(build=lambda *_: DEFINITION)
    package = {"CustomerMetadataProperties": {"execution": EXECUTION}}
    compared = definition_check.compare_definition(services, target, package)
    assert (problem in compared.problem) if problem else compared.problem == ""
    assert compared.is_proven == bool(problem)


def compared(definition: str, built: str | Exception, source: str = "") -> definition_check.ComparedDefinition:
    """The comparison for a version of an execution, which may have taken Evaluate's results from another one."""
    from types import SimpleNamespace

    def build(*_: Any) -> str:
        if isinstance(built, Exception):
            raise built
        return built

    sources = {EXECUTION: (source, ["Train"])} if source else {}
    target: Any = SimpleNamespace(name="aws", boto=Executions({EXECUTION: definition}, sources))
    services: Any = SimpleNamespace(build=build)
    return definition_check.compare_definition(
        services, target, {"CustomerMetadataProperties": {"execution": EXECUTION}}
    )


@pytest.mark.parametrize("commit", [f"{COMMIT}-dirty", "none"])
def test_changed_files_or_an_unknown_commit_prove_nothing(checkout: Callable[[str], None], commit: str) -> None:
    """Two checkouts of that name may have differed when each built."""
    checkout(commit)
    result = compared(of_commit(commit, changed(CHANGES["another image"][0])), of_commit(commit))
    assert "Steps.Train.Arguments.Image" in result.problem
    assert not result.is_proven
    with pytest.raises(UserError, match="--accept-definition"):
        result.require("aws", "g/1", accept=False)
    result.require("local", "g/1", accept=False)


def test_a_definition_that_the_checkout_cannot_build_is_refused_on_aws(checkout: Callable[[str], None]) -> None:
    """With the build's own reason."""
    result = compared(DEFINITION, SettingError("containers/train: is missing"))
    assert "can't build the definition of execution abc123abc123: containers/train: is missing" in result.problem
    with pytest.raises(UserError, match="is missing; or approve it with --accept-definition"):
        result.require("aws", "g/1", accept=False)


def test_an_execution_that_cannot_be_read_is_refused_on_aws(checkout: Callable[[str], None]) -> None:
    """The version's own or an earlier one, whose results it took: which code ran is unknown."""
    result = compared(DEFINITION, DEFINITION, f"{EXECUTION[:-1]}9")
    assert result.problem.startswith("the definition of execution abc123abc129 can't be read (ResourceNotFound)")
    with pytest.raises(UserError, match="it is unknown which code ran"):
        result.require("aws", "g/1", accept=False)


def test_a_step_whose_name_begins_like_a_skipped_steps_counts(desk: Desk, checkout: Callable[[str], None]) -> None:
    """Train was run again; TrainMore's results are those of the earlier execution."""
    from types import SimpleNamespace

    def add_step(document: dict[str, Any]) -> None:
        document["Steps"].append({"Name": "TrainMore", "Arguments": {"Image": "evil:1"}})

    source = f"{EXECUTION[:-1]}4"
    executions = Executions({EXECUTION: DEFINITION, source: changed(add_step)}, {EXECUTION: (source, ["Train"])})
    target: Any = SimpleNamespace(name="local", boto=executions)
    services: Any = SimpleNamespace(build=lambda *_: DEFINITION)
    package = {"CustomerMetadataProperties": {"execution": EXECUTION}}
    assert "Steps.TrainMore" in definition_check.compare_definition(services, target, package).problem


def test_a_long_difference_is_recorded_within_the_limit(checkout: Callable[[str], None]) -> None:
    """200 characters, of which the last show that it was cut."""
    longer = changed(lambda d: d["Steps"][0]["Arguments"].update(Image="i" * 300))
    note = compared(longer, DEFINITION).note
    assert (len(note), note[-3:]) == (200, "...")

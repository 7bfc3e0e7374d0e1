"""Projects of the users: each has its own pipelines, groups, endpoints, alarms and rights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.app import make_app
from infra.settings import ScheduleSettings, SchedulingSettings, Settings
from infra.stack import STACK_NAME
from tests.infra.template import Template

OWN_SCHEDULE = ScheduleSettings(
    name="own", pipeline="segmentation-prostate", data="s3://b/raw/segmentation-prostate/a/", expression="rate(7 days)"
)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The template with one project and its schedule."""
    folder = tmp_path_factory.mktemp("assembly")
    schedules = SchedulingSettings(schedules=[OWN_SCHEDULE])
    settings = Settings(projects=["prostate"], pipelines=["lung-triage"], scheduling=schedules)
    make_app(settings, outdir=str(folder), validate=False).synth()
    return dict(json.loads(Path(folder / f"{STACK_NAME}.template.json").read_text(encoding="utf-8")))


def test_each_project_has_model_groups_of_its_own(document: dict[str, Any]) -> None:
    """A group for each pipeline without project, and for each with it; those of the user's own pipelines too."""
    groups = Template(document).by_type("AWS::SageMaker::ModelPackageGroup")
    assert sorted(group["Properties"]["ModelPackageGroupName"] for group in groups.values()) == [
        *("medloop-classification", "medloop-classification-prostate"),
        *("medloop-lung-triage", "medloop-lung-triage-prostate"),
        *("medloop-segmentation", "medloop-segmentation-prostate"),
    ]


def test_a_rule_has_no_more_targets_than_eventbridge_takes(document: dict[str, Any]) -> None:
    """Five: the daily check of six groups has two rules, and an alarm counts what both could not deliver."""
    rules = Template(document).by_type("AWS::Events::Rule").values()
    targets = {rule["Properties"]["Name"]: len(rule["Properties"]["Targets"]) for rule in rules}
    assert {name: count for name, count in targets.items() if "check" in name} == {
        "medloop-daily-check": 5,
        "medloop-daily-check-5": 1,
    }
    assert max(targets.values()) <= 5
    (lost,) = [
        alarm["Properties"]
        for alarm in Template(document).by_type("AWS::CloudWatch::Alarm").values()
        if alarm["Properties"]["AlarmName"] == "medloop-events-lost"
    ]
    assert "medloop-daily-check-5" in json.dumps(lost)


@pytest.mark.parametrize(
    "name",
    [
        "pipeline/segmentation-prostate",
        "pipeline/lung-triage",
        "pipeline/lung-triage-prostate",
        "medloop-lung-triage-failed",
        "model-package/medloop-segmentation-prostate/*",
        "medloop-segmentation-prostate-failed",
    ],
)
def test_rights_rules_and_alarms_name_the_projects_pipeline(document: dict[str, Any], name: str) -> None:
    """Roles may use it, decisions count, an alarm watches it."""
    assert name in json.dumps(document)


def test_new_data_of_a_project_start_its_pipeline(document: dict[str, Any]) -> None:
    """Its raw folder is in the rule; so is that of a pipeline of a user's own."""
    assert "raw/segmentation-prostate/*/manifest.json" in json.dumps(document)
    assert "raw/lung-triage/*/manifest.json" in json.dumps(document)


def test_a_schedule_of_an_unknown_pipeline_is_refused() -> None:
    """The known ones are listed."""
    with pytest.raises(ValueError, match=r"scheduling.schedules.0.pipeline: 'segmentation-prostate' is none of class"):
        Settings(scheduling=SchedulingSettings(schedules=[OWN_SCHEDULE]))


@pytest.mark.parametrize("name", ["", "Prostate", "a--b", "-a", "x" * 25])
def test_names_that_make_no_names_of_resources_are_refused(name: str) -> None:
    """Lower case, digits, inner hyphens, 24 characters."""
    with pytest.raises(ValueError, match="projects"):
        Settings(projects=[name])


@pytest.mark.parametrize("name", ["classification", "segmentation-prostate"])
def test_an_own_pipeline_named_as_another_is_refused(name: str) -> None:
    """Each has rights and alarms of its own."""
    with pytest.raises(ValueError, match=f"pipelines: {name} is there twice"):
        Settings(projects=["prostate"], pipelines=[name])


@pytest.mark.parametrize("name", ["", "Lungs", "a--b", "3d", "x" * 33, "*"])
def test_own_pipelines_have_names_that_no_policy_reads_otherwise(name: str) -> None:
    """Roles' rights contain them."""
    with pytest.raises(ValueError, match="pipelines"):
        Settings(pipelines=[name])

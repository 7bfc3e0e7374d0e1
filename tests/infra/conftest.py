"""One synthesis for the run of the suite: it takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from cdk_nag import AwsSolutionsChecks, HIPAASecurityChecks

from infra.app import make_app
from infra.settings import MonitoringSettings, ScheduleSettings, SchedulingSettings, Settings, TrackingSettings
from infra.stack import STACK_NAME
from tests.infra.policies import Account
from tests.infra.template import Template
from tests.shared import made_once

WEEKLY = ScheduleSettings(
    name="weekly",
    pipeline="segmentation",
    data="s3://data-of-the-clinic/raw/segmentation/spleen/",
    expression="rate(7 days)",
    parameters={"Epochs": "5"},
)
EVERYTHING = Settings(
    tracking=TrackingSettings(mlflow="server"),
    scheduling=SchedulingSettings(schedules=[WEEKLY]),
    monitoring=MonitoringSettings(approvers=["approvers@example.org"], operations=["operations@example.org"]),
)


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the synthesised app, with all that there is, and what cdk-nag finds in it."""
    return made_once(tmp_path_factory, "assembly", _synthesise)


def _synthesise(folder: Path) -> None:
    app = make_app(EVERYTHING, outdir=str(folder), validate=False)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app), HIPAASecurityChecks(app))
    # All is written before findings make it fail; they are compared with their answers (test_findings.py).
    with pytest.raises(RuntimeError, match=r"^ValidationFailed"):
        app.synth()


@pytest.fixture(scope="session")
def template(assembly: Path) -> dict[str, Any]:
    """The stack's template."""
    return dict(json.loads((assembly / f"{STACK_NAME}.template.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def account(template: dict[str, Any]) -> Account:
    """The stack as IAM sees it."""
    return Account(template)


@pytest.fixture
def stack(template: dict[str, Any]) -> Template:
    """The template with its references resolved."""
    return Template(template)

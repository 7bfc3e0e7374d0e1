"""One synthesis for the run of the suite: it takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from cdk_nag import AwsSolutionsChecks, HIPAASecurityChecks

from infra.app import make_app
from infra.names import PRODUCTION_STACK_NAME, STACK_NAME
from infra.settings import (
    DeliverySettings,
    MonitoringSettings,
    ProductionSettings,
    ScheduleSettings,
    SchedulingSettings,
    Settings,
    TrackingSettings,
)
from tests.infra.policies import Account
from tests.infra.template import ACCOUNT, REGION, Template
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

PRODUCTION = "222222222222"
"""Production's account."""
CONNECTION = f"arn:aws:codeconnections:{REGION}:{ACCOUNT}:connection/0a1b2c3d"
DELIVERED = EVERYTHING.model_copy(
    update={
        "production": ProductionSettings(
            account=PRODUCTION,
            artefact_bucket="storageartefacts3f09e644",
            artefact_key=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/KeysArtefactsA7368E7D",
        ),
        "delivery": DeliverySettings(by="codepipeline", repository="clinic/models", connection=CONNECTION),
    }
)
"""The same with CI by CodePipeline, and with production in another account."""


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the synthesised app of one account, with all that it can have except CI."""
    return made_once(tmp_path_factory, "assembly", _synthesise)


def _synthesise(folder: Path) -> None:
    make_app(EVERYTHING, outdir=str(folder), validate=False).synth()


@pytest.fixture(scope="session")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the synthesised app of two accounts with CI, and what cdk-nag finds in it."""
    return made_once(tmp_path_factory, "delivered", _synthesise_delivered)


def _synthesise_delivered(folder: Path) -> None:
    app = make_app(DELIVERED, outdir=str(folder), validate=False)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app), HIPAASecurityChecks(app))
    # All is written before findings make it fail; they are compared with their answers (test_findings.py).
    with pytest.raises(RuntimeError, match=r"^ValidationFailed"):
        app.synth()


@pytest.fixture(scope="session")
def template(assembly: Path) -> dict[str, Any]:
    """The stack's template."""
    return dict(json.loads((assembly / f"{STACK_NAME}.template.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def registry(delivered: Path) -> Account:
    """The stack of pipelines as IAM sees it, with CI, and with production in another account."""
    return Account(json.loads((delivered / f"{STACK_NAME}.template.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def production(delivered: Path) -> Account:
    """Production's stack as IAM sees it."""
    document = json.loads((delivered / f"{PRODUCTION_STACK_NAME}.template.json").read_text(encoding="utf-8"))
    return Account(document, PRODUCTION)


@pytest.fixture(scope="session")
def account(template: dict[str, Any]) -> Account:
    """The stack as IAM sees it."""
    return Account(template)


@pytest.fixture
def stack(template: dict[str, Any]) -> Template:
    """The template with its references resolved."""
    return Template(template)

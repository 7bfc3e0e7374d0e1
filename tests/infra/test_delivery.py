"""CI by a setting: its roles, CodePipeline's pipelines, and GitHub's way in."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.validate import ParamValidator

from infra.app import make_app
from infra.delivery.commands import delivery_values
from infra.delivery.github import HOST, SUBJECTS
from infra.delivery.jobs import buildspec, make_jobs
from infra.names import DELIVERY_ROLE_PATHS, DELIVERY_SIMULATIONS, STACK_NAME
from infra.settings import DeliverySettings, ProductionSettings, Settings
from medloop.cli import app
from medloop.cloud.promotion import BUS_VARIABLE
from tests.infra.actions import exists
from tests.infra.conftest import CONNECTION, DELIVERED
from tests.infra.policies import Account
from tests.infra.template import ACCOUNT
from tests.infra.test_simulations import arn, context
from tests.infra.test_template import problems_of_actions

TABLE = yaml.safe_load(DELIVERY_SIMULATIONS.read_text(encoding="utf-8"))
ROWS = [(who, verb, row) for who, rules in TABLE.items() for verb, rows in rules.items() for row in rows]
GITHUB = DeliverySettings(by="github", repository="clinic/models")


def synthesised(folder: Path, settings: Settings) -> Account:
    """The stack of pipelines with these settings."""
    make_app(settings, outdir=str(folder), validate=False).synth()
    return Account(json.loads((folder / f"{STACK_NAME}.template.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Account:
    """The stack whose CI is GitHub Actions."""
    settings = DELIVERED.model_copy(update={"delivery": GITHUB})
    return synthesised(tmp_path_factory.mktemp("github"), settings)


@pytest.mark.parametrize(
    ("who", "verb", "row"),
    [pytest.param(*row, id=f"{row[0]} {row[1]} {row[2]['ask']} {row[2].get('when', '')}".strip()) for row in ROWS],
)
def test_simulation(registry: Account, who: str, verb: str, row: dict[str, Any]) -> None:
    """A row of the table."""
    action, _, resource = row["ask"].partition(" ")
    when = context(registry, row.get("when", {}))
    role = registry.role(DELIVERY_ROLE_PATHS[who])
    decision = registry.simulate(role, action, arn(registry, resource), when)
    assert (decision == "allowed") == (verb == "may"), f"{decision}; {row.get('why', '')}"


def test_every_role_of_the_table_is_tried_both_ways_about_what_exists() -> None:
    """A misspelled action would be denied for ever."""
    assert set(TABLE) == set(DELIVERY_ROLE_PATHS)
    assert all({"may", "may not"} == set(rules) for rules in TABLE.values())
    assert [row["ask"] for _, _, row in ROWS if not exists(row["ask"].partition(" ")[0])] == []


def test_actions_are_about_their_resources(registry: Account) -> None:
    """As in the stack without CI."""
    assert problems_of_actions(registry) == []


@pytest.mark.parametrize("name", [*SUBJECTS])
def test_githubs_token_of_one_environment_of_one_repository_opens_one_role(github: Account, name: str) -> None:
    """Not that of another repository, of another environment, of a branch, or for another audience."""
    path = "Execution/Publisher/Role" if name == "Publisher" else f"Delivery/Roles/{name}"
    trusts = [s for s in github.trust_of(github.role(path)) if "Federated" in s["Principal"]]
    ((statement,),) = [trusts]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {f"{HOST}:aud": "sts.amazonaws.com", f"{HOST}:sub": f"repo:clinic/models:{SUBJECTS[name]}"}
    }
    # A wildcard in the subject would open the role to other repositories and environments.
    assert "*" not in json.dumps(statement["Condition"])


def test_the_accounts_own_provider_of_githubs_tokens_is_used(tmp_path: Path) -> None:
    """An account can have one only."""
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{HOST}"
    settings = Settings(delivery=GITHUB.model_copy(update={"oidc_provider": provider}))
    account = synthesised(tmp_path, settings)
    assert not account.by_type("AWS::IAM::OIDCProvider")
    (statement,) = account.trust_of(account.role("Delivery/Roles/Reader"))
    assert statement["Principal"] == {"Federated": provider}
    assert not [name for name in account.by_type("AWS::IAM::Role") if "Promoter" in name], "production isn't elsewhere"


def test_ci_s_roles_are_outputs(github: Account, registry: Account) -> None:
    """The variables of the workflow's environments."""
    for account in (github, registry):
        outputs = set(account.document["Outputs"])
        assert {f"{name}RoleArn" for name in SUBJECTS} | {"MedloopProductionBusArn"} <= outputs
    assert BUS_VARIABLE == "MEDLOOP_PRODUCTION_BUS_ARN"


@pytest.mark.parametrize("build", ["Check", "Differences", "Images", "Publish", "Staging", "Production"])
def test_a_role_is_assumed_by_its_one_build(registry: Account, build: str) -> None:
    """Each build's own role is trusted by one role of CI, except the check's, which none trusts."""
    principal = registry.role(f"Delivery/ProjectRoles/{build}")
    opened = {
        role
        for role in map(registry.arn, registry.by_type("AWS::IAM::Role"))
        if registry.assume(role, principal) == "allowed"
    }
    roles = {"Images": "Images", "Differences": "Reader", "Staging": "Staging", "Production": "Promoter"}
    expected = {registry.role(f"Delivery/Roles/{roles[build]}")} if build in roles else set()
    assert opened == (expected | ({registry.role("Execution/Publisher/Role")} if build == "Publish" else set()))


def pipelines(account: Account) -> dict[str, dict[str, Any]]:
    """CodePipeline's pipelines by name, as CloudFormation gets them."""
    made = [account.resolve(account.properties(name)) for name in account.by_type("AWS::CodePipeline::Pipeline")]
    return {each["Name"]: each for each in made}


def actions(pipeline: dict[str, Any]) -> list[list[str]]:
    """Names of a pipeline's actions by stage."""
    return [[action["Name"] for action in stage["Actions"]] for stage in pipeline["Stages"]]


def test_the_pipelines_do_what_the_workflow_does(registry: Account) -> None:
    """In its order: nothing is published or promoted before what precedes it succeeded."""
    assert {name: actions(each) for name, each in pipelines(registry).items()} == {
        "medloop-review": [["Source"], ["Check"], ["Differences"]],
        "medloop-delivery": [["Source"], ["Check"], ["Images"], ["Differences", "Publish"]],
        "medloop-promotion": [["Source"], ["Staging"], ["Approval"], ["Production"]],
    }
    publish = pipelines(registry)["medloop-delivery"]["Stages"][3]["Actions"]
    assert [action["RunOrder"] for action in publish] == [1, 2]


def test_pull_requests_are_checked_and_the_branch_is_published(registry: Account) -> None:
    """A promotion is started by a person, who names a version."""
    triggers = {name: each.get("Triggers") for name, each in pipelines(registry).items()}
    branch = {"Branches": {"Includes": ["main"]}}
    for name, expected in (
        ("medloop-review", {"PullRequest": [{**branch, "Events": ["OPEN", "UPDATED"]}]}),
        ("medloop-delivery", {"Push": [branch]}),
    ):
        (trigger,) = triggers[name]
        assert trigger["GitConfiguration"] == {"SourceActionName": "Source", **expected}
    assert triggers["medloop-promotion"] is None
    promotion = pipelines(registry)["medloop-promotion"]
    assert [variable["Name"] for variable in promotion["Variables"]] == ["Version"]
    assert promotion["Stages"][0]["Actions"][0]["Configuration"]["DetectChanges"] == "false"


def _camel(value: Any) -> Any:
    """CloudFormation's members as CodePipeline's API has them; an action's configuration is text by text in both."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {k[0].lower() + k[1:]: v if k == "Configuration" else _camel(v) for k, v in value.items() if k != "Tags"}


@pytest.mark.parametrize("name", ["medloop-review", "medloop-delivery", "medloop-promotion"])
def test_a_pipeline_is_one_by_the_services_model(registry: Account, name: str) -> None:
    """CreatePipeline's shape in botocore takes it; a member that it doesn't know is reported."""
    pipeline = {**_camel(pipelines(registry)[name]), "version": 1}
    shape = boto3.client("codepipeline", region_name="us-east-1").meta.service_model.operation_model("CreatePipeline")
    assert ParamValidator().validate({"pipeline": pipeline}, shape.input_shape).generate_report() == ""
    pipeline["stages"][0]["actions"][0]["runOrders"] = 1
    assert ParamValidator().validate({"pipeline": pipeline}, shape.input_shape).generate_report() != ""


def test_without_a_connection_the_source_is_codecommit(tmp_path: Path) -> None:
    """Its commits on the branch start the delivery; pull requests start nothing there."""
    account = synthesised(tmp_path, Settings(delivery=DeliverySettings(by="codepipeline", repository="models")))
    made = pipelines(account)
    assert {name: actions(each) for name, each in made.items()} == {
        "medloop-delivery": [["Source"], ["Check"], ["Images"], ["Differences", "Publish"]],
        "medloop-promotion": [["Source"], ["Staging"]],
    }
    source = made["medloop-delivery"]["Stages"][0]["Actions"][0]
    assert source["ActionTypeId"]["Provider"] == "CodeCommit"
    assert source["Configuration"]["PollForSourceChanges"] == "false"
    rule = account.resolve(account.properties(account.find("AWS::Events::Rule", "Delivery/Pipelines/Commits")))
    (target,) = rule["Targets"]
    assert target["Arn"].endswith(":medloop-delivery")
    assert rule["EventPattern"]["resources"] == [f"arn:aws:codecommit:us-east-1:{ACCOUNT}:models"]
    start = account.simulate(target["RoleArn"], "codepipeline:StartPipelineExecution", target["Arn"])
    assert start == "allowed"
    assert problems_of_actions(account) == []


def test_failures_are_mailed_and_no_event_of_delivery_is_lost(registry: Account) -> None:
    """Of what a commit or a person started; of pull requests their author sees the result."""
    rule = registry.resolve(registry.properties(registry.find("AWS::Events::Rule", "Delivery/Pipelines/Failures")))
    assert rule["EventPattern"]["detail"] == {
        "pipeline": ["medloop-delivery", "medloop-promotion"],
        "state": ["FAILED"],
    }
    (target,) = rule["Targets"]
    assert target["Arn"].endswith(":medloop-operations")
    rules = [registry.resolve(registry.properties(name)) for name in registry.by_type("AWS::Events::Rule")]
    assert all("medloop-dead-letters" in t["DeadLetterConfig"]["Arn"] for each in rules for t in each["Targets"])
    (lost,) = [
        registry.properties(name)
        for name in registry.by_type("AWS::CloudWatch::Alarm")
        if registry.properties(name)["AlarmName"] == "medloop-events-lost"
    ]
    assert [each["Name"] for each in rules if each["Name"] not in json.dumps(lost)] == []


def test_commands_are_those_that_there_are(tmp_path: Path) -> None:
    """Each line is the shell's, and each `medloop` in it a command with options that it has."""
    from typer.main import get_command

    root = get_command(app)
    for values in (delivery_values(""), delivery_values("lung-triage")):
        for job in make_jobs(values, promotes=True).values():
            for phase in buildspec(job, values)["phases"].values():
                script = "\n".join(phase["commands"])
                assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0, script
            for line in job.commands:
                for arguments in (part.split() for part in line.split("&& ") if part.startswith("medloop ")):
                    command: Any = root
                    while hasattr(command, "commands"):
                        arguments = arguments[1:]
                        command = command.commands[arguments[0]]
                    options = {o for parameter in command.params for o in parameter.opts}
                    assert {argument for argument in arguments if argument.startswith("--")} <= options, line


def test_a_versions_name_is_no_shell(registry: Account) -> None:
    """It reaches the commands as a variable, in quotes."""
    promotion = pipelines(registry)["medloop-promotion"]
    for stage in (1, 3):
        (action,) = promotion["Stages"][stage]["Actions"]
        (variable,) = json.loads(action["Configuration"]["EnvironmentVariables"])
        assert variable == {"name": "VERSION", "value": "#{variables.Version}", "type": "PLAINTEXT"}
    for job in ("staging", "production"):
        assert all(
            "VERSION" not in line or '"$VERSION"' in line
            for line in make_jobs(delivery_values(""), promotes=True)[job].commands
        )


def test_the_settings_of_the_account_are_arguments(registry: Account) -> None:
    """As the shell splits them: the key, isolation, the VPC; quoted, so that a value is one argument."""
    project = registry.resolve(
        registry.properties(registry.find("AWS::CodeBuild::Project", "Delivery/Publish/Project"))
    )
    variables = {v["Name"]: v["Value"] for v in project["Environment"]["EnvironmentVariables"]}
    script = 'eval "set -- $MEDLOOP_SETTINGS"; printf "%s\\n" "$@"'
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, check=True)
    arguments = done.stdout.split("\n")
    assert arguments[0::2][:-1] == ["--set"] * (len(arguments) // 2)
    assert [argument.partition("=")[0] for argument in arguments[1::2]] == [
        *("network.kms_key", "network.isolate_processing", "network.subnets", "network.security_group_ids")
    ]
    assert variables["MEDLOOP_TARGET"] == "aws"
    assert {"MEDLOOP_BUCKET", "MEDLOOP_ROLE_ARN", "JOB_ROLE_ARN"} <= set(variables)
    check = registry.properties(registry.find("AWS::CodeBuild::Project", "Delivery/Check/Project"))
    assert "EnvironmentVariables" not in check["Environment"]


def test_only_builds_of_images_are_privileged(registry: Account) -> None:
    """Docker needs it."""
    projects = [registry.properties(name) for name in registry.by_type("AWS::CodeBuild::Project")]
    privileged = {each["Name"] for each in projects if each["Environment"].get("PrivilegedMode")}
    assert privileged == {"medloop-images", "medloop-delivery-images"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"by": "github"}, "repository: is missing; set ORG/REPO"),
        ({"by": "github", "repository": "models"}, "'models' is no ORG/REPO"),
        ({"by": "codepipeline", "connection": CONNECTION, "repository": "models"}, "'models' is no ORG/REPO"),
        ({"by": "codepipeline", "repository": "clinic/models"}, "'clinic/models' is no name in CodeCommit"),
        ({"by": "codepipeline"}, "set the name in CodeCommit"),
        ({"by": "github", "repository": "clinic/*"}, "repository"),
        ({"by": "github", "repository": "clinic/models", "branch": "main;x"}, "branch"),
        ({"by": "codepipeline", "repository": "r", "connection": "arn:aws:iam::1:role/x"}, "connection"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, str], message: str) -> None:
    """A repository's name is part of a trust policy: it contains no wildcard."""
    with pytest.raises(ValueError, match="(?s)" + message):
        DeliverySettings.model_validate(values)


def test_a_project_that_the_stack_does_not_know_is_refused() -> None:
    """Its roles would name other pipelines."""
    delivery = GITHUB.model_copy(update={"project": "lung-triage"})
    with pytest.raises(ValueError, match=r"delivery\.project: lung-triage is none of pipelines"):
        Settings(delivery=delivery)
    assert Settings(delivery=delivery, pipelines=["lung-triage"]).delivery.project == "lung-triage"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"account": 12345}, "is read as the number 12345; write the account's twelve digits in quotes"),
        ({"account": "12345"}, "account"),
        ({"account": "222222222222", "artefact_bucket": "b-u"}, "set both, or none"),
        (
            {"artefact_bucket": "b-u", "artefact_key": "arn:aws:kms:eu-west-1:111111111111:key/a"},
            "account: is missing; set the account of production",
        ),
        (
            {
                "account": "111111111111",
                "artefact_bucket": "b-u",
                "artefact_key": "arn:aws:kms:eu-west-1:111111111111:key/a",
            },
            "111111111111 is the account of artefact_key too",
        ),
    ],
)
def test_wrong_accounts_are_refused(values: dict[str, Any], message: str) -> None:
    """YAML reads an account as a number, and one that begins with zero as another."""
    with pytest.raises(ValueError, match=message):
        ProductionSettings.model_validate(values)
    assert ProductionSettings.model_validate({"account": 222222222222}).account == "222222222222"

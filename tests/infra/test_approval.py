"""From an approver's decision to an endpoint, as it flows: the template's state machine is run; moto is the account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from moto.core.utils import utcnow

from infra.deployment.plan import REFUSED_TAG, converge
from tests.infra.flows import BOTO_NAMES, World, world
from tests.infra.template import ACCOUNT, REGION

GROUP = "medloop-segmentation"
EVIDENCE = "s3://artefacts/executions/segmentation/e1/Evaluate/evaluation"
VERSIONS = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package"
BLUE_GREEN = "BlueGreenUpdatePolicy"


@pytest.fixture
def account(assembly: Path) -> Iterator[World]:
    """An account with the stack: its model group is empty, its alarms are silent."""
    with world(assembly) as made:
        yield made


def alarm(account: World, name: str, state: str) -> None:
    """Put an alarm of the stack into a state."""
    account.cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="test")


def register(account: World, **metadata: str) -> str:
    """A new version that waits for a decision; returns its ARN."""
    specification = {
        "Containers": [{"Image": "image", "ModelDataUrl": "s3://artefacts/model.tar.gz"}],
        "SupportedContentTypes": [],
        "SupportedResponseMIMETypes": [],
    }
    made = account.sagemaker.create_model_package(
        ModelPackageGroupName=GROUP,
        InferenceSpecification=specification,
        ModelApprovalStatus="PendingManualApproval",
        CustomerMetadataProperties={"evaluation": EVIDENCE, "score": "mean_foreground_dice 0.9000", **metadata},
    )
    return str(made["ModelPackageArn"])


def send_event(account: World, arn: str, status: str | None = None) -> str:
    """The event of a version's state, or of one that it had; returns the execution that it started."""
    package = account.sagemaker.describe_model_package(ModelPackageName=arn)
    # As the service sends it: the whole description.
    # https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
    described = {name: value for name, value in package.items() if name != "ResponseMetadata"}
    described |= {"ModelPackageStatus": "Completed", "ModelApprovalStatus": status or package["ModelApprovalStatus"]}
    detail = json.loads(json.dumps(described, default=str))
    (execution,) = account.send("aws.sagemaker", "SageMaker Model Package State Change", detail)
    return execution


def decide(account: World, arn: str, status: str = "Approved", decision: str = "decision_1") -> None:
    """An approver's decision."""
    before = account.sagemaker.describe_model_package(ModelPackageName=arn)["CustomerMetadataProperties"]
    metadata = {**before, "decision": decision}
    account.sagemaker.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus=status, CustomerMetadataProperties=metadata
    )


def deploy(account: World, arn: str, **choices: str) -> dict[str, Any]:
    """Approve a version, tell of it, and wait for the end of what follows."""
    decide(account, arn, **choices)
    return account.ended(send_event(account, arn))


def served(account: World) -> str:
    """The version that the endpoint's configuration is named by."""
    return str(account.endpoint(GROUP).endpoint_config_name).rpartition("-")[0]


@pytest.mark.slow
def test_an_approval_becomes_an_endpoint(account: World) -> None:
    """Made at the first deployment: two instances, autoscaling, a mail to approvers."""
    end = deploy(account, register(account))
    assert end["status"] == "SUCCEEDED", end
    assert served(account) == f"{GROUP}-1"
    config = account.sagemaker.describe_endpoint_config(EndpointConfigName=account.endpoint(GROUP).endpoint_config_name)
    (variant,) = config["ProductionVariants"]
    assert variant["VariantName"] == "AllTraffic"
    assert variant["InitialInstanceCount"] == 2
    model = account.sagemaker.describe_model(ModelName=variant["ModelName"])
    assert model["PrimaryContainer"]["ModelPackageName"].endswith(f"{GROUP}/1")
    (target,) = account.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ]
    assert target["ResourceId"] == f"endpoint/{GROUP}/variant/AllTraffic"
    assert "serves" in account.mails("Approvers")[0]["Message"]


@pytest.mark.slow
@pytest.mark.parametrize("status", ["PendingManualApproval", "Rejected", "Approved"])
def test_a_version_that_was_deleted_since_its_event_alarms_no_one(account: World, status: str) -> None:
    """Its event is looked at a minute later; until then a smoke test or a person may have deleted it."""
    detail = {"ModelPackageGroupName": GROUP, "ModelApprovalStatus": status, "ModelPackageArn": f"{VERSIONS}/{GROUP}/9"}
    (execution,) = account.send("aws.sagemaker", "SageMaker Model Package State Change", detail)
    assert account.ended(execution)["status"] == "SUCCEEDED"
    assert "Nothing" in account.visited(execution)
    assert account.mails("Operations") == account.mails("Approvers") == []


@pytest.mark.slow
def test_a_newer_version_takes_over_by_a_canary_that_alarms_watch(account: World) -> None:
    """Blue/green, half of the instances first, a bake, and the endpoint's own alarms."""
    deploy(account, register(account))
    assert deploy(account, register(account))["status"] == "SUCCEEDED"
    assert served(account) == f"{GROUP}-2"
    (update,) = account.updates
    routing = update["DeploymentConfig"][BLUE_GREEN]["TrafficRoutingConfiguration"]
    assert routing["Type"] == "CANARY"
    assert routing["CanarySize"] == {"Type": "CAPACITY_PERCENT", "Value": 50}
    assert routing["WaitIntervalInSeconds"] >= 60
    alarms = [alarm["AlarmName"] for alarm in update["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]]
    assert alarms == [f"{GROUP}-errors", f"{GROUP}-latency"]
    assert len(account.cloudwatch.describe_alarms(AlarmNames=alarms)["MetricAlarms"]) == 2
    shape = account.sagemaker.meta.service_model.operation_model("UpdateEndpoint").input_shape
    assert set(update) <= set(shape.members)
    assert set(update["DeploymentConfig"]) <= set(shape.members["DeploymentConfig"].members)


@pytest.mark.slow
def test_a_failing_alarm_rolls_back_and_is_reported_and_the_repeated_event_tries_no_more(account: World) -> None:
    """The old version stays in service; the mail names the reason and the runbook; only a new approval tries again."""
    deploy(account, register(account))
    alarm(account, f"{GROUP}-errors", "ALARM")
    second = register(account)
    end = deploy(account, second)
    assert (end["status"], end["error"]) == ("FAILED", "RolledBack")
    assert served(account) == f"{GROUP}-1"
    (mail,) = account.mails("Operations")
    assert "configured alarm(s) breached" in mail["Message"]
    assert "medloop-deployment-failed" in mail["Message"]
    config = account.updates[0]["EndpointConfigName"]
    marked = account.sagemaker.describe_endpoint_config(EndpointConfigName=config)["EndpointConfigArn"]
    tags = account.sagemaker.list_tags(ResourceArn=marked)["Tags"]
    (decision,) = [tag["Value"] for tag in tags if tag["Key"] == REFUSED_TAG]
    assert decision.startswith("decision_1 ")
    assert account.scaled(GROUP)
    alarm(account, f"{GROUP}-errors", "OK")
    assert account.visited_by(send_event(account, second))[-1] == "Nothing"
    assert len(account.updates) == 1
    assert deploy(account, second, decision="decision_2")["status"] == "SUCCEEDED"
    assert served(account) == f"{GROUP}-2"


@pytest.mark.slow
def test_a_repeated_event_changes_nothing(account: World) -> None:
    """Whether it comes at once or when all is done."""
    arn = register(account)
    decide(account, arn)
    both = [send_event(account, arn), send_event(account, arn)]
    assert {account.ended(execution)["status"] for execution in both} == {"SUCCEEDED"}
    assert account.visited_by(send_event(account, arn))[-1] == "Nothing"
    assert account.updates == []
    assert len(account.mails("Approvers")) == 1, "of one deployment one mail"
    models = account.sagemaker.list_models()["Models"]
    configs = account.sagemaker.list_endpoint_configs()["EndpointConfigs"]
    assert (len(models), len(configs)) == (1, 1)


@pytest.mark.slow
def test_an_event_that_comes_late_does_not_bring_the_old_version_back(account: World) -> None:
    """The newest Approved version decides, whichever event comes last."""
    first, second = register(account), register(account)
    decide(account, first)
    decide(account, second)
    account.ended(send_event(account, second))
    assert served(account) == f"{GROUP}-2"
    assert account.visited_by(send_event(account, first))[-1] == "Nothing"
    assert served(account) == f"{GROUP}-2"


@pytest.mark.slow
def test_an_older_version_never_replaces_a_newer_one(account: World) -> None:
    """Not even where the newer one is Approved no more: going back is a person's, and the mail has the command."""
    first, second = register(account), register(account)
    decide(account, first)
    deploy(account, second)
    decide(account, second, "Rejected")
    assert account.visited_by(send_event(account, first))[-2:] == ["NotifyOperations", "Notified"]
    assert served(account) == f"{GROUP}-2"
    assert f"medloop endpoints deploy {GROUP}/1" in account.mails("Operations")[0]["Message"]


@pytest.mark.slow
def test_a_newer_approval_during_a_bake_waits_and_then_takes_over(account: World) -> None:
    """Two deployments are never at once; the second checks again when the first has ended."""
    deploy(account, register(account))
    account.holds.add(GROUP)
    second, third = register(account), register(account)
    decide(account, second)
    slow = send_event(account, second)
    account.until(lambda: account.updates)
    decide(account, third)
    late = send_event(account, third)
    account.until(lambda: "Busy" in account.visited(late))
    account.holds.clear()
    assert {account.ended(slow)["status"], account.ended(late)["status"]} == {"SUCCEEDED"}
    assert served(account) == f"{GROUP}-3"


@pytest.mark.slow
def test_a_rejected_version_deploys_nothing(account: World) -> None:
    """Nor does a version whose approval was taken back before anyone looked (docs/decisions/0041)."""
    arn = register(account)
    decide(account, arn, "Rejected")
    for status in ("Rejected", "Approved"):
        assert account.visited_by(send_event(account, arn, status))[-1] == "Nothing"
    assert account.sagemaker.list_models()["Models"] == []
    assert account.endpoint(GROUP) is None


@pytest.mark.slow
def test_an_approval_taken_back_before_traffic_moves_deploys_nothing(account: World) -> None:
    """Between the first look and the second."""
    arn = register(account)
    decide(account, arn)
    real = account.call

    def call(function: str, payload: Any) -> tuple[Any, bool]:
        response = real(function, payload)
        decide(account, arn, "Rejected")
        return response

    account.call = call  # type: ignore[method-assign]
    visited = account.visited_by(send_event(account, arn))
    assert "LookAgain" in visited
    assert visited[-1] == "Nothing"
    assert account.endpoint(GROUP) is None


@pytest.mark.slow
def test_a_version_that_waits_is_reported_to_approvers_with_the_link(account: World) -> None:
    """The mail has the console's page of the report, and the commands; nothing is deployed."""
    account.ended(send_event(account, register(account)))
    (mail,) = account.mails("Approvers")
    assert mail["Subject"] == f"medloop: {GROUP}/1 waits for approval"
    link = "https://us-east-1.console.aws.amazon.com/s3/object/artefacts?region=us-east-1&prefix="
    assert f"{link}executions/segmentation/e1/Evaluate/evaluation/report.html" in mail["Message"]
    assert f"medloop models show {GROUP}/1 --target aws" in mail["Message"]
    assert account.endpoint(GROUP) is None


def change_machines(account: World, kind: str) -> None:
    """The stack is deployed again with another kind of machine."""
    function = "medloop-deployment-plan"
    client = account.client("lambda")
    variables = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    serving = json.loads(variables["PLACE"])
    serving["hosting"]["instance_type"] = kind
    changed = {"Variables": {**variables, "PLACE": json.dumps(serving)}}
    client.update_function_configuration(FunctionName=function, Environment=changed)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["Deployed", "RolledBack", "Failed"])
def test_other_machines_are_no_obstacle_and_scaling_outlasts_them(account: World, end: str) -> None:
    """An update to another instance type is refused while the endpoint is scaled; afterwards it always is again."""
    deploy(account, register(account))
    change_machines(account, "ml.m5.2xlarge")
    if end == "RolledBack":
        alarm(account, f"{GROUP}-errors", "ALARM")
    if end == "Failed":
        account.refusals["update_endpoint"] = "there is no machine to be had"
    second = register(account)
    decide(account, second)
    visited = account.visited_by(send_event(account, second))
    assert "StopScaling" in visited
    assert visited[-1] == end
    assert account.scaled(GROUP)
    assert served(account) == (f"{GROUP}-2" if end == "Deployed" else f"{GROUP}-1")
    if end == "Failed":
        assert "there is no machine to be had" in account.mails("Operations")[0]["Message"]


@pytest.mark.slow
def test_the_same_machines_stay_scaled_during_a_canary(account: World) -> None:
    """Nothing is taken away that needn't be."""
    deploy(account, register(account))
    second = register(account)
    decide(account, second)
    visited = account.visited_by(send_event(account, second))
    assert "UpdateEndpoint" in visited
    assert "StopScaling" not in visited


@pytest.mark.slow
def test_scaling_that_fails_after_the_switch_is_reported_and_set_by_a_repeated_event(account: World) -> None:
    """The endpoint responds, the mail names the missing scaling, the failure is an alarm; then scaling is set."""
    first = register(account)
    account.refusals["register_scalable_target"] = "too many requests"
    end = deploy(account, first)
    assert (end["status"], end["error"]) == ("FAILED", "NotScaled")
    assert served(account) == f"{GROUP}-1"
    (mail,) = account.mails("Operations")
    assert "is not scaled" in mail["Message"]
    assert "medloop-deployment-failed" in mail["Message"]
    account.refusals.clear()
    assert account.visited_by(send_event(account, first))[-3:] == ["PutScalingPolicy", "Scaled", "Nothing"]
    assert account.scaled(GROUP)
    assert account.mails("Operations") == []


@pytest.mark.slow
def test_a_request_that_came_too_often_is_made_again(account: World) -> None:
    """A throttled request is no refusal."""
    arn = register(account)
    decide(account, arn)
    account.refusals["create_model"] = "Rate exceeded"
    execution = send_event(account, arn)
    account.until(lambda: "Busy" in account.visited(execution))
    account.refusals.clear()
    assert account.ended(execution)["status"] == "SUCCEEDED"
    assert served(account) == f"{GROUP}-1"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["serverless", "asynchronous"])
def test_an_endpoint_of_another_kind_is_left_to_a_person(account: World, kind: str) -> None:
    """The stack's canary, alarms and scaling are of real-time endpoints; one that is none isn't made one."""
    deploy(account, register(account))
    config = account.sagemaker.describe_endpoint_config(EndpointConfigName=account.endpoint(GROUP).endpoint_config_name)
    (variant,) = config["ProductionVariants"]
    name = f"{GROUP}-1-0123456789"
    serverless = {
        "VariantName": "AllTraffic",
        "ModelName": variant["ModelName"],
        "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1},
    }
    queued = {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://artefacts/endpoints"}}}
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[serverless if kind == "serverless" else variant],
        **(queued if kind == "asynchronous" else {}),
    )
    account.endpoint(GROUP).endpoint_config_name = name
    second = register(account)
    assert deploy(account, second)["status"] == "SUCCEEDED"
    assert account.updates == []
    (mail,) = account.mails("Operations")
    assert "asynchronous or serverless" in mail["Message"]
    assert f"medloop endpoints deploy {GROUP}/2" in mail["Message"]


@pytest.mark.slow
def test_a_decision_in_the_console_after_a_rollback_is_a_new_one(account: World) -> None:
    """It leaves the name of the earlier decision in the metadata, and changes the time."""
    deploy(account, register(account))
    alarm(account, f"{GROUP}-errors", "ALARM")
    second = register(account)
    assert deploy(account, second)["status"] == "FAILED"
    alarm(account, f"{GROUP}-errors", "OK")
    account.package(second).last_modified_time = utcnow() + timedelta(minutes=1)
    assert account.ended(send_event(account, second))["status"] == "SUCCEEDED"
    assert served(account) == f"{GROUP}-2"


@pytest.mark.slow
def test_a_served_version_that_is_rejected_is_reported(account: World) -> None:
    """The stack deletes nothing by itself; the mail says that a rejected model is still served."""
    first, second = register(account), register(account)
    deploy(account, first)
    decide(account, second, "Rejected")
    assert account.visited_by(send_event(account, second))[-1] == "Nothing"
    decide(account, first, "Rejected")
    assert account.visited_by(send_event(account, first))[-1] == "Notified"
    (mail,) = account.mails("Operations")
    assert mail["Subject"] == f"medloop: {GROUP}/1 is Rejected and served"
    assert served(account) == f"{GROUP}-1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("score", "metrics"),
    [
        ("mean_foreground_dice 0.8200", {"Score": 0.82, "ScoreChange": -0.08}),
        ("macro_auroc 0.8200", {"Score": 0.82}),
        ("none", {}),
        ("mean_foreground_dice nan", {}),
    ],
)
def test_a_waiting_version_measures_drift(account: World, score: str, metrics: dict[str, float]) -> None:
    """Its score, and the difference to that of the version in production: what the dashboard and the alarm show."""
    deploy(account, register(account))
    account.ended(send_event(account, register(account, score=score)))
    measured = account.measured()
    assert {metric.name: metric.value for metric in measured} == metrics
    assert {(metric.namespace, metric.dimensions[0].name, metric.dimensions[0].value) for metric in measured} <= {
        ("medloop", "ModelPackageGroup", GROUP)
    }


@pytest.mark.slow
def test_a_version_in_the_making_is_not_announced(account: World) -> None:
    """The service sends an event of each state that it goes through: one mail is enough."""
    arn = register(account)
    account.package(arn).model_package_status = "InProgress"
    assert account.visited_by(send_event(account, arn))[-1] == "Nothing"
    account.package(arn).model_package_status = "Completed"
    assert account.visited_by(send_event(account, arn))[-1] == "Notified"
    assert len(account.mails("Approvers")) == 1


def check(account: World) -> list[dict[str, str]]:
    """Run the daily checks of both groups; returns the mails to operations."""
    assert {account.ended(execution)["status"] for execution in account.tick("medloop-daily-check")} == {"SUCCEEDED"}
    return account.mails("Operations")


def approve_unheard(account: World, hours: float = 24, **metadata: str) -> str:
    """A new version that was Approved some time ago, without an event; returns its ARN."""
    arn = register(account, **metadata)
    decide(account, arn)
    account.package(arn).last_modified_time = utcnow() - timedelta(hours=hours)
    return arn


@pytest.mark.slow
def test_an_approval_without_an_event_is_reported_and_not_deployed(account: World) -> None:
    """The first version and a newer one alike; an operator decides, because the older one may be served on purpose."""
    approve_unheard(account)
    (mail,) = check(account)
    assert mail["Subject"] == f"medloop: {GROUP}/1 is approved and not deployed"
    assert account.endpoint(GROUP) is None
    deploy(account, register(account))
    approve_unheard(account)
    (mail,) = check(account)
    assert mail["Subject"] == f"medloop: {GROUP}/3 is approved and not deployed"
    assert f"medloop models approve {GROUP}/3 --reason TEXT --yes --target aws" in mail["Message"]
    assert served(account) == f"{GROUP}-2"


@pytest.mark.slow
@pytest.mark.parametrize("hours", [1, 24 * 8])
def test_an_approval_of_this_hour_or_older_than_a_week_is_not_reported(account: World, hours: float) -> None:
    """A deployment takes hours; and an endpoint that was deleted on purpose isn't reported every day for ever."""
    approve_unheard(account, hours)
    assert check(account) == []


@pytest.mark.slow
def test_a_rejection_without_an_event_is_reported(account: World) -> None:
    """A version that is served and Approved no more: whether none is, another is, or another of another endpoint."""
    first = register(account)
    deploy(account, first)
    decide(account, first, "Rejected")
    subject = f"medloop: {GROUP}/1 is not Approved and served"
    assert [mail["Subject"] for mail in check(account)] == [subject]
    approve_unheard(account)
    assert [mail["Subject"] for mail in check(account)] == [subject]
    approve_unheard(account, endpoint="staging")
    assert [mail["Subject"] for mail in check(account)] == [subject]


@pytest.mark.slow
@pytest.mark.parametrize("status", ["Failed", "OutOfService", "UpdateRollbackFailed"])
def test_an_endpoint_that_is_out_of_service_is_reported(account: World, status: str) -> None:
    """The name of its configuration doesn't show that it responds."""
    first = register(account)
    deploy(account, first)
    account.package(first).last_modified_time = utcnow() - timedelta(days=30)
    account.endpoint(GROUP).endpoint_status = status
    (mail,) = check(account)
    assert mail["Subject"] == f"medloop: endpoint {GROUP} is {status}"


@pytest.mark.slow
def test_a_version_that_an_alarm_rolled_back_is_not_recommended(account: World) -> None:
    """The rollback was reported when it happened."""
    deploy(account, register(account))
    alarm(account, f"{GROUP}-errors", "ALARM")
    second = register(account)
    account.package(second).last_modified_time = utcnow() - timedelta(days=1)
    decide(account, second)
    account.package(second).last_modified_time = utcnow() - timedelta(days=1)
    assert account.ended(send_event(account, second))["error"] == "RolledBack"
    assert len(account.mails("Operations")) == 1
    assert check(account) == []


@pytest.mark.slow
def test_an_endpoint_made_by_hand_is_no_place_for_a_recommendation(account: World) -> None:
    """The same reason as an event would have given."""
    deploy(account, register(account))
    account.endpoint(GROUP).endpoint_config_name = "by-hand"
    approve_unheard(account)
    (mail,) = check(account)
    assert "made by someone else (by-hand)" in mail["Message"]
    assert "medloop models approve" not in mail["Message"]


@pytest.mark.slow
def test_a_day_on_which_all_is_as_decided_is_silent(account: World) -> None:
    """Nothing approved, the approved version served by any instance, a deployment under way, another's endpoint."""
    assert check(account) == []
    first = register(account)
    deploy(account, first)
    account.package(first).last_modified_time = utcnow() - timedelta(days=1)
    assert check(account) == []
    change_machines(account, "ml.m5.2xlarge")
    assert check(account) == []
    account.endpoint(GROUP).endpoint_status = "Updating"
    approve_unheard(account)
    assert check(account) == []
    approve_unheard(account, endpoint="staging")
    assert check(account) == []


@pytest.mark.slow
def test_a_check_that_fails_is_reported(account: World) -> None:
    """As what it is."""
    account.client("lambda").update_function_configuration(
        FunctionName="medloop-deployment-plan", Environment={"Variables": {"PLACE": "{}"}}
    )
    first, _ = account.tick("medloop-daily-check")
    assert account.ended(first)["status"] == "FAILED"
    mail = account.mails("Operations")[0]
    assert mail["Subject"] == "medloop: a deployment or its check failed"
    assert '"check"' in mail["Message"]


@pytest.mark.slow
def test_an_endpoint_that_is_not_the_stacks_is_left_alone(account: World) -> None:
    """An endpoint without alarms, or with a configuration that the stack didn't create."""
    end = deploy(account, register(account, endpoint="staging"))
    assert end["status"] == "SUCCEEDED"
    assert account.endpoint("staging") is None
    assert "staging is none of this stack's" in account.mails("Operations")[0]["Message"]
    deploy(account, register(account))
    account.endpoint(GROUP).endpoint_config_name = "by-hand"
    deploy(account, register(account))
    assert account.updates == []
    assert "made by someone else (by-hand)" in account.mails("Operations")[0]["Message"]


@pytest.mark.parametrize("endpoint", ["medloop-classification", "medloop-segmentation-prostate"])
def test_a_version_is_not_deployed_to_another_groups_endpoint(endpoint: str) -> None:
    """Where it would replace the other group's model: EndpointName is chosen at the start of an execution."""
    stack: Any = SimpleNamespace(endpoints=[GROUP, "medloop-classification", "medloop-segmentation-prostate"])
    version = {"ModelPackageGroupName": GROUP, "ModelPackageVersion": 7, "ModelPackageArn": f"{VERSIONS}/{GROUP}/7"}
    package = {**version, "CustomerMetadataProperties": {"endpoint": endpoint}}
    no_requests: Any = None
    planned = converge(package, stack, no_requests)
    assert planned["action"] == "tell"
    assert planned["subject"] == f"medloop: {GROUP}/7 is approved and not deployed"
    assert f"endpoint {endpoint} serves another group than {GROUP}; nothing was done" in planned["message"]


@pytest.mark.slow
def test_a_refusal_of_the_service_is_reported(account: World) -> None:
    """The event and the cause, to operations; the state machine fails, which is an alarm too."""
    arn = register(account)
    decide(account, arn)
    account.refusals["create_model"] = "the role can't be assumed"
    assert account.ended(send_event(account, arn))["status"] == "FAILED"
    assert "the role can't be assumed" in account.mails("Operations")[0]["Message"]


@pytest.mark.slow
def test_the_definitions_requests_are_the_services(account: World) -> None:
    """Each call's parameters are members of botocore's request."""
    checked = 0
    for machine in account.machines:
        definition = account.states.describe_state_machine(stateMachineArn=machine)["definition"]
        for state in json.loads(definition)["States"].values():
            _, _, call = state.get("Resource", "").partition(":::aws-sdk:")
            if call:
                service, operation = call.split(":")
                model = account.client(BOTO_NAMES.get(service, service)).meta.service_model
                members = model.operation_model(operation[0].upper() + operation[1:]).input_shape.members
                assert {name.removesuffix(".$") for name in state["Parameters"]} <= set(members), call
                checked += 1
    assert checked >= 9


@pytest.mark.slow
def test_containers_get_the_registered_digest(account: World) -> None:
    """So that the model of each instance, also of later ones, is the model that was approved."""
    deploy(account, register(account, model_digest="sha256:0a"))
    (model,) = account.sagemaker.list_models()["Models"]
    container = account.sagemaker.describe_model(ModelName=model["ModelName"])["PrimaryContainer"]
    assert container["Environment"] == {"MEDLOOP_MODEL_SHA256": "sha256:0a"}


@pytest.mark.slow
def test_another_image_than_the_registered_one_is_not_deployed(account: World) -> None:
    """Operations get a mail with both."""
    deploy(account, register(account, image="registered"))
    assert account.sagemaker.list_models()["Models"] == []
    (mail,) = account.mails("Operations")
    assert "it names the image image, and registered was registered" in mail["Message"]

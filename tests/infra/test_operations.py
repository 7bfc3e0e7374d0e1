"""Operations: every alarm has its runbook entry, and no event can be lost unseen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from infra.deployment.plan import SCORE, SCORE_CHANGE
from infra.execution.pipeline import TAG as JOB_TAG
from tests.architecture.source import ROOT, closure
from tests.infra.template import Template

RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
HEADINGS = set(re.findall(r"^## (\S+)$", RUNBOOK, re.MULTILINE))
BUDGET = {"AWS::Budgets::Budget": "medloop-budget", "AWS::CE::AnomalySubscription": "medloop-cost-anomaly"}
LOST = "medloop-events-lost"
SYNCHRONOUS = {
    "medloop-champion": "a pipeline's step waits for it",
    "medloop-guard": "a state machine waits for it",
    "medloop-deployment-plan": "a state machine waits for it",
}
"""Functions that are never called asynchronously, and the caller that waits for each."""


def entries(stack: Template) -> dict[str, str]:
    """The runbook's entry that each alarm's description names."""
    topics = {}
    for logical in stack.by_type("AWS::CloudWatch::Alarm"):
        named = re.match(r"Runbook: (\S+)\. ", stack.properties(logical)["AlarmDescription"])
        assert named, f"{stack.name(logical)} names no entry of the runbook"
        topics[stack.name(logical)] = named[1]
    return topics


def test_alarms_and_runbook_know_one_another(stack: Template) -> None:
    """Each alarm, budget and mail names a heading; each heading is named by one, and names its alarms."""
    alarms = entries(stack)
    mails = {
        name
        for logical in stack.by_type("AWS::StepFunctions::StateMachine")
        for name in re.findall(r"heading (medloop-[a-z-]+)", stack.definition(logical))
    }
    money = {name for kind, name in BUDGET.items() if stack.by_type(kind)}
    assert {*alarms.values(), *mails, *money} == HEADINGS
    assert [name for name in alarms if name not in RUNBOOK] == []


def test_every_alarm_tells_operations(stack: Template) -> None:
    """And a missing measurement is no alarm: an endpoint without requests has none."""
    for logical in stack.by_type("AWS::CloudWatch::Alarm"):
        properties = stack.properties(logical)
        assert [arn.rpartition(":")[2] for arn in stack.resolve(properties["AlarmActions"])] == ["medloop-operations"]
        assert properties["TreatMissingData"] == "notBreaching"


def test_money_tells_operations(stack: Template) -> None:
    """The budget twice, anomalies at once."""
    (budget,) = stack.by_type("AWS::Budgets::Budget").values()
    notices = stack.resolve(budget["Properties"]["NotificationsWithSubscribers"])
    kinds = {notice["Notification"]["NotificationType"] for notice in notices}
    assert kinds == {"ACTUAL", "FORECASTED"}
    addresses = {subscriber["Address"].rpartition(":")[2] for notice in notices for subscriber in notice["Subscribers"]}
    (anomalies,) = stack.by_type("AWS::CE::AnomalySubscription").values()
    addresses |= {s["Address"].rpartition(":")[2] for s in stack.resolve(anomalies["Properties"]["Subscribers"])}
    assert addresses == {"medloop-operations"}


def test_money_is_counted_of_jobs_too(stack: Template) -> None:
    """What the stack made bears one tag, the jobs of pipelines bear another: they are what costs."""
    (budget,) = stack.by_type("AWS::Budgets::Budget").values()
    counted = set(budget["Properties"]["Budget"]["CostFilters"]["TagKeyValue"])
    assert counted == {
        "user:medloop:part-of$infra",
        *(f"user:{JOB_TAG}${pipeline}" for pipeline in ("classification", "segmentation")),
    }
    specified = [m["Properties"]["MonitorSpecification"] for m in stack.by_type("AWS::CE::AnomalyMonitor").values()]
    watched = {json.loads(stack.resolve(text))["Tags"]["Key"] for text in specified}
    assert watched == {"medloop:part-of", JOB_TAG}
    (anomalies,) = stack.by_type("AWS::CE::AnomalySubscription").values()
    assert len(anomalies["Properties"]["MonitorArnList"]) == 2


def test_every_event_target_has_a_dead_letter_queue(stack: Template) -> None:
    """Rules, schedules and functions: all there are, each with its queue or with who waits for it."""
    retention = {}
    for logical, rule in stack.by_type("AWS::Events::Rule").items():
        for number, target in enumerate(rule["Properties"]["Targets"]):
            retention[f"rule {stack.properties(logical)['Name']} {number}"] = target.get("DeadLetterConfig")
    for schedule in stack.by_type("AWS::Scheduler::Schedule").values():
        retention[f"schedule {schedule['Properties']['Name']}"] = schedule["Properties"]["Target"].get(
            "DeadLetterConfig"
        )
    checks = {"rule medloop-daily-check 0", "rule medloop-daily-check 1"}
    assert {"rule medloop-new-data 0", "rule medloop-model-decisions 0", "schedule medloop-weekly", *checks} == set(
        retention
    )
    lost = [
        name for name, config in retention.items() if "medloop-dead-letters" not in json.dumps(stack.resolve(config))
    ]
    assert lost == []
    functions = {stack.name(logical) for logical in stack.by_type("AWS::Lambda::Function")}
    assert functions == set(SYNCHRONOUS)
    assert not stack.by_type("AWS::Lambda::EventSourceMapping")
    sources = [stack.resolve(p["Properties"]) for p in stack.by_type("AWS::Lambda::Permission").values()]
    assert [p for p in sources if "events" in str(p["Principal"]) or "sns" in str(p["Principal"])] == []


def test_an_event_that_not_even_the_queue_took_is_an_alarm(stack: Template) -> None:
    """Of every rule, and of schedules."""
    (alarm,) = [a for a in stack.by_type("AWS::CloudWatch::Alarm").values() if a["Properties"]["AlarmName"] == LOST]
    parts = [query["MetricStat"]["Metric"] for query in alarm["Properties"]["Metrics"] if "MetricStat" in query]
    rules = {d["Value"] for part in parts for d in part["Dimensions"] if d["Name"] == "RuleName"}
    assert rules == {stack.properties(logical)["Name"] for logical in stack.by_type("AWS::Events::Rule")}
    assert [part for part in parts if part["Namespace"] == "AWS/Scheduler"]


def test_the_dead_letter_queue_takes_what_rules_could_not_deliver(stack: Template) -> None:
    """Two weeks, encrypted, from this stack's rules."""
    (queue,) = stack.by_type("AWS::SQS::Queue").values()
    assert queue["Properties"]["MessageRetentionPeriod"] == 14 * 86400
    assert queue["Properties"]["KmsMasterKeyId"]
    (policy,) = stack.by_type("AWS::SQS::QueuePolicy").values()
    text = json.dumps(stack.resolve(policy["Properties"]["PolicyDocument"]))
    assert "events.amazonaws.com" in text
    assert "medloop-new-data" in text or "NewData" in text


def test_the_trail_sees_objects_of_both_buckets(stack: Template) -> None:
    """Reads too, validated, encrypted."""
    (trail,) = stack.by_type("AWS::CloudTrail::Trail").values()
    properties = stack.resolve(trail["Properties"])
    assert properties["EnableLogFileValidation"] is True
    assert properties["KMSKeyId"]
    (selector,) = properties["EventSelectors"]
    assert selector["ReadWriteType"] == "All"
    assert len(selector["DataResources"][0]["Values"]) == 2


def test_no_failure_of_a_state_machine_is_silent(stack: Template) -> None:
    """Each task catches all errors, except mails: if one can't be sent the state machine fails, which is an alarm."""
    watched = json.dumps(
        [stack.resolve(alarm["Properties"]) for alarm in stack.by_type("AWS::CloudWatch::Alarm").values()]
    )
    for logical in stack.by_type("AWS::StepFunctions::StateMachine"):
        document = json.loads(stack.definition(logical))
        assert document["TimeoutSeconds"] > 0
        assert stack.arn(logical) in watched
        for name, state in document["States"].items():
            if state["Type"] == "Task":
                caught = [error for catch in state.get("Catch", []) for error in catch["ErrorEquals"]]
                assert state["Retry"], name
                assert "States.ALL" in caught or name.startswith("Notify"), name


PUBLISHED = {
    "AWS/Sagemaker/ModelBuildingPipeline": "SageMaker, of every execution",
    "AWS/SageMaker": "SageMaker, of every endpoint",
    "AWS/States": "Step Functions",
    "AWS/SQS": "SQS",
    "AWS/Events": "EventBridge",
    "AWS/Scheduler": "EventBridge Scheduler",
    "AWS/Lambda": "Lambda",
    "AWS/Billing": "the account's bill",
    "medloop": "the approval's state machine (test_approval.py)",
}
"""Namespaces of metrics, and who publishes them without anyone's doing."""


def test_every_metric_that_is_shown_or_watched_is_published(stack: Template) -> None:
    """Of the dashboard and of every alarm, each metric; and ours by the very names that the state machine puts."""
    (board,) = stack.by_type("AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(stack.resolve(board["Properties"]["DashboardBody"]))["widgets"]
    shown = [metric for widget in widgets for metric in widget["properties"]["metrics"]]
    assert [metric for metric in shown if not isinstance(metric[0], str)] == [], (
        "a search finds what there may never be"
    )
    watched = []
    for alarm in (resource["Properties"] for resource in stack.by_type("AWS::CloudWatch::Alarm").values()):
        parts = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
        watched += [(part["Namespace"], part["MetricName"]) for part in (parts or [alarm])]
    used = {(metric[0], metric[1]) for metric in shown} | set(watched)
    assert {namespace for namespace, _ in used} == set(PUBLISHED)
    assert {name for namespace, name in used if namespace == "medloop"} == {SCORE, SCORE_CHANGE}
    assert '"Namespace": "medloop"' in stack.definition(
        next(logical for logical in stack.by_type("AWS::StepFunctions::StateMachine") if "Approval" in logical)
    )


def test_the_dashboard_shows_what_operations_ask_for(stack: Template) -> None:
    """Executions, durations, cost, latency, errors, drift."""
    (board,) = stack.by_type("AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(stack.resolve(board["Properties"]["DashboardBody"]))["widgets"]
    titles = " ".join(widget["properties"]["title"] for widget in widgets)
    for word in ("Executions", "Duration", "Charges", "Latency", "Errors", "Drift"):
        assert word in titles


@pytest.mark.parametrize("package", ["scheduling", "deployment"])
def test_functions_hold_all_that_they_can_import(package: str) -> None:
    """The closure of the handler's imports is in its files, and needs the standard library and boto3 only."""
    construct = __import__(f"infra.{package}.construct", fromlist=["CODE"])
    handler = next(name for name in construct.CODE if Path(name).parent.name == package and "__init__" not in name)
    needed = {str(path.relative_to(ROOT)) for path in closure(ROOT / handler)}
    assert needed - set(construct.CODE) <= {"infra/__init__.py"}

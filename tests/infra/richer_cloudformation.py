"""Kinds of resources that moto's CloudFormation lacks, or makes wrongly.

Each is made by the request of its service, except those whose function says that it is only named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
from moto.cloudformation import parsing
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.common_models import CloudFormationModel

from tests.infra.template import REGION, VARIABLE

Properties = dict[str, Any]
Made = dict[str, str]
"""What `Ref` and, by its name, each attribute gives."""


def _client(service: str) -> Any:
    return boto3.client(service)  # type: ignore[call-overload]


def _alarm(_: str, properties: Properties) -> Made:
    _client("cloudwatch").put_metric_alarm(**properties)
    name = properties["AlarmName"]
    return {"Ref": name, "Arn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}"}


def _model_package_group(_: str, properties: Properties) -> Made:
    arn = _client("sagemaker").create_model_package_group(**properties)["ModelPackageGroupArn"]
    return {"Ref": arn, "ModelPackageGroupArn": arn}


def _schedule(_: str, properties: Properties) -> Made:
    arn = _client("scheduler").create_schedule(**properties)["ScheduleArn"]
    return {"Ref": properties["Name"], "Arn": arn}


def _bucket_policy(name: str, _: Properties) -> Made:
    """It is only named: moto's S3 ignores conditions and would deny every write (simulated instead)."""
    return {"Ref": name}


def _bus_policy(name: str, _: Properties) -> Made:
    """It is only named: moto's buses take events of anyone (simulated instead)."""
    return {"Ref": name}


def _subscription(_: str, properties: Properties) -> Made:
    return {"Ref": _client("sns").subscribe(**properties, ReturnSubscriptionArn=True)["SubscriptionArn"]}


def _topic_policy(name: str, properties: Properties) -> Made:
    for topic in properties["Topics"]:
        policy = _json(properties["PolicyDocument"])
        _client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    return {"Ref": name}


def _queue_policy(name: str, properties: Properties) -> Made:
    for queue in properties["Queues"]:
        _client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": _json(properties["PolicyDocument"])})
    return {"Ref": name}


def _egress(_: str, properties: Properties) -> Made:
    peer = {"GroupId": properties["DestinationSecurityGroupId"], "Description": properties["Description"]}
    rule = {name: properties.get(name, -1) for name in ("IpProtocol", "FromPort", "ToPort")}
    made = _client("ec2").authorize_security_group_egress(
        GroupId=properties["GroupId"], IpPermissions=[{**rule, "UserIdGroupPairs": [peer]}]
    )
    return {"Ref": made["SecurityGroupRules"][0]["SecurityGroupRuleId"]}


def _state_machine(_: str, properties: Properties) -> Made:
    renamed = {"StateMachineName": "name", "StateMachineType": "type", "DefinitionString": "definition"}
    request = {renamed.get(key, key[0].lower() + key[1:]): value for key, value in properties.items()}
    values = request.pop("definitionSubstitutions", {})
    request["definition"] = VARIABLE.sub(lambda match: values[match[1]], request["definition"])
    for part in ("loggingConfiguration", "tracingConfiguration", "encryptionConfiguration", "tags"):
        request[part] = _camel(request[part])
    arn = _client("stepfunctions").create_state_machine(**request)["stateMachineArn"]
    return {"Ref": arn, "Arn": arn, "Name": request["name"]}


def _trail(name: str, properties: Properties) -> Made:
    renamed = {"TrailName": "Name", "KMSKeyId": "KmsKeyId", "Tags": "TagsList"}
    request = {"Name": name, **{renamed.get(key, key): value for key, value in properties.items()}}
    selectors, logging, name = request.pop("EventSelectors"), request.pop("IsLogging"), request["Name"]
    client = _client("cloudtrail")
    arn = client.create_trail(**request)["TrailARN"]
    client.put_event_selectors(TrailName=name, EventSelectors=selectors)
    if logging:
        client.start_logging(Name=name)
    return {"Ref": name, "Arn": arn}


def _build(name: str, properties: Properties) -> Made:
    project = _camel({"Name": name, **properties})
    project["source"]["buildspec"] = project["source"].pop("buildSpec")
    arn = _client("codebuild").create_project(**project)["project"]["arn"]
    return {"Ref": project["name"], "Arn": arn}


def _budget(name: str, properties: Properties) -> Made:
    budget = {"BudgetName": name, **properties["Budget"]}
    limit = {**budget["BudgetLimit"], "Amount": str(budget["BudgetLimit"]["Amount"])}
    _client("budgets").create_budget(AccountId=ACCOUNT, **{**properties, "Budget": {**budget, "BudgetLimit": limit}})
    return {"Ref": budget["BudgetName"]}


def _tracking_server(_: str, properties: Properties) -> Made:
    """Moto has none: it is only named."""
    name = properties["TrackingServerName"]
    return {"Ref": name, "TrackingServerArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:mlflow-tracking-server/{name}"}


def _anomaly(name: str, _: Properties) -> Made:
    """Moto's Cost Explorer has neither monitors nor subscriptions: it is only named."""
    arn = f"arn:aws:ce::{ACCOUNT}:{name}"
    return {"Ref": arn, "MonitorArn": arn, "SubscriptionArn": arn}


_KINDS: dict[str, Callable[[str, Properties], Made]] = {
    "AWS::Budgets::Budget": _budget,
    "AWS::CE::AnomalyMonitor": _anomaly,
    "AWS::CE::AnomalySubscription": _anomaly,
    "AWS::CloudTrail::Trail": _trail,
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::CodeBuild::Project": _build,
    "AWS::EC2::SecurityGroupEgress": _egress,
    "AWS::Events::EventBusPolicy": _bus_policy,
    "AWS::S3::BucketPolicy": _bucket_policy,
    "AWS::SNS::Subscription": _subscription,
    "AWS::SNS::TopicPolicy": _topic_policy,
    "AWS::SQS::QueuePolicy": _queue_policy,
    "AWS::SageMaker::MlflowTrackingServer": _tracking_server,
    "AWS::SageMaker::ModelPackageGroup": _model_package_group,
    "AWS::Scheduler::Schedule": _schedule,
}
_OTHERWISE = {"AWS::StepFunctions::StateMachine": _state_machine}
"""Kinds that moto makes, but leaves substitutions out, and where its interpreter doesn't look."""


def add_kinds() -> None:
    """Teach moto what it lacks, once a process.

    Raises:
        AssertionError: Moto has learned to make one of them by itself.
    """
    if _CLASSES:
        return
    if ours := set(parsing.get_model_map()) & set(_KINDS):
        raise AssertionError(f"moto makes {sorted(ours)} by itself: take them out here")
    _CLASSES.extend(_class_of(kind, make) for kind, make in (_KINDS | _OTHERWISE).items())
    for remembered in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        remembered.cache_clear()


_CLASSES: list[type[CloudFormationModel]] = []


def _class_of(kind: str, make: Callable[[str, Properties], Made]) -> type[CloudFormationModel]:
    class Resource(CloudFormationModel):
        """A resource that was made."""

        def __init__(self, made: Made) -> None:
            self.made = made
            self.physical_resource_id = made["Ref"]

        @staticmethod
        def cloudformation_name_type() -> str:
            return ""

        @staticmethod
        def cloudformation_type() -> str:
            return kind

        @classmethod
        def has_cfn_attr(cls, attr: str) -> bool:
            return True

        @classmethod
        def create_from_cloudformation_json(  # type: ignore[misc]
            cls, resource_name: str, cloudformation_json: Properties, account_id: str, region_name: str, **_: Any
        ) -> Any:
            return cls(make(resource_name, cloudformation_json["Properties"]))

        def is_created(self) -> bool:
            return True

        def get_cfn_attribute(self, attribute: str) -> str:
            return self.made[attribute]

    return Resource


def _json(document: Properties) -> str:
    return json.dumps(document)


def _camel(value: Any) -> Any:
    """Keys as CodeBuild's requests have them, where CloudFormation's begin with a capital."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: _camel(item) for key, item in value.items()}
    return value

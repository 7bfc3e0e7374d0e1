"""The evaluator of IAM policies, against AWS's documented rules; the simulations stand on it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.iam import Request, decide, matches

ROLE = "arn:aws:iam::111122223333:role/reader"
ROOT = {"AWS": "arn:aws:iam::111122223333:root"}
OBJECT = "arn:aws:s3:::images/raw/a/b.png"


def allow(action: Any = "s3:GetObject", resource: Any = "arn:aws:s3:::images/*", **more: Any) -> dict[str, Any]:
    """An allowing statement."""
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def decision_on(*statements: dict[str, Any], **context: Any) -> str:
    """The answer to reading OBJECT."""
    return decide(Request(ROLE, "s3:GetObject", OBJECT, context), statements)


def when(**condition: Any) -> str:
    """The answer where the one statement has this condition; the context is `tag=["a", "b"]`, `name=x`, `port=5`."""
    conditions = {operator.replace("__", ":"): keys for operator, keys in condition.items()}
    context = {"tag": ["a", "b"], "name": "x", "port": "5", "mfa": "true", "arn": "arn:aws:iam::1:role/r"}
    return decide(Request(ROLE, "s3:GetObject", OBJECT, context), [allow(Condition=conditions)])


def test_nothing_is_allowed_by_default() -> None:
    """An implicit deny."""
    assert decision_on() == "denied"


def test_allow_needs_action_and_resource() -> None:
    """Both, with wildcards; actions without regard to case."""
    assert decision_on(allow()) == "allowed"
    assert decision_on(allow("S3:getobject")) == "allowed"
    assert decision_on(allow("s3:Get*")) == "allowed"
    assert decision_on(allow(["s3:PutObject"])) == "denied"
    assert decision_on(allow(resource="arn:aws:s3:::images")) == "denied"
    assert decision_on(allow(resource="arn:aws:s3:::IMAGES/*")) == "denied"


def test_not_action_and_not_resource() -> None:
    """All but those named."""
    assert decision_on({"Effect": "Allow", "NotAction": "s3:PutObject", "Resource": "*"}) == "allowed"
    assert decision_on({"Effect": "Allow", "NotAction": "s3:Get*", "Resource": "*"}) == "denied"
    assert decision_on({"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::images/raw/*"}) == "denied"


def test_an_explicit_deny_wins() -> None:
    """Wherever it stands."""
    assert decision_on(allow(), {**allow(), "Effect": "Deny"}) == "explicitly denied"
    deny = {**allow(), "Effect": "Deny", "Principal": "*"}
    assert decide(Request(ROLE, "s3:GetObject", OBJECT), [allow()], [deny]) == "explicitly denied"


def test_a_resources_policy_alone_can_allow_a_named_role() -> None:
    """Within one account either policy is enough."""
    named = allow(Principal={"AWS": ROLE})
    assert decide(Request(ROLE, "s3:GetObject", OBJECT), [], [named]) == "allowed"
    assert decide(Request(ROLE + "2", "s3:GetObject", OBJECT), [], [named]) == "denied"


def test_naming_the_account_only_delegates() -> None:
    """The account's IAM policies decide; without one there is nothing."""
    key = allow("kms:Decrypt", "*", Principal=ROOT)
    request = Request(ROLE, "kms:Decrypt", "arn:aws:kms:us-east-1:111122223333:key/k")
    own_statement = allow("kms:Decrypt", request.resource)
    assert decide(request, [], [key], resource_must_allow=True) == "denied"
    assert decide(request, [own_statement], [key], resource_must_allow=True) == "allowed"
    assert decide(request, [own_statement], [], resource_must_allow=True) == "denied"
    foreign = allow("kms:Decrypt", "*", Principal={"AWS": "arn:aws:iam::999999999999:root"})
    assert decide(request, [own_statement], [foreign], resource_must_allow=True) == "denied"


def test_a_boundary_must_allow_and_gives_nothing() -> None:
    """As a VPC endpoint's policy does."""
    limit = allow(Principal="*")
    request = Request(ROLE, "s3:GetObject", OBJECT)
    assert decide(request, [allow()], boundaries=[[limit]]) == "allowed"
    assert decide(request, [], boundaries=[[limit]]) == "denied"
    assert decide(request, [allow()], boundaries=[[]]) == "denied"


def test_services_are_principals() -> None:
    """Trust policies name them; a trust policy has no resource."""
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "sagemaker.amazonaws.com"}}
    assert decide(Request("sagemaker.amazonaws.com", "sts:AssumeRole", ROLE), [], [trust]) == "allowed"
    assert decide(Request("lambda.amazonaws.com", "sts:AssumeRole", ROLE), [], [trust]) == "denied"


@pytest.mark.parametrize(
    ("condition", "decision"),
    [
        ({"StringEquals": {"NAME": "x"}}, "allowed"),
        ({"StringEquals": {"name": ["y", "x"]}}, "allowed"),
        ({"StringEquals": {"name": "X"}}, "denied"),
        ({"StringEquals": {"absent": "x"}}, "denied"),
        ({"StringEqualsIfExists": {"absent": "x"}}, "allowed"),
        ({"StringEqualsIfExists": {"name": "y"}}, "denied"),
        ({"StringNotEquals": {"name": ["y", "z"]}}, "allowed"),
        ({"StringNotEquals": {"name": ["y", "x"]}}, "denied"),
        ({"StringNotEquals": {"absent": "x"}}, "allowed"),
        ({"StringLike": {"name": "?"}}, "allowed"),
        ({"StringNotLike": {"name": "x*"}}, "denied"),
        ({"ArnLike": {"arn": "arn:aws:iam::*:role/*"}}, "allowed"),
        ({"ArnNotLike": {"arn": "arn:aws:iam::*:role/*"}}, "denied"),
        ({"Bool": {"mfa": "TRUE"}}, "allowed"),
        ({"Bool": {"absent": "true"}}, "denied"),
        ({"NumericLessThan": {"port": "6"}}, "allowed"),
        ({"NumericLessThan": {"port": "5"}}, "denied"),
        ({"Null": {"name": "false"}}, "allowed"),
        ({"Null": {"name": "true"}}, "denied"),
        ({"Null": {"absent": "true"}}, "allowed"),
        ({"ForAllValues__StringEquals": {"tag": ["a", "b", "c"]}}, "allowed"),
        ({"ForAllValues__StringEquals": {"tag": ["a"]}}, "denied"),
        ({"ForAllValues__StringEquals": {"absent": ["a"]}}, "allowed"),
        ({"ForAnyValue__StringEquals": {"tag": ["a"]}}, "allowed"),
        ({"ForAnyValue__StringEquals": {"tag": ["c"]}}, "denied"),
        ({"ForAnyValue__StringEquals": {"absent": ["a"]}}, "denied"),
        ({"StringEquals": {"name": "x", "port": "5"}}, "allowed"),
        ({"StringEquals": {"name": "x", "port": "6"}}, "denied"),
        ({"StringEquals": {"name": "${Name}"}}, "allowed"),
        ({"StringEquals": {"name": "${arn}"}}, "denied"),
        ({"StringEquals": {"name": "${absent, 'x'}"}}, "allowed"),
        ({"StringLike": {"name": "${absent, '*'}"}}, "allowed"),
        ({"StringEquals": {"name": "x"}, "Bool": {"mfa": "false"}}, "denied"),
    ],
)
def test_conditions(condition: dict[str, Any], decision: str) -> None:
    """Operators, several values, keys that are absent."""
    assert when(**condition) == decision


def test_what_it_does_not_know_is_an_error() -> None:
    """Never a guess."""
    with pytest.raises(ValueError, match="IpAddress"):
        when(IpAddress={"name": "10.0.0.0/8"})
    with pytest.raises(ValueError, match="NotPrincipal"):
        decision_on(allow(NotPrincipal="*"))
    with pytest.raises(ValueError, match="several values"):
        when(StringEquals={"tag": "a"})


def test_wildcards() -> None:
    """They cross slashes, and nothing else is special."""
    assert matches("executions/*/Split/*", "executions/segmentation/abc/Split/train/x.nii.gz")
    assert matches("a.b", "a.b")
    assert not matches("a.b", "axb")
    assert not matches("raw/*", "rawer/x")

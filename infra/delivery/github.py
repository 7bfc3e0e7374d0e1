"""GitHub's part: its jobs sign in by tokens (OpenID Connect), of which each names the repository and what runs."""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.settings import DeliverySettings

HOST = "token.actions.githubusercontent.com"
SUBJECTS = {
    "Reader": "pull_request",
    "Images": "environment:images",
    "Publisher": "environment:publication",
    "Staging": "environment:staging",
    "Promoter": "environment:production",
}
"""Of a token, after the repository: the workflow's event, or an environment, which has rules of its own.

https://docs.github.com/en/actions/reference/security/oidc
"""


def github_principals(scope: Construct, settings: DeliverySettings) -> dict[str, iam.IPrincipal]:
    """Find, or make, the account's provider of GitHub's tokens; return the principals of each role, by its name."""
    if (provider := settings.oidc_provider) is None:
        audience = ["sts.amazonaws.com"]
        provider = iam.CfnOIDCProvider(scope, "GitHub", url=f"https://{HOST}", client_id_list=audience).attr_arn
    return {
        name: iam.FederatedPrincipal(
            provider,
            {
                "StringEquals": {
                    f"{HOST}:aud": "sts.amazonaws.com",
                    f"{HOST}:sub": f"repo:{settings.repository}:{subject}",
                }
            },
            "sts:AssumeRoleWithWebIdentity",
        )
        for name, subject in SUBJECTS.items()
    }

"""Entry point of the CDK app: `make synth`, or `python -m infra.app` with CDK's own variables set."""

from __future__ import annotations

import os
import sys

import infra  # noqa: F401 - first: it names the Node that CDK runs on

import aws_cdk as cdk  # isort: skip

from infra.names import PRODUCTION_STACK_NAME, STACK_NAME
from infra.production.stack import ProductionStack
from infra.settings import Settings, load_settings
from infra.stack import MedloopStack
from medloop.errors import MedloopError

FEATURES = {
    # Delivery of access logs is allowed by the bucket's policy: buckets here have no ACLs.
    "@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy": True,
    "@aws-cdk/aws-iam:minimizePolicies": True,
    "@aws-cdk/core:checkSecretUsage": True,
    "@aws-cdk/aws-kms:aliasNameRef": True,
    "@aws-cdk/aws-s3:createDefaultLoggingPolicy": True,
    # Each resource says where in the tree it stands, as it does when CDK's command line synthesises.
    "aws:cdk:enable-path-metadata": True,
}
"""CDK's feature flags; set here, because neither tests nor `python -m infra.app` read cdk.json."""


def make_app(settings: Settings | None = None, outdir: str | None = None, validate: bool = True) -> cdk.App:
    """The app: the stack of pipelines and, where production is in another account, the stack for that account.

    Args:
        settings: None reads the file, the environment and CDK's context.
        outdir: Folder of the assembly; None leaves it to CDK.
        validate: Whether CDK checks the template, which takes it fifteen seconds; tests use cfn-lint.

    Raises:
        SettingError: A setting is wrong.
    """
    app = cdk.App(
        context=FEATURES, outdir=outdir, analytics_reporting=False, builtin_cloud_formation_validation=validate
    )
    chosen = settings or load_settings(app.node.get_all_context(), os.environ)
    # No account or region: what is deployed is, to the byte, what was reviewed and tested.
    MedloopStack(app, STACK_NAME, settings=chosen)
    if chosen.production.registry:
        ProductionStack(app, PRODUCTION_STACK_NAME, settings=chosen)
    return app


def main() -> int:
    """Synthesise; 2 where a setting is wrong."""
    try:
        make_app().synth()
    except MedloopError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

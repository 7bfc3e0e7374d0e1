"""Tests of the account's side; CDK is started with the Node of this environment, before anything imports it."""

import infra  # noqa: F401

"""Retention of logs, in CloudWatch's own steps."""

from __future__ import annotations

from aws_cdk import aws_logs as logs

RETENTION = {
    365: logs.RetentionDays.ONE_YEAR,
    731: logs.RetentionDays.TWO_YEARS,
    1096: logs.RetentionDays.THREE_YEARS,
    1827: logs.RetentionDays.FIVE_YEARS,
    2192: logs.RetentionDays.SIX_YEARS,
    2557: logs.RetentionDays.SEVEN_YEARS,
    3653: logs.RetentionDays.TEN_YEARS,
}
"""By the setting storage.logs_days."""

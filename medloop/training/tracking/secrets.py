"""Secrets of jobs; the only module of the jobs that calls AWS. It never logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

KEY_VARIABLE = "WANDB_API_KEY"
SECRET_VARIABLE = "MEDLOOP_WANDB_SECRET"  # noqa: S105 (the name of a variable that holds a secret's name)


def wandb_key(environ: Mapping[str, str], fetch: Callable[[str], str] | None = None) -> str | None:
    """Return the W&B key, from WANDB_API_KEY or the secret that MEDLOOP_WANDB_SECRET names; None if neither is set.

    Args:
        environ: The job's environment.
        fetch: From a secret's name or ARN to its value; None asks Secrets Manager.

    Raises:
        Exception: The secret can't be read; an exception of boto3.
    """
    if key := environ.get(KEY_VARIABLE, "").strip():
        return key
    name = environ.get(SECRET_VARIABLE, "").strip()
    return (fetch or _secrets_manager)(name).strip() if name else None


def _secrets_manager(name: str) -> str:
    import boto3
    from botocore.config import Config

    # An ARN contains its region; a name is in the job's region.
    region = name.split(":")[3] if name.startswith("arn:") else None
    patience = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
    client = boto3.client("secretsmanager", region_name=region, config=patience)
    return str(client.get_secret_value(SecretId=name)["SecretString"])

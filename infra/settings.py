"""Settings of the deployment: one YAML file, and single values laid over it.

settings.yaml <- MEDLOOP_INFRA_<SECTION>__<FIELD>=value <- -c section.field=value (CDK's context)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from infra.names import list_pipelines
from medloop.bundle import load_container
from medloop.cloud.hosting import has_gpu
from medloop.cloud.layout import MAX_PIPELINE, MAX_PROJECT, PIPELINE_PATTERN, PROJECT_PATTERN
from medloop.documents.reading import first_problem
from medloop.errors import SettingError
from medloop.yaml_text import read_yaml

PREFIX = "MEDLOOP_INFRA_"
FILE = Path(__file__).with_name("settings.yaml")
FILE_KEY = "settings"
"""Names another file: MEDLOOP_INFRA_SETTINGS, or `-c settings=FILE`."""


def _account_text(value: object) -> object:
    """An account's number as text: YAML reads one without quotes as a number, and loses zeros at its beginning."""
    if isinstance(value, int) and not isinstance(value, bool):
        if len(str(value)) != 12:
            raise ValueError(f"is read as the number {value}; write the account's twelve digits in quotes")
        return str(value)
    return value


AccountId = Annotated[str, BeforeValidator(_account_text), Field(pattern=r"^[0-9]{12}$")]
ConnectionArn = Annotated[
    str,
    Field(pattern=r"^arn:aws[a-z-]*:(codeconnections|codestar-connections):[a-z0-9-]+:[0-9]{12}:connection/[\w-]+$"),
]
PrincipalArn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:(root|(role|user)/[\w+=,.@/-]+)$")]


class Section(BaseModel):
    """A part of the file; a field that it doesn't know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkSettings(Section):
    """The network of jobs."""

    vpc: bool = True
    """Jobs run in a VPC that reaches a few AWS services and nothing else. False: in SageMaker's own network."""
    cidr: str = "10.42.0.0/16"


class StorageSettings(Section):
    """Retention of objects, logs and keys."""

    keep_on_destroy: bool = True
    """Buckets and keys stay when the stack goes: they hold patients' data and the evidence of models."""
    old_versions_days: int = Field(default=90, ge=1)
    """Objects that were overwritten or deleted."""
    checkpoints_days: int = Field(default=30, ge=1)
    logs_days: Literal[365, 731, 1096, 1827, 2192, 2557, 3653] = 2192
    """Logs, in CloudWatch's own steps; HIPAA asks for six years of what documents access."""


class TrackingSettings(Section):
    """MLflow."""

    mlflow: Literal["server", "serverless", "off"] = "off"
    """`server` is always on, and billed so; `serverless` costs nothing idle, and jobs in the VPC can't reach it."""
    server_size: Literal["Small", "Medium", "Large"] = "Small"


class AccessSettings(Section):
    """People and their roles; they sign in with a second factor."""

    approvers: list[PrincipalArn] = []
    """IAM ARNs of who may approve versions; empty: the account's administrators decide by their own policies."""
    engineers: list[PrincipalArn] = []
    """IAM ARNs of who may run published pipelines; empty: as for approvers."""
    publishers: list[PrincipalArn] = []
    """IAM ARNs of who may publish definitions, such as the role of CI for reviewed commits; empty: as for approvers."""
    jobs_read_raw_data: bool = False
    """For split.layout=manifest, which copies nothing: training and evaluation read raw data, too."""
    training_connects: bool = False
    """For train.mode=script, which installs packages: training jobs may open connections, and write what their role
    may write. With tracking.mlflow they always may."""

    @model_validator(mode="after")
    def _roles_are_apart(self) -> Self:
        """Refuse a publisher who may also start executions or approve their versions."""
        for field in ("approvers", "engineers"):
            if both := sorted(set(self.publishers) & set(getattr(self, field))):
                raise ValueError(f"publishers: {both[0]} is one of the {field} too; name it in one of the lists only")
        return self


class ScheduleSettings(Section):
    """A schedule that comes with the stack; `medloop schedules create` makes others."""

    name: str = Field(pattern=r"^[0-9a-zA-Z_.-]{1,50}$")
    pipeline: str
    """`classification` or `segmentation`, with `-<project>` for a project's pipeline."""
    data: str = Field(max_length=255, pattern=r"^s3://[\w.:/=+@-]+/$")
    """The data set's prefix, with a slash at its end."""
    expression: str = Field(pattern=r"^(rate|cron|at)\(.+\)$")
    """EventBridge's `rate(7 days)`, `cron(0 3 ? * SUN *)` or `at(2027-01-31T03:00:00)`."""
    timezone: str = "UTC"
    """Of a cron expression."""
    parameters: dict[str, str] = {}
    """Pipeline parameters other than InputData and DataVersion."""


class SchedulingSettings(Section):
    """Retraining by the clock; new data start it in any case."""

    schedules: list[ScheduleSettings] = []


class DeploymentSettings(Section):
    """Serving of approved versions, and the rollout of a new version."""

    instance_type: str = Field(default="ml.m5.xlarge", pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")
    canary_percent: int = Field(default=50, ge=5, le=50)
    """Share of the instances that get traffic first; one instance at least."""
    bake_minutes: int = Field(default=10, ge=1, le=60)
    """Minutes for which the alarms are watched, with the canary and once more with all traffic."""
    minimum_instances: int = Field(default=2, ge=2)
    """Of autoscaling, and to begin with: with one instance there is no canary."""
    maximum_instances: int = 4
    invocations: int = Field(default=60, ge=1)
    """A minute and instance that autoscaling aims at."""
    max_latency_seconds: int = Field(default=30, ge=1, le=60)
    """99th percentile of the model's latency above which a deployment is rolled back."""
    max_errors: int = Field(default=2, ge=0)
    """Answers of 5xx in a minute above which it is rolled back."""

    @model_validator(mode="after")
    def _image_suits_the_instances(self) -> Self:
        if has_gpu(self.instance_type) and not load_container("serve").is_built_for_gpus:
            raise ValueError(
                f"instance_type: {self.instance_type} has GPUs, and containers/serve is built for the CPU; choose a "
                "CPU instance type, or set base in containers/serve/container.toml to a GPU image"
            )
        return self

    @model_validator(mode="after")
    def _canary_is_possible(self) -> Self:
        if self.maximum_instances < self.minimum_instances:
            raise ValueError("maximum_instances: is below minimum_instances")
        if self.canary_percent * self.minimum_instances < 100:
            raise ValueError("canary_percent: is less than one of minimum_instances; choose more of either")
        return self


class MonitoringSettings(Section):
    """Notifications and the budget."""

    approvers: list[str] = []
    """Mail addresses of those who decide about versions."""
    operations: list[str] = []
    """Mail addresses for failures."""
    monthly_dollars: int = Field(default=500, ge=1)
    """Of the stack's tagged resources; notified at 80 % spent and at 100 % forecast."""
    anomaly_dollars: int = Field(default=50, ge=1)
    """Above what is usual."""
    execution_hours: int = Field(default=24, ge=1)
    """Of one execution."""
    score_drop: float = Field(default=0.05, gt=0, lt=1)
    """Largest drop of a new version's score below the score in production; beyond it, the data have drifted."""


class ProductionSettings(Section):
    """Production in an account of its own: `make deploy` shares the versions, `make deploy-production` serves them."""

    account: AccountId | None = None
    """Production's account; None: versions are served in the account in which they were made."""
    artefact_bucket: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    """For `make deploy-production`: the output MedloopBucket of the stack medloop."""
    artefact_key: str | None = Field(default=None, pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[\w-]+$")
    """For `make deploy-production`: the output ArtefactKeyArn of the stack medloop."""

    @property
    def registry(self) -> str:
        """The account of the versions, which the key names; empty before the stack medloop is there."""
        return self.artefact_key.split(":")[4] if self.artefact_key else ""

    @model_validator(mode="after")
    def _accounts_are_two(self) -> Self:
        if (self.artefact_bucket is None) != (self.artefact_key is None):
            raise ValueError("artefact_bucket: and artefact_key are outputs of one stack; set both, or none")
        if self.artefact_key and not self.account:
            raise ValueError("account: is missing; set the account of production")
        if self.account == self.registry:
            raise ValueError(f"account: {self.account} is the account of artefact_key too; leave production out")
        return self


class DeliverySettings(Section):
    """CI for those who change pipelines: its roles and, with CodePipeline, its pipelines."""

    by: Literal["off", "github", "codepipeline"] = "off"
    """`github`: roles that the jobs of the workflow assume; `codepipeline`: pipelines and builds in this account."""
    repository: str = Field(default="", pattern=r"^([\w.-]+/)?[\w.-]*$")
    """`ORG/REPO` of GitHub or of the connection; without connection, the name of a repository in CodeCommit."""
    connection: ConnectionArn | None = None
    """ARN of CodeConnections' connection to the repository's host; None: the repository is in CodeCommit."""
    branch: str = Field(default="main", pattern=r"^[\w.][\w./-]*$")
    """The reviewed branch: a commit on it is published."""
    project: str = Field(default="", pattern=rf"^$|{PIPELINE_PATTERN}", max_length=MAX_PIPELINE)
    """A project of `medloop init`, by its name; empty: medloop's own repository."""
    oidc_provider: str | None = Field(
        default=None, pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/token\.actions\.githubusercontent\.com$"
    )
    """GitHub's provider, if the account has one already, as it can have only one; None: the stack makes it."""

    @model_validator(mode="after")
    def _repository_is_known(self) -> Self:
        hosted = self.by == "github" or self.connection is not None
        if self.by != "off" and not self.repository:
            raise ValueError(f"repository: is missing; set {'ORG/REPO' if hosted else 'the name in CodeCommit'}")
        if self.by != "off" and hosted != ("/" in self.repository):
            raise ValueError(
                f"repository: {self.repository!r} is no "
                + ("ORG/REPO" if hosted else "name in CodeCommit; correct it, or set connection")
            )
        return self


class Settings(Section):
    """Everything that can be chosen."""

    network: NetworkSettings = NetworkSettings()
    storage: StorageSettings = StorageSettings()
    tracking: TrackingSettings = TrackingSettings()
    access: AccessSettings = AccessSettings()
    scheduling: SchedulingSettings = SchedulingSettings()
    deployment: DeploymentSettings = DeploymentSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    production: ProductionSettings = ProductionSettings()
    delivery: DeliverySettings = DeliverySettings()
    projects: list[Annotated[str, Field(pattern=PROJECT_PATTERN, min_length=1, max_length=MAX_PROJECT)]] = []
    """Projects of the users: each has for both tasks a pipeline, a model group, an endpoint and alarms of its own
    (`medloop pipelines upsert segmentation --project prostate`)."""
    pipelines: list[Annotated[str, Field(pattern=PIPELINE_PATTERN, max_length=MAX_PIPELINE)]] = []
    """Pipelines of users' own projects (`medloop init`), without `-<project>`."""

    @property
    def isolates_training(self) -> bool:
        """True if training jobs open no connection; jobs that split and evaluate never do."""
        return self.tracking.mlflow == "off" and not self.access.training_connects

    @model_validator(mode="after")
    def _schedules_start_known_pipelines(self) -> Self:
        known = list_pipelines(self.projects, self.pipelines)
        for number, schedule in enumerate(self.scheduling.schedules):
            if schedule.pipeline not in known:
                raise ValueError(
                    f"scheduling.schedules.{number}.pipeline: {schedule.pipeline!r} is none of {', '.join(known)}"
                )
        if len(set(self.projects)) < len(self.projects):
            raise ValueError("projects: a name is there twice; remove one")
        if twice := sorted(name for name in set(known) if known.count(name) > 1):
            raise ValueError(f"pipelines: {twice[0]} is there twice, with those of tasks and projects; remove one")
        return self

    @model_validator(mode="after")
    def _delivered_pipeline_is_known(self) -> Self:
        project = self.delivery.project
        if self.delivery.by != "off" and project and project not in self.pipelines:
            raise ValueError(f"delivery.project: {project} is none of pipelines; add it there")
        return self

    @model_validator(mode="after")
    def _jobs_reach_mlflow(self) -> Self:
        if self.network.vpc and self.tracking.mlflow == "serverless":
            raise ValueError("tracking.mlflow: serverless has no VPC endpoint; choose server, or network.vpc: false")
        return self


def load_settings(context: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Settings from the file, the environment and CDK's context.

    Args:
        context: CDK's context; keys that name no section are others'.
        environment: Environment variables.

    Raises:
        SettingError: Something in them is wrong; the message names it in one line.
    """
    path = Path(context.get(FILE_KEY) or environment.get(PREFIX + FILE_KEY.upper()) or FILE)
    document = _read_file(path)
    sources = {f"{section}.{field}": str(path) for section in document for field in _mapping(document, section, path)}
    for name, source, value in [*_of_environment(environment), *_of_context(context)]:
        section, _, field = name.partition(".")
        document.setdefault(section, {})[field] = value
        sources[name] = source
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise SettingError(_first(error, sources, path)) from None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise SettingError(f"{path}: can't be read ({type(error).__name__}); name a YAML file of settings") from None
    document = read_yaml(text, str(path)) or {}
    if not isinstance(document, dict):
        raise SettingError(f"{path}: is no mapping; write sections, such as `network:`")
    return {str(name): value for name, value in document.items()}


def _mapping(document: dict[str, Any], section: str, path: Path) -> dict[str, Any]:
    """A section's fields; one that is empty in the file means all defaults."""
    if document[section] is None:
        document[section] = {}
    if not isinstance(document[section], dict):
        raise SettingError(f"{path}: {section}: is no mapping; write its fields below it")
    return dict(document[section])


def _of_environment(environment: Mapping[str, str]) -> list[tuple[str, str, Any]]:
    entries = []
    for variable, text in sorted(environment.items()):
        if variable.startswith(PREFIX) and variable != PREFIX + FILE_KEY.upper():
            name = variable.removeprefix(PREFIX).lower().replace("__", ".", 1)
            entries.append((name, variable, read_yaml(text, variable)))
    return entries


def _of_context(context: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    return [
        (name, f"-c {name}", read_yaml(value, f"-c {name}") if isinstance(value, str) else value)
        for name, value in sorted(context.items())
        if name.partition(".")[0] in Settings.model_fields
    ]


def _first(error: ValidationError, sources: Mapping[str, str], path: Path) -> str:
    problem = first_problem(error)
    name = problem.field
    if not name:
        return f"{path}: {problem.reason}"
    source = next((sources[known] for known in sources if name == known or name.startswith(f"{known}.")), str(path))
    if problem.kind == "extra_forbidden":
        return f"{source}: {name}: there is no such setting; infra/settings.py lists them"
    return f"{source}: {name}: {problem.reason}"

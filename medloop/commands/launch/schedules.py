"""`medloop schedules`: scheduled retraining."""

from __future__ import annotations

from typing import Annotated

import typer

from medloop.commands.options import (
    DEFAULT_HOME,
    Call,
    HomeOption,
    ParamOption,
    TargetChoice,
    TargetOption,
    on_target,
    services,
)
from medloop.commands.output import print_json, print_line, print_table
from medloop.errors import UserError

app = typer.Typer(no_args_is_help=True, help="Scheduled retraining.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
NO_QUEUE = "a start that can't be delivered within an hour is lost; --dead-letters ARN (an SQS queue) keeps it"
NEVER_FIRED = "local schedules are recorded and never start anything; on AWS, EventBridge starts the pipeline"


@app.command()
@on_target
def create(
    name: NameArgument,
    pipeline: Annotated[str, typer.Option(help="The pipeline to start.")],
    data: Annotated[str, typer.Option(metavar="S3", help="The data set: s3://bucket/prefix.")],
    when: Annotated[str, typer.Option(help="'rate(7 days)', 'cron(0 3 ? * SUN *)' or 'at(2027-01-31T03:00:00)'.")],
    timezone: Annotated[str, typer.Option(help="Time zone of a cron expression.")] = "UTC",
    role: Annotated[
        str | None, typer.Option(envvar="MEDLOOP_SCHEDULER_ROLE_ARN", help="Role that may start the pipeline.")
    ] = None,
    guard: Annotated[
        str | None, typer.Option(envvar="MEDLOOP_GUARD_ARN", help="AWS: infra's guard, which then starts the pipeline.")
    ] = None,
    dead_letters: Annotated[
        str | None, typer.Option(envvar="MEDLOOP_DEAD_LETTERS_ARN", help="AWS: dead-letter queue of failed starts.")
    ] = None,
    params: ParamOption = None,
    *,
    call: Call,
) -> None:
    """Start a pipeline on a schedule, on the data that the prefix has by then."""
    from medloop.cloud.schedules import create_schedule
    from medloop.cloud.upsert import stored_definition
    from medloop.input_data import recordable
    from medloop.settings import command_name, resolve, split_name

    if not data.startswith("s3://"):
        raise UserError(f"--data {data}: a schedule needs data on S3; give s3://bucket/prefix")
    data = recordable(data.rstrip("/") + "/")
    installed, project = split_name(pipeline) or (pipeline, None)
    parameters = resolve(installed, project=project, params=[*(params or ()), f"InputData={data}"]).parameters
    target = call.open()
    if stored_definition(target, pipeline) is None:
        fix = f"run `medloop pipelines upsert {command_name(pipeline)}` first"
        raise UserError(f"pipeline {pipeline}: is not on {call.where.value} yet; {fix}")
    # Variables of a deployed stack may stand in a shell that also runs local commands.
    stack = {"guard": guard, "dead_letters": dead_letters} if call.where is TargetChoice.aws else {}
    made = create_schedule(target, name, pipeline, when, timezone, parameters, role or target.role_arn, **stack)
    if call.json:
        print_json(made)
        return
    print_line(call.services.out, f"schedule {name}: {made.expression} ({made.timezone}) starts pipeline {pipeline}")
    if call.where is TargetChoice.aws and not dead_letters:
        print_line(call.services.err, NO_QUEUE, "dim")
    _remind(call)


@app.command("list")
@on_target
def list_(call: Call) -> None:
    """List the schedules that start pipelines."""
    from medloop.cloud.schedules import list_schedules

    schedules = list_schedules(call.open())
    if call.json:
        print_json(schedules)
        return
    if not schedules:
        print_line(call.services.err, "no schedules yet; create one with `medloop schedules create`")
        return
    rows = [(s.name, s.pipeline, s.expression, s.timezone, s.state, s.parameters.get("InputData")) for s in schedules]
    print_table(call.services.out, ("schedule", "pipeline", "when", "time zone", "state", "data"), rows)
    _remind(call)


@app.command()
def delete(
    ctx: typer.Context, name: NameArgument, target: TargetOption = TargetChoice.local, home: HomeOption = DEFAULT_HOME
) -> None:
    """Delete a schedule; executions that it started continue."""
    from medloop.cloud.schedules import delete_schedule

    delete_schedule(services(ctx).target(target, home), name)
    print_line(services(ctx).out, f"schedule {name}: deleted")


def _remind(call: Call) -> None:
    if call.where is TargetChoice.local:
        print_line(call.services.err, NEVER_FIRED, "dim")

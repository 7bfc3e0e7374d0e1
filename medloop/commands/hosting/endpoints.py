"""`medloop endpoints`: approved versions at work."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medloop.commands.options import Call, PetValues, PresetOption, Services, SetOption, on_target
from medloop.commands.output import duration, print_json, print_line, print_table
from medloop.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

    from medloop.cloud.target import Target
    from medloop.commands.hosting.invoking import Prediction
    from medloop.commands.hosting.studies import StudyOptions

app = typer.Typer(no_args_is_help=True, help="Approved versions at work.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The endpoint's name.")]


_IMAGE_DIGEST = re.compile(r"(:[0-9a-f]{12})[0-9a-f]+$")
"""A table shows the first twelve digits, as git does; --json has them all."""


class KindName(StrEnum):
    """Kinds of endpoints."""

    realtime = "realtime"
    serverless = "serverless"
    asynchronous = "async"


@app.command("list")
@on_target
def list_(call: Call) -> None:
    """List endpoints: state, the version that each serves, and on what."""
    sagemaker = call.sagemaker()
    pages = sagemaker.get_paginator("list_endpoints").paginate()
    names = sorted(item["EndpointName"] for page in pages for item in page["Endpoints"])
    rows = [_row(sagemaker, name) for name in names]
    if call.json:
        print_json(rows)
        return
    if not rows:
        print_line(call.services.err, "no endpoints; `medloop endpoints deploy MODEL` makes one")
        return
    keys = ("endpoint", "status", "model", "kind", "machine", "image", "changed", "reason")
    shown = [{**row, "image": row["image"] and _IMAGE_DIGEST.sub(r"\1", row["image"])} for row in rows]
    print_table(call.services.out, keys, [[row[key] for key in keys] for row in shown])


def _row(sagemaker: SageMakerClient, name: str) -> dict[str, Any]:
    from botocore.exceptions import ClientError

    from medloop.commands.hosting.invoking import kind_of, served_container

    endpoint = sagemaker.describe_endpoint(EndpointName=name)
    variant: Mapping[str, Any] = next(iter(endpoint.get("ProductionVariants", [])), {})
    model = machine = None
    try:
        config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
        machine = _machine(config["ProductionVariants"][0])
        model = served_container(sagemaker, config["ProductionVariants"][0]["ModelName"])[0]
    except (ClientError, KeyError):
        pass  # an endpoint keeps running when its configuration or model is deleted
    images = variant.get("DeployedImages") or [{}]
    return {
        "endpoint": name,
        "status": endpoint["EndpointStatus"],
        "model": model,
        "kind": kind_of(endpoint),
        "machine": machine,
        "image": str(images[0].get("SpecifiedImage", "")).rpartition("/")[2] or None,
        "config": endpoint.get("EndpointConfigName"),
        "changed": endpoint["LastModifiedTime"],
        "reason": endpoint.get("FailureReason"),
        "arn": endpoint["EndpointArn"],
    }


def _machine(variant: Mapping[str, Any]) -> str:
    serverless = variant.get("ServerlessConfig")
    if serverless:
        return f"{serverless['MemorySizeInMB']} MB, {serverless['MaxConcurrency']} at once"
    return f"{variant.get('InitialInstanceCount', 1)} x {variant['InstanceType']}"


@app.command()
@on_target
def deploy(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An Approved version: ARN, GROUP/N, or GROUP.")],
    name: Annotated[str | None, typer.Option("--name", help="The endpoint; by default what EndpointName said.")] = None,
    kind: Annotated[KindName | None, typer.Option("--kind", help="By default the setting deploy.kind.")] = None,
    instance_type: Annotated[str | None, typer.Option("--instance-type", help="Of realtime and async.")] = None,
    instance_count: Annotated[int | None, typer.Option("--instance-count", min=1)] = None,
    preset: PresetOption = None,
    sets: SetOption = None,
    *,
    call: Call,
) -> None:
    """Serve a version: make the endpoint, or update it in place without interruption."""
    from medloop.commands.hosting.deployment import default_hosting, deploy_model
    from medloop.commands.registry.versions import find_model

    target = call.open()
    sagemaker = target.boto.client("sagemaker")
    arn = find_model(sagemaker, model)
    hosting = default_hosting(sagemaker.describe_model_package(ModelPackageName=arn), preset, tuple(sets or ()))
    options = {"kind": kind and kind.value, "instance_type": instance_type, "instance_count": instance_count}
    hosting = replace(hosting, **{key: value for key, value in options.items() if value is not None})  # type: ignore[arg-type]
    done = deploy_model(call.services, target, arn, name=name, hosting=hosting, flags=call.flags)
    if call.json:
        print_json(done)
        return
    took = "nothing changed" if done.action == "unchanged" else f"{done.action} in {duration(done.seconds)}"
    print_line(call.services.out, f"endpoint {done.endpoint} serves {done.model}: {took}")
    print_line(call.services.err, f"ask it: medloop endpoints invoke {done.endpoint} FILE{call.flags}")


@app.command()
@on_target
def promote(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An Approved version: ARN or GROUP/N.")],
    back: Annotated[bool, typer.Option("--back", help="Go back: replace a newer version.")] = False,
    *,
    call: Call,
) -> None:
    """Promote a version to production in another account, which deploys it."""
    from medloop.commands.hosting.promoting import promote_model
    from medloop.commands.registry.versions import find_model

    if "/" not in model:
        raise UserError(f"{model}: names no version; give GROUP/N, as the newest may not be the one that was tried")
    target = call.open()
    arn = find_model(target.boto.client("sagemaker"), model)
    promoted = promote_model(target, arn, back=back)
    if call.json:
        print_json({"model": promoted, "arn": arn})
        return
    print_line(call.services.out, f"{promoted} was promoted; production reports its deployment by mail")


@app.command()
@on_target
def invoke(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(help="An image or a volume, in a format that the model takes.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the response here, in the format of the file's suffix.")
    ] = None,
    accept: Annotated[str | None, typer.Option("--accept", help="Media type of the response.")] = None,
    by_queue: Annotated[bool, typer.Option("--async", help="By the queue of an asynchronous endpoint.")] = False,
    series: Annotated[str, typer.Option(metavar="UID", help="DICOM: the series, if the study has several.")] = "",
    codes: Annotated[Path | None, typer.Option(help="DICOM: YAML with the codes of the model's classes.")] = None,
    description: Annotated[str, typer.Option(help="DICOM: the result's SeriesDescription.")] = "",
    pet: Annotated[PetValues, typer.Option(help="DICOM: values of PET volumes.")] = PetValues.suv,
    store: Annotated[str, typer.Option(metavar="URL", help="DICOM: send the result to this DICOMweb server.")] = "",
    *,
    call: Call,
) -> None:
    """Predict an image, a volume or a DICOM series: probabilities or volumes as a table, a label map to --out."""
    from medloop.commands.hosting.invoking import accept_for, write_response
    from medloop.commands.hosting.invoking import invoke as send
    from medloop.commands.hosting.studies import StudyOptions, is_study, open_archive

    target = call.open()
    options = StudyOptions(out, accept, series, codes, description, pet.value, store)
    send_to = partial(send, target, name, by_queue=by_queue, sleep=call.services.sleep, flags=call.flags)
    send_result = open_archive(store) if store and is_study(file) else None
    if is_study(file):
        response = _predict_study(call, target, name, file, options, send_to)
    else:
        options.require_file(file)
        response = send_to(file, accept=accept_for(out, accept))
    if out is not None:
        write_response(response, out)
    if send_result is not None:
        send_result(response)
    if call.json:
        content_type = response.content_type or accept_for(out, accept)
        stored = {"stored": store} if store else {}
        print_json({"endpoint": name, "content_type": content_type, "out": out, **stored, **response.summary})
        return
    _show(call.services, response, out, store)


def _predict_study(
    call: Call, target: Target, name: str, study: Path, options: StudyOptions, send_to: Callable[..., Prediction]
) -> Prediction:
    from medloop.commands.hosting.studies import describe_algorithm, predict_study

    return predict_study(
        study,
        options,
        lambda file, accept: send_to(file, accept=accept, study=study),
        lambda: describe_algorithm(target.boto.client("sagemaker"), name),
        lambda text: print_line(call.services.err, f"warning: {text}", "yellow"),
    )


def _show(services: Services, response: Prediction, out: Path | None, store: str) -> None:
    summary = response.summary
    if "probabilities" in summary:
        ranked = sorted(summary["probabilities"].items(), key=lambda pair: -pair[1])
        print_table(services.out, ("class", "probability"), ranked)
    elif "volumes" in summary:
        print_table(services.out, ("structure", f"volume ({summary['unit']})"), list(summary["volumes"].items()))
    elif summary:
        print_table(services.out, ("", ""), list(summary.items()))
    if out is not None:
        print_line(services.out, str(out))
    if store:
        print_line(services.out, f"stored at {store}")
    if out is None and not store and not summary:
        print_line(
            services.err, f"the response has {len(response.body)} bytes and is no JSON; give --out FILE to keep it"
        )


@app.command()
@on_target
def delete(name: NameArgument, call: Call) -> None:
    """Delete an endpoint; the version that it served stays registered."""
    from medloop.commands.hosting.deployment import remove_endpoint

    remove_endpoint(call.services, call.sagemaker(), name)
    if call.json:
        print_json({"endpoint": name, "deleted": True})
        return
    print_line(call.services.out, f"endpoint {name} is deleted")

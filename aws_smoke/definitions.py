"""Check `pipelines`: CreatePipeline validates each definition that differs in form, without cost."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from botocore.exceptions import ClientError

from aws_smoke.check import Case, Learned
from aws_smoke.lab import Lab
from aws_smoke.resources import delete
from medloop.cloud.upsert import build_definition
from medloop.definition.read import read_definition
from medloop.definition.service_shape import unproven
from medloop.settings import resolve
from pipelines.variants import VPC, Variant, variants


def pipeline_cases(lab: Lab) -> Iterator[Case]:
    """Yield a case for each variant, with the account's network where it has one."""
    network = lab.stack.network if lab.stack.vpc else VPC
    for number, variant in enumerate(variants(network)):
        yield Case(variant.name, partial(_create_and_delete, lab, number, variant))


def _create_and_delete(lab: Lab, number: int, variant: Variant) -> str:
    definition = build_definition(lab.target, resolve(variant.pipeline, variant.preset, variant.sets))
    members = [f"{member.type} {member.path}" for member in unproven(read_definition(definition))]
    name = lab.name(f"definition-{number}")
    try:
        lab.create_pipeline(name, definition, lab.target.role_arn)
    except ClientError as error:
        if members:
            error.add_note(f"members without proof in it: {', '.join(members)}")
        raise
    delete(lab, "pipeline", name)
    return Learned(f"accepted, with {', '.join(members)}") if members else "accepted"

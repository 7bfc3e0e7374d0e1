"""`medloop images`: the containers' images, here and in ECR."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medloop.commands.options import DEFAULT_HOME, JsonOption, TargetChoice, services
from medloop.commands.output import print_json, print_line, print_table
from medloop.errors import TargetError

if TYPE_CHECKING:
    from medloop.cloud.images import Image

app = typer.Typer(no_args_is_help=True, help="Container images: built locally, and on AWS.")
EngineOption = Annotated[
    str | None, typer.Option(metavar="PROGRAM", help="docker, podman or buildah; the first that works by default.")
]
NamesArgument = Annotated[list[str] | None, typer.Argument(metavar="[CONTAINER]...", help="All, when none is named.")]


@app.command("list")
def list_(ctx: typer.Context, json: JsonOption = False) -> None:
    """List the images that pipelines run on AWS: which are pushed, and what their scan found."""
    from medloop.bundle import image_containers
    from medloop.cloud.images import find_image

    target = services(ctx).target(TargetChoice.aws, DEFAULT_HOME)
    _print(ctx, [find_image(target, name) for name in image_containers()], json=json)


@app.command()
def build(
    ctx: typer.Context,
    names: NamesArgument = None,
    base: Annotated[str | None, typer.Option(metavar="IMAGE", help="The base, instead of container.toml's.")] = None,
    engine: EngineOption = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="OPTION", help="An option of the engine's build: --volume=A:B:ro.")
    ] = None,
    sbom: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the bills of materials (CycloneDX).")] = Path(
        "sbom"
    ),
    json: JsonOption = False,
) -> None:
    """Build the images on this machine, with a bill of materials for each."""
    from medloop.bundle import image_containers
    from medloop.cloud.container_engines import find_engine
    from medloop.cloud.images import build_image

    chosen = find_engine(engine)
    built = []
    for name in names or image_containers():
        print_line(services(ctx).err, f"image of containers/{name}, by {chosen.name}", "dim")
        built.append(build_image(name, base, chosen, option or (), sbom))
    if json:
        print_json(built)
        return
    rows = [(image.container, image.image, str(image.sbom)) for image in built]
    print_table(services(ctx).out, ("container", "image", "bill of materials"), rows)


@app.command()
def push(
    ctx: typer.Context, names: NamesArgument = None, engine: EngineOption = None, json: JsonOption = False
) -> None:
    """Build, and push, the images that aren't there yet, and attach a bill of materials to each."""
    from medloop.bundle import image_containers
    from medloop.cloud.container_engines import find_engine
    from medloop.cloud.images import push_image, push_sbom

    target = services(ctx).target(TargetChoice.aws, DEFAULT_HOME)
    chosen = find_engine(engine) if engine else None
    pushed = []
    for name in names or image_containers():
        print_line(services(ctx).err, f"image of containers/{name}", "dim")
        pushed.append(push_image(target, name, chosen))
        try:
            push_sbom(target, name, chosen)
        except TargetError as error:  # the image is complete without
            print_line(services(ctx).err, f"containers/{name} has no bill of materials in ECR: {error}", "yellow")
    _print(ctx, pushed, json=json)


def _print(ctx: typer.Context, images: list[Image], *, json: bool) -> None:
    if json:
        print_json(images)
        return
    rows = [(image.container, image.tag, image.digest or "not pushed", _severities(image.findings)) for image in images]
    print_table(services(ctx).out, ("container", "tag (digest of the code)", "image", "scan"), rows)


def _severities(findings: Mapping[str, int] | None) -> str | None:
    if findings is None:
        return None
    return ", ".join(f"{count} {severity.lower()}" for severity, count in sorted(findings.items())) or "nothing found"

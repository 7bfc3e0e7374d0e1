"""`medloop presets`: the shipped choices of settings and parameters."""

from __future__ import annotations

from typing import Annotated

import typer

from medloop.commands.completion import preset_names
from medloop.commands.options import JsonOption, services
from medloop.commands.output import print_json, print_line, print_table
from medloop.errors import SettingError

app = typer.Typer(no_args_is_help=True, help="Named sets of settings.")


@app.command("list")
def list_(ctx: typer.Context, json: JsonOption = False) -> None:
    """List the shipped presets."""
    from medloop.presets import load_presets

    presets = load_presets()
    if json:
        print_json([{"name": name, **preset.model_dump()} for name, preset in presets.items()])
        return
    rows = [(name, preset.pipeline, preset.lab, preset.description) for name, preset in presets.items()]
    print_table(services(ctx).out, ("preset", "pipeline", "lab", "description"), rows)


@app.command()
def show(
    ctx: typer.Context,
    preset: Annotated[str, typer.Argument(help="Preset's name.", autocompletion=preset_names)],
    json: JsonOption = False,
) -> None:
    """Show what a preset chooses, with what it builds on merged in."""
    import yaml

    from medloop.presets import load_presets
    from medloop.settings import resolve

    presets = load_presets()
    if preset not in presets:
        raise SettingError(f"preset {preset!r} is unknown; known: {', '.join(presets)}")
    chosen = presets[preset]
    resolved = resolve(chosen.pipeline, preset)
    document = {
        "name": preset,
        **chosen.model_dump(include={"description", "pipeline", "extends", "lab"}, exclude_none=True),
        "parameters": resolved.parameters,
        "settings": resolved.settings.model_dump(mode="json"),
    }
    if json:
        print_json(document)
        return
    for line in yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip().split("\n"):
        print_line(services(ctx).out, line)

"""What docs/deploy.md and docs/runbook.md tell to type, and to look up, is there."""

from __future__ import annotations

import re
import shlex
from functools import cache
from typing import Any

import botocore.session
import pytest
import typer
from botocore import xform_name

from infra.outputs import SHELL_NAMES, as_settings
from infra.settings import Settings, load_settings
from medloop.cli import app
from medloop.settings import list_pipelines, resolve
from tests.architecture.source import ROOT

PAGES = ("docs/deploy.md", "docs/runbook.md")
DEPLOY = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
OUTPUTS = {
    "ArtefactKeyArn": "arn:aws:kms:us-east-1:111122223333:key/0a1b2c3d-0000-4000-8000-0a1b2c3d4e5f",
    "Subnets": "subnet-0a1b2c3d",
    "SecurityGroup": "sg-0a1b2c3d",
}
SHELL = {"SET": as_settings(OUTPUTS), "DATA_BUCKET": "data", "EDITOR": "vi"}
"""What the page's shell has set."""


def typed(page: str) -> list[str]:
    """The commands on a page: the lines of its blocks, and code in its text that begins as one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```text\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    inline = [re.sub(r"\s+", " ", code) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    return lines + [code for code in inline if re.match(r"(medloop|make|aws) \w", code)]


def split_words(line: str) -> list[str]:
    """A line's words as the command gets them."""
    for name, value in SHELL.items():
        line = re.sub(rf"\${name}\b", lambda _, value=value: value, line)
    split = shlex.split(line)
    return shlex.split(split[1]) if split[0] == "eval" and split[1].startswith("medloop ") else split


LINES = [(page, line) for page in PAGES for line in typed(page)]
COMMANDS = sorted({line for _, line in LINES if "medloop" in split_words(line)[:1]})


USAGE = typer.BadParameter.__bases__
"""What a command line raises that is wrong."""


@cache
def command_line() -> Any:
    """The one of medloop."""
    return typer.main.get_command(app)


def parse(arguments: list[str]) -> None:
    """Parse a command to its last option; nothing is run."""
    command, context = command_line(), None
    while arguments and hasattr(command, "commands"):
        name, *arguments = arguments
        context = command.context_class(command, info_name=name, parent=context)
        assert name in command.commands, f"there is no {name}"
        command = command.commands[name]
    # A command alone means its kind, as in a sentence.
    if arguments:
        command.make_context(command.name, list(arguments), parent=context)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str) -> None:
    """Each exists with these arguments and options."""
    parse(split_words(line)[1:])


def test_what_does_not_exist_does_not_parse() -> None:
    """The check itself can fail."""
    for wrong in ("models aprove x", "models approve GROUP/1 --reson x"):
        with pytest.raises((AssertionError, *USAGE)):
            parse(wrong.split())


AWS = sorted({part.strip() for _, line in LINES for part in line.split(" | ") if split_words(part)[:1] == ["aws"]})
EVERYWHERE = {"query", "output", "region", "profile"}
"""Options that every command of the AWS CLI takes."""
TRANSFERS = {"sync", "cp", "ls", "rm"}
"""Commands of `aws s3`, which are no operations of the service."""


def ask_aws(service: str, operation: str, *arguments: str) -> None:
    """Hold a command of the AWS CLI against the service's model."""
    if service == "s3":
        assert operation in TRANSFERS, f"there is no aws s3 {operation}"
        return
    model = botocore.session.get_session().get_service_model(service)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    assert operation in operations, f"{service} has no {operation}"
    shape = model.operation_model(operations[operation]).input_shape
    members = {xform_name(name, "-"): name for name in shape.members}
    options = {word.removeprefix("--") for word in arguments if word.startswith("--")} - EVERYWHERE
    assert options <= set(members), f"{service} {operation} takes no {options - set(members)}"
    missing = set(shape.required_members) - {members[name] for name in options}
    assert missing == set(), f"{service} {operation} wants {missing}"


@pytest.mark.parametrize("line", AWS)
def test_requests_to_aws_are_the_services(line: str) -> None:
    """Operations and options as the services have them."""
    ask_aws(*split_words(line)[1:])


@pytest.mark.parametrize(
    "wrong", ["s3 synchronise a b", "sns list-subscription", "sns publish --topic a", "sns publish --topic-arn a"]
)
def test_what_no_service_takes_is_found(wrong: str) -> None:
    """The check itself can fail, and there is something to check."""
    assert len(AWS) >= 4
    with pytest.raises(AssertionError):
        ask_aws(*wrong.split())


def test_pipelines_presets_and_settings_are_there() -> None:
    """With the very options that `infra.outputs --settings` gives."""
    lines = [split_words(line) for line in COMMANDS if "--preset" in line]
    assert len(lines) == 2
    for line in lines:
        name = next(word for word in line if word in list_pipelines())
        sets = [line[position + 1] for position, word in enumerate(line) if word == "--set"]
        settings: Any = resolve(name, line[line.index("--preset") + 1], sets).settings
        assert settings.network.kms_key == OUTPUTS["ArtefactKeyArn"]


def test_targets_of_make_exist() -> None:
    """With a variable of ours before them, too, which names a setting."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+)( [a-z-]+)*:", makefile, re.MULTILINE))
    known = {name for match in targets for name in match if name}
    documented = {target for _, line in LINES for target in re.findall(r"(?:^|=\S+ )make ([a-z-]+)", line)}
    assert {"synth", "bootstrap", "deploy", "images", "destroy"} <= documented <= known
    variables = dict(
        word.split("=", 1) for _, line in LINES for word in line.split() if word.startswith("MEDLOOP_INFRA_")
    )
    assert variables
    assert load_settings({}, variables) != Settings()


def test_settings_that_the_pages_name_exist() -> None:
    """`section.field` of infra/settings.py."""
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    sections = Settings.model_fields
    # The pipelines' own sections bear some of the same names.
    pipelines: Any = resolve("segmentation").settings
    missing = []
    for section, field in re.findall(r"`(\w+)\.(\w+)\b[^`(]*`", text):
        if section not in sections or field in ("py", "yaml", "md"):
            continue
        ours = field in type(getattr(Settings(), section)).model_fields
        theirs = hasattr(getattr(pipelines, section, None), field)
        missing += [] if ours or theirs else [f"{section}.{field}"]
    assert missing == []


def test_names_of_outputs_agree(template: dict[str, Any]) -> None:
    """Those that infra.outputs reads, and those that the pages name, are the stack's."""
    outputs = set(template["Outputs"])
    named = set(re.findall(r"`((?:[A-Z][a-z]+){2,}(?:Arn|Bucket|Project|Uri|Group))`", DEPLOY))
    assert {"ApproverRoleArn", "EngineerRoleArn"} <= named <= outputs
    assert set(OUTPUTS) | set(SHELL_NAMES) <= outputs
    assert all(re.fullmatch(r"([A-Z][a-z]+)+", name) for name in outputs), "names of constructs, not CDK's"


def test_both_cost_tags_are_activated(template: dict[str, Any]) -> None:
    """Without it the budget and the anomalies see nothing."""
    (budget,) = [r for r in template["Resources"].values() if r["Type"] == "AWS::Budgets::Budget"]
    tags = {
        value.split("$")[0].removeprefix("user:")
        for value in budget["Properties"]["Budget"]["CostFilters"]["TagKeyValue"]
    }
    (line,) = [line for _, line in LINES if "update-cost-allocation-tags-status" in line]
    assert set(re.findall(r"TagKey=([\w:-]+)", line)) == tags

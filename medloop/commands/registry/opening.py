"""`medloop models open`: a version's page, checked, with what the registry knows put in, shown in the browser."""

from __future__ import annotations

import typer

from medloop.commands.objects import local_path
from medloop.commands.options import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    Services,
    TargetName,
    TargetOption,
    services,
    usable_home,
)
from medloop.commands.output import print_json, say
from medloop.commands.pages import BrowserOption, OutOption, page_path, show_page, write_page
from medloop.commands.registry.approval import ModelArgument
from medloop.commands.registry.evidence_files import RUN_AGAIN, EvidenceFile, read_report_file
from medloop.commands.registry.versions import find_model, name_of
from medloop.errors import UserError
from medloop.local.state.home import Home


def open_(
    ctx: typer.Context,
    model: ModelArgument,
    out: OutOption = None,
    browser: BrowserOption = True,
    target: TargetOption = TargetName.local,
    home: HomeOption = DEFAULT_HOME,
    json: JsonOption = False,
) -> None:
    """Show a version's page: the report, checked against its digest, with decisions, execution and model card."""
    from medloop.commands.registry.registry_section import insert_section, read_section

    opened, home = services(ctx).target(target, home), usable_home(home)
    sagemaker = opened.boto.client("sagemaker")
    package = sagemaker.describe_model_package(ModelPackageName=find_model(sagemaker, model))
    report = read_report_file(opened, package)
    html = insert_section(
        _checked(services(ctx), report).decode("utf-8", "replace"), read_section(opened, package, str(report.digest))
    )
    page = page_path(Home.find(home), name_of(package).replace("/", "-"), out)
    write_page(page, html)
    if json:
        facts = {"model": name_of(package), "arn": package["ModelPackageArn"], "digest": report.digest}
        print_json({**facts, "report": local_path(opened, home, report.uri), "page": page})
        return
    show_page(services(ctx), page, browser=browser)


def _checked(services: Services, report: EvidenceFile) -> bytes:
    """The report, unless it was changed since it was registered; without a digest it is shown with a warning.

    Raises:
        UserError: It was changed, or can't be read.
    """
    if report.content is not None and not report.recorded:
        say(services.err, f"{report.uri}: {report.state}, so a change can't be detected", "yellow")
        return report.content
    if not report.uri:
        raise UserError(f"the version names no evaluation, so there is no report; {RUN_AGAIN}")
    return report.require()

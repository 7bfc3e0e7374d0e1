"""`medloop models`: registered model versions and the evidence behind them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from medloop.commands.evaluations import metric_rows, read_evaluation, score_text
from medloop.commands.objects import local_path
from medloop.commands.options import Call, Services, on_target
from medloop.commands.output import print_json, print_line, print_table
from medloop.commands.pages import BrowserOption, OutOption, page_path, show_page, write_page
from medloop.commands.registry.approval import ModelArgument, approve, document_of, reject
from medloop.commands.registry.card import card_rows
from medloop.commands.registry.comparison import EvaluatedVersion, comparison
from medloop.commands.registry.decisions import decisions_of, is_decision_entry
from medloop.commands.registry.evidence_files import RUN_AGAIN, EvidenceFile, read_artefact, read_report_file
from medloop.commands.registry.versions import find_model, list_groups, list_versions, name_of, package_evaluation_uri
from medloop.documents.artefact import changed_image
from medloop.documents.card import read_card
from medloop.documents.metadata import decode
from medloop.errors import DataError, UserError
from medloop.local.state.home import Home

if TYPE_CHECKING:
    from medloop.cloud.target import Target
    from medloop.documents.evaluation import Evaluation

app = typer.Typer(no_args_is_help=True, help="Registered model versions.")
app.command()(approve)
app.command()(reject)


@app.command()
@on_target
def compare(
    first: ModelArgument,
    second: ModelArgument,
    drawn: Annotated[bool, typer.Option("--open", help="Draw both side by side as a page, and open it.")] = False,
    out: OutOption = None,
    browser: BrowserOption = True,
    *,
    call: Call,
) -> None:
    """Compare two versions: scores, metrics, and what differs in data, code and commit."""
    target = call.open()
    sagemaker = target.boto.client("sagemaker")
    arns = [find_model(sagemaker, m) for m in (first, second)]
    if arns[0] == arns[1]:
        raise UserError(f"{first} is named twice; give two versions, see `medloop models list`")
    packages = [sagemaker.describe_model_package(ModelPackageName=arn) for arn in arns]
    versions = [EvaluatedVersion(target, package) for package in packages]
    document = comparison(*versions)
    page = _draw(document, versions, call.home, out) if drawn or out else None
    if call.json:
        print_json(document | ({"page": page} if page else {}))
        return
    if page:
        show_page(call.services, page, browser=browser)
        return
    _print_comparison(call.services.out, document)


def _print_comparison(console: Console, document: dict[str, Any]) -> None:
    names = document["models"]
    print_table(console, ("", *names), [(row["name"], row["a"], row["b"]) for row in document["facts"]])
    print_line(console, "")
    headers = ("metric", *names, "difference")
    print_table(console, headers, [(row["name"], row["a"], row["b"], row["difference"]) for row in document["metrics"]])
    print_line(console, "")
    print_line(console, document["verdict"], style="" if document["comparable"] else "yellow")


def _draw(document: dict[str, Any], versions: list[EvaluatedVersion], home: Path, out: Path | None) -> Path:
    from medloop.commands.registry.comparison_page import draw_comparison

    first, second = versions
    name = "-and-".join(version.name.replace("/", "-") for version in versions)
    page = page_path(Home.find(home), name, out)
    write_page(page, draw_comparison(document, (first.evaluation, second.evaluation)))
    return page


@app.command("open")
@on_target
def open_(
    model: ModelArgument,
    out: OutOption = None,
    browser: BrowserOption = True,
    *,
    call: Call,
) -> None:
    """Show a version's page: the report, checked against its digest, with decisions, execution and model card."""
    from medloop.commands.registry.registry_section import insert_section, registry_section

    target = call.open()
    sagemaker = target.boto.client("sagemaker")
    package = sagemaker.describe_model_package(ModelPackageName=find_model(sagemaker, model))
    report = read_report_file(target, package)
    html = _checked(call.services, report).decode("utf-8", "replace")
    page = page_path(Home.find(call.home), name_of(package).replace("/", "-"), out)
    write_page(page, insert_section(html, registry_section(target, package, str(report.digest))))
    if call.json:
        facts = {"model": name_of(package), "arn": package["ModelPackageArn"], "digest": report.digest}
        print_json({**facts, "report": local_path(target, call.home, report.uri), "page": page})
        return
    show_page(call.services, page, browser=browser)


def _checked(services: Services, report: EvidenceFile) -> bytes:
    """The report, unless it was changed since it was registered; without a digest it is shown with a warning.

    Raises:
        UserError: It was changed, or can't be read.
    """
    if report.content is not None and not report.recorded:
        print_line(services.err, f"{report.uri}: {report.state}, so a change can't be detected", "yellow")
        return report.content
    if not report.uri:
        raise UserError(f"the version names no evaluation, so there is no report; {RUN_AGAIN}")
    return report.require()


@app.command("list")
@on_target
def list_(
    group: Annotated[str | None, typer.Argument(help="Only this group's versions.")] = None,
    *,
    call: Call,
) -> None:
    """List registered versions, the newest of each group first."""
    target = call.open()
    sagemaker = target.boto.client("sagemaker")
    groups = [group] if group else list_groups(sagemaker)
    packages = [
        sagemaker.describe_model_package(ModelPackageName=summary["ModelPackageArn"])
        for name in groups
        for summary in list_versions(sagemaker, name)
    ]
    rows = [_row(package, _evaluation(call.services.err, target, package)) for package in packages]
    if call.json:
        print_json(rows)
        return
    if not rows:
        print_line(call.services.err, "no models yet; a `medloop run` that passes its gate registers one")
        return
    headers = {"model": "model", "approval": "approval", "score_name": "score", "score": "value", "created": "created"}
    if not call.services.out.is_terminal:  # A terminal would fold it; GROUP/N names a version as well.
        headers["arn"] = "arn"
    print_table(call.services.out, tuple(headers.values()), [[row[key] for key in headers] for row in rows])


def _row(package: Mapping[str, Any], evaluation: Evaluation | None) -> dict[str, Any]:
    score = evaluation.score if evaluation else None
    return {
        "model": name_of(package),
        "approval": package.get("ModelApprovalStatus"),
        "score_name": score.name if score else None,
        "score": score.value if score else None,
        "created": package["CreationTime"],
        "arn": package["ModelPackageArn"],
    }


def _evaluation(err: Console, target: Target, package: Mapping[str, Any]) -> Evaluation | None:
    """A version's evaluation; None without one, or, with a warning, if it is malformed."""
    uri = package_evaluation_uri(package)
    try:
        return read_evaluation(target, uri) if uri else None
    except DataError as error:
        print_line(err, f"{name_of(package)}: {error}", style="yellow")
        return None


@app.command()
@on_target
def show(model: ModelArgument, call: Call) -> None:
    """Show a version: score, metrics, metadata, artefact, approval."""
    target = call.open()
    sagemaker = target.boto.client("sagemaker")
    package = sagemaker.describe_model_package(ModelPackageName=find_model(sagemaker, model))
    document = _describe(target, package, _evaluation(call.services.err, target, package))
    if call.json:
        evaluation = document["evaluation"]
        print_json(document | {"evaluation": evaluation.content() if evaluation else None})
        return
    _show(call.services.out, document)


def _describe(target: Target, package: Mapping[str, Any], evaluation: Evaluation | None) -> dict[str, Any]:
    containers = package.get("InferenceSpecification", {}).get("Containers", [{}])
    metadata, report = package.get("CustomerMetadataProperties", {}), read_report_file(target, package)
    return {
        "model": name_of(package),
        "arn": package["ModelPackageArn"],
        "approval": package.get("ModelApprovalStatus"),
        "approval_description": package.get("ApprovalDescription"),
        "decisions": [document_of(decision) for decision in decisions_of(package)],
        "status": package.get("ModelPackageStatus"),
        "created": package.get("CreationTime"),
        "description": package.get("ModelPackageDescription", ""),
        "artefact": containers[0].get("ModelDataUrl"),
        "artefact_state": read_artefact(target, package).state,
        "image": containers[0].get("Image"),
        "image_state": changed_image(package) or None,
        "report": report.uri or None,
        "report_state": report.state,
        "metadata": {key: decode(value) for key, value in metadata.items() if not is_decision_entry(key)},
        "card": read_card(package),
        "evaluation": evaluation,
    }


def _show(out: Console, document: dict[str, Any]) -> None:
    """Facts, decisions, card and metrics; the ARN on a line of its own, so that no narrow terminal folds it."""
    evaluation = document["evaluation"]
    print_line(out, document["arn"])
    facts = [(key, document[key]) for key in ("model", "approval", "status", "created", "artefact", "image", "report")]
    facts.append(("report's state", document["report_state"]))
    facts.append(("artefact's state", document["artefact_state"]))
    if document["image_state"]:
        facts.append(("image's state", document["image_state"]))
    if document["description"]:
        facts.append(("description", document["description"]))
    if evaluation:
        facts.insert(1, ("score", score_text(evaluation)))
    print_table(out, ("", ""), [*facts, *sorted(document["metadata"].items())])
    if document["decisions"] or document["approval_description"]:
        _section(out, "decisions")
        for decision in document["decisions"]:
            at, status, by, reason = (decision[key] for key in ("at", "status", "by", "reason"))
            print_line(out, f"{at:%Y-%m-%d %H:%M:%S} UTC  {status} by {by}: {reason}")
            if decision["definition"]:
                print_line(out, f"    definition: {decision['definition']}")
        if not document["decisions"]:
            print_line(out, document["approval_description"])
    if document["card"]:
        _section(out, f"model card ({document['card']['status']})")
        print_table(out, ("", "", ""), card_rows(document["card"]["content"]))
    if evaluation:
        _section(out, "metrics")
        print_table(out, ("metric", "value", "deviation"), metric_rows(evaluation))


def _section(out: Console, title: str) -> None:
    print_line(out, "")
    print_line(out, title, style="bold")

"""report.html: the evaluation as one self-contained page, which loads nothing from anywhere.

Its content security policy allows three scripts, by their digests: the table of cases, the viewer's controls, and the
viewer itself (NiiVue), which is inlined compressed and unpacked when it is first opened.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medloop.documents.csv_text import Cell
from medloop.documents.evaluation import Evaluation
from medloop.documents.model import ModelRecord
from medloop.documents.split import SplitRecord
from medloop.evaluation.csv_table import CsvTable
from medloop.evaluation.model_scores import ModelScores
from medloop.evaluation.report import provenance, statistics_tables, verdict
from medloop.evaluation.report.glossary import explain_terms
from medloop.evaluation.report.image_sections import image_part
from medloop.evaluation.report.page_parts import Viewer
from medloop.evaluation.report.training_curves import History, training_curves
from medloop.evaluation.report.volume_sections import volume_part
from medloop.evaluation.scored_cases import ScoredImages

TEMPLATE = "report.html.jinja"
TEMPLATES = Path(__file__).with_name("templates")
VIEWER_FILE = Path(__file__).with_name("viewer") / "niivue-0.69.0.umd.js.gz"
FIRST_ROWS = 50
"""Cases that the page shows before its script does."""
MAX_CASES = 10_000
"""Cases in the page; cases.csv has them all."""


def render(
    evaluation: Evaluation, scores: ModelScores, model: ModelRecord, split: SplitRecord, history: History = ()
) -> str:
    """Draw the page.

    Args:
        evaluation: The record of evaluation.json.
        scores: The scored test set.
        model: model.json.
        split: split.json.
        history: history.csv's rows; may be empty.

    Returns:
        HTML.

    Raises:
        DataError: A case to draw can't be read.
    """
    if isinstance(scores.scored, ScoredImages):
        part = image_part(scores.scored, evaluation)
    else:
        part = volume_part(scores.scored, evaluation)
    checks = verdict.checks(evaluation)
    groups, scale = statistics_tables.subgroup_lines(evaluation.subgroups, evaluation.score.value)
    return _environment().get_template(TEMPLATE).render(
        evaluation=evaluation,
        model=model,
        split=split,
        score_title=statistics_tables.title_of(evaluation.score.name),
        headline=verdict.headline(checks),
        checks=checks,
        sentence=verdict.sentence(evaluation),
        part=part,
        overall=statistics_tables.overall(evaluation),
        by_class=statistics_tables.by_class(evaluation),
        everything=statistics_tables.everything(evaluation),
        comparisons=statistics_tables.comparison_table(evaluation),
        groups=groups,
        scale=scale,
        history=training_curves(history, model.best),
        data=provenance.data_table(split),
        attributes=provenance.attribute_table(split),
        quarantined=provenance.quarantine_table(split),
        origin=provenance.origin_table(evaluation, model),
        settings=provenance.settings_table(model),
        limits=provenance.limits(evaluation, split),
        glossary=explain_terms(evaluation),
        first_rows=FIRST_ROWS,
        cases_json=_json(_cases(part.cases)),
        **_scripts(part.viewer),
    )  # fmt: skip


def _environment() -> Environment:
    # autoescape is unconditional: class names and patients' attributes come from the user's files.
    environment = Environment(
        loader=PackageLoader("medloop.evaluation.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["title_of"] = statistics_tables.title_of
    environment.filters["cell"] = statistics_tables.show_cell
    environment.tests["numeric"] = lambda cell: isinstance(cell, int | float) or cell == provenance.FEW
    return environment


def _scripts(viewer: Viewer | None) -> dict[str, object]:
    """Collect the page's scripts and the policy that allows only them."""
    cases = (TEMPLATES / "cases.js").read_text(encoding="utf-8")
    used = viewer is not None and bool(viewer.volumes)
    controls = (TEMPLATES / "viewer.js").read_text(encoding="utf-8") if used else ""
    packed = VIEWER_FILE.read_bytes() if used else b""
    allowed = [cases.encode(), *([controls.encode(), gzip.decompress(packed)] if used else [])]
    # The scripts are files of the package, not of the user, so that they need no escaping.
    return {
        "cases_script": Markup(cases),  # noqa: S704
        "viewer_script": Markup(controls),  # noqa: S704
        "viewer_code": base64.b64encode(packed).decode("ascii"),
        "viewer_licence": VIEWER_FILE.with_name("LICENSE").read_text(encoding="utf-8") if used else "",
        "viewer_legend": _json(list(viewer.legend) if viewer else []),
        "script_sources": Markup(" ".join(_source(script) for script in allowed)),  # noqa: S704
    }


def _source(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode('ascii')}'"


def _cases(table: CsvTable) -> dict[str, object]:
    rows = [[_plain(cell) for cell in row] for row in table.rows[:MAX_CASES]]
    return {"columns": list(table.columns), "rows": rows, "total": len(table.rows)}


def _plain(cell: Cell) -> Cell:
    """Make a cell that JSON has: undefined is null, infinity the largest number."""
    if not isinstance(cell, float):
        return cell
    if math.isnan(cell):
        return None
    return round(cell, 4) if math.isfinite(cell) else math.copysign(1e308, cell)


def _json(value: object) -> Markup:
    """Write JSON in which no text is read as markup by a browser."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escape)
    return Markup(text)  # noqa: S704 (escaped above; a script element holds JSON, not HTML)

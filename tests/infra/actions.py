"""What AWS's services know: which actions there are, and on which resources; from the data that cfn-lint ships."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def _services() -> dict[str, Any]:
    text = files("cfnlint.data.AdditionalSpecs").joinpath("Policies.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def exists(action: str) -> bool:
    """Whether a service knows an action."""
    service, _, name = action.partition(":")
    return name.lower() in _services().get(service, {}).get("Actions", {})


def forms(action: str) -> list[str]:
    """The ARNs, as regular expressions, that an action can be about; none where it is about `*` alone."""
    service, _, name = action.partition(":")
    known = _services()[service]
    kinds = known["Actions"][name.lower()].get("Resources", [])
    forms = [form for kind in kinds for form in known["Resources"].get(kind.lower(), {}).get("ARNFormats", [])]
    return [re.sub(r"\$\{[^}]+\}", "[^:]*", form) for form in forms]


def fits(action: str, resource: str) -> bool:
    """Whether an action can be about a resource, wildcards in the resource included."""
    return resource == "*" or any(re.fullmatch(form, resource) for form in forms(action))

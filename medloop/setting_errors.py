"""Settings as a user writes them: their dotted paths, and one line for each that can't be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from medloop.documents.reading import first_problem
from medloop.errors import SettingError

_MAX_SHOWN = 60
_Model = TypeVar("_Model", bound=BaseModel)


def setting_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every setting's dotted path, in the order of declaration."""
    for name, declared in model.model_fields.items():
        kind = declared.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from setting_paths(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def parse_settings(model: type[_Model], content: dict[str, Any], source: str) -> _Model:
    """Parse settings.

    Args:
        model: Type of the settings.
        content: Setting to value, groups as mappings.
        source: Where they come from, to begin the error with.

    Raises:
        SettingError: One is unknown, missing, or its value can't be used.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise SettingError(_explain(error, model, source)) from None


def _explain(error: ValidationError, model: type[BaseModel], source: str) -> str:
    problem = first_problem(error)
    name = problem.field
    if problem.kind == "extra_forbidden":
        return f"{source} {name}: no such setting; {suggest(name, _names(model), _siblings(name, model))}"
    if problem.kind == "missing":
        return f"{source}: {name} is missing; add it"
    shown = "" if isinstance(problem.value, dict | BaseModel) else f"={shorten(problem.value)}"
    return f"{source} {name}{shown}: {problem.reason}; fix its value"


def _names(model: type[BaseModel]) -> list[str]:
    """Settings and the groups that hold them."""
    paths = list(setting_paths(model))
    groups = {path.rpartition(".")[0] for path in paths if "." in path}
    return paths + sorted(groups | {group.partition(".")[0] for group in groups})


def _siblings(name: str, model: type[BaseModel]) -> list[str]:
    """Names in the group that would contain this name."""
    parent = name.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    inside = (path.removeprefix(prefix).partition(".")[0] for path in setting_paths(model) if path.startswith(prefix))
    return [prefix + part for part in dict.fromkeys(inside)]


def suggest(name: str, known: Sequence[str], shown: Sequence[str] | None = None) -> str:
    """A hint: which of `known` was probably meant, else what there is (`shown`, or all)."""
    last = name.rpartition(".")[2]
    near = [path for path in known if path.rpartition(".")[2] == last] or difflib.get_close_matches(name, known, n=1)
    if not near:
        tails = {path.rpartition(".")[2]: path for path in known}
        near = [tails[tail] for tail in difflib.get_close_matches(last, tails, n=1)]
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(shown or known)}"


def shorten(value: Any) -> str:
    """Return a value as text, of 60 characters at most."""
    text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."

"""One run of a function: `python -m medloop.local.function_runner HOME FOLDER HANDLER ARN`.

FOLDER contains `code` (the unpacked bundle) and event.json, and receives response.json. The handler's modules come from
the bundle only, at any time of their import; boto3's default session is the local backend's, whose modules come from
the checkout under the same names: they are loaded first, and forgotten by name.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from medloop.checkout import checkout_folder
from medloop.documents.json_text import read_json
from medloop.local.jobs.job_site import PACKAGES, BundleFinder, leave_checkout
from medloop.local.session import local_session
from medloop.projects import package_folders

Handler = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class LambdaContext:
    """Lambda's second argument of a handler, after the event."""

    invoked_function_arn: str


def load_handler(code: Path, handler: str) -> Handler:
    """Import a handler; from then on, this project's modules come from the bundle only.

    Args:
        code: The unpacked bundle.
        handler: `path/to/module.function`, as Lambda writes it.
    """
    module, _, function = handler.rpartition(".")
    for name in _project_modules():
        del sys.modules[name]
    leave_checkout(checkout_folder(), sys.path, sys.meta_path)
    sys.meta_path.insert(0, BundleFinder(str(code), [*package_folders()]))
    spec = importlib.util.spec_from_file_location("function_main", code / f"{module}.py")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {module!r}")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["function_main"] = loaded
    spec.loader.exec_module(loaded)
    function_object: Handler = getattr(loaded, function)
    return function_object


def _project_modules() -> dict[str, Any]:
    packages = {*PACKAGES, *package_folders()}
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in packages}


def run(home: Path, folder: Path, handler: str, arn: str) -> dict[str, Any]:
    """Call the handler; `value`, or `error` in Lambda's own shape."""
    try:
        boto3.DEFAULT_SESSION = local_session(home)
        function = load_handler(folder / "code", handler)
        value = function(read_json(folder / "event.json"), LambdaContext(arn))
        json.dumps(value)
    except Exception as error:
        traceback.print_exc()
        return {"error": {"errorType": type(error).__name__, "errorMessage": str(error)}}
    return {"value": value}


def main(argv: list[str]) -> None:
    """Run once, and write the response into the folder."""
    home, folder, handler, arn = argv
    response = run(Path(home), Path(folder), handler, arn)
    Path(folder, "response.json").write_text(json.dumps(response), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

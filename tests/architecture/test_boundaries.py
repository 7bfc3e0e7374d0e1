"""Allowed imports between folders (docs: README, Layout)."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from medloop.bundle import bundle_files, load_container
from medloop.documents import file_names
from tests.architecture.source import ROOT, closure, imports_of, nodes, python_files, tree, typing_imports_of

CONTAINERS = sorted(path.parent.name for path in (ROOT / "containers").glob("*/container.toml"))
JOB_CODE = (
    "medloop/container",
    "medloop/documents",
    "medloop/imaging",
    "medloop/training",
    "medloop/evaluation",
    "medloop/serving",
    "containers",
)
CONTROL_PLANE = (
    *(
        "medloop/cli.py",
        "medloop/commands",
        "medloop/local",
        "medloop/cloud",
        "medloop/definition",
        "medloop/documents",
        "medloop/samples",
        "medloop/dicom",
        "medloop/importing",
    ),
    *("medloop/settings.py", "medloop/bundle.py", "medloop/errors.py", "pipelines", "steps"),
)
TORCH_SIDE = ("torch", "torchvision", "monai", "mlflow", "fastapi", "uvicorn")


def offenders(folders: tuple[str, ...], forbidden: tuple[str, ...]) -> list[str]:
    """List the files that these folders' code imports, directly or indirectly, with a forbidden import."""
    violations = []
    for path in sorted(set().union(*(closure(start) for start in python_files(*folders)))):
        bad = sorted(name for name in imports_of(path) if name.split(".")[0] in forbidden or name in forbidden)
        if bad:
            violations.append(f"{path.relative_to(ROOT)} imports {bad[0]}")
    return violations


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that a new interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


MAY_ASK_AWS = {"containers/champion/main.py imports boto3", "medloop/training/tracking/secrets.py imports boto3"}
"""The Lambda function, and the module that reads secrets."""


def test_job_code_reaches_neither_boto3_nor_the_sdk() -> None:
    """A job runs without AWS credentials."""
    assert {*offenders(JOB_CODE, ("boto3", "botocore", "sagemaker", "pipelines", "steps"))} <= MAY_ASK_AWS


def test_job_code_does_not_reach_the_control_plane() -> None:
    """A job's bundle contains no engine, command line or session."""
    forbidden = ("medloop.local", "medloop.cloud", "medloop.cli", "medloop.definition", "medloop.settings")
    assert offenders(JOB_CODE, forbidden) == []


def test_control_plane_does_not_reach_torch() -> None:
    """Upserting a pipeline needs no torch."""
    assert offenders(CONTROL_PLANE, TORCH_SIDE) == []


def test_medloop_names_no_concrete_pipeline() -> None:
    """Medloop finds pipelines by entry point."""
    assert offenders(("medloop",), ("pipelines", "steps", "infra", "aws_smoke")) == []


def test_nothing_depends_on_the_smoke_test() -> None:
    """It tries the whole product in an account; the product works without it."""
    assert offenders(("medloop", "steps", "pipelines", "containers", "infra"), ("aws_smoke",)) == []


def test_infra_imports_only_shared_modules_of_medloop() -> None:
    """Infra uses names, bundles, requests and errors, not the command line, the local backend or jobs' code."""
    forbidden = (
        "medloop.cli",
        "medloop.commands",
        "medloop.local",
        "medloop.settings",
        "medloop.training",
        "pipelines",
    )
    violations = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python_files("infra")
        for name in imports_of(path)
        if name.startswith(forbidden) or name.split(".")[0] in {*TORCH_SIDE, "sagemaker"}
    ]
    assert violations == []


def test_functions_in_the_account_need_no_package() -> None:
    """Lambda's runtime has boto3 and no other package."""
    handlers = ("infra/scheduling/guard.py", "infra/deployment/function.py", "containers/champion/main.py")
    known = {*sys.stdlib_module_names, "boto3", "medloop", "infra"}
    violations = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted(set().union(*(closure(ROOT / handler) for handler in handlers)))
        for name in imports_of(path)
        if name.split(".")[0] not in known and not name.startswith(tuple(typing_imports_of(path)))
    ]
    assert violations == []


def test_only_infra_imports_cdk() -> None:
    """Medloop and pipelines don't depend on the account's definition."""
    folders = ("medloop", "steps", "pipelines", "containers")
    assert offenders(folders, ("aws_cdk", "constructs", "cdk_nag", "infra")) == []


def test_steps_name_containers_and_never_import_them() -> None:
    """A step refers to its container by name."""
    assert offenders(("steps", "pipelines"), ("containers",)) == []


def test_inits_are_empty() -> None:
    """Importing one module of a package loads no other."""
    full = [
        path
        for path in python_files("medloop", "steps", "pipelines")
        if path.name == "__init__.py" and path.stat().st_size
    ]
    assert full == []


def test_opt_ml_is_spelled_in_one_module() -> None:
    """Every path of the contract is in medloop/container/paths.py (or is rewritten by the local jobs)."""
    spelled = {
        str(path.relative_to(ROOT))
        for path in python_files("medloop", "steps", "pipelines", "containers")
        for node in nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/opt/ml")
    }
    assert spelled == {"medloop/container/paths.py"}


def test_file_names_are_spelled_in_one_module() -> None:
    """Names of files that steps, jobs and commands exchange are in medloop/documents/file_names.py."""
    names = {value for name, value in vars(file_names).items() if name.endswith("_FILE")}
    # An upload's manifest.json is a different file: infra and the guard wait for it.
    documents = {"medloop/documents/file_names.py", "medloop/input_data.py"}
    spelled = {
        f"{path.relative_to(ROOT)}: {node.value}"
        for path in python_files("medloop", "steps", "pipelines", "containers", "infra", "aws_smoke")
        for node in nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.rpartition("/")[2] in names
        if str(path.relative_to(ROOT)) not in documents
    }
    assert spelled == set()


def test_nothing_can_unpickle() -> None:
    """No code uses pickle, torch.load or numpy's allow_pickle."""
    violations = []
    for path in python_files("medloop", "steps", "pipelines", "containers"):
        text = path.read_text(encoding="utf-8")
        violations += [
            f"{path}: {word}" for word in ("torch.load(", "allow_pickle=True", "joblib.load") if word in text
        ]
        violations += [
            f"{path}: {name}" for name in imports_of(path) if name.split(".")[0] in ("pickle", "dill", "cloudpickle")
        ]
    assert violations == []


@pytest.mark.parametrize("name", CONTAINERS)
def test_bundle_contains_the_imports_of_its_entry_point(name: str) -> None:
    """The bundle contains the import closure of main.py."""
    spec = load_container(name)
    missing = {path.relative_to(ROOT) for path in closure(ROOT / spec.entry_point)} - set(bundle_files(spec))
    assert missing == set()


@pytest.mark.parametrize("name", CONTAINERS)
def test_main_is_thin(name: str) -> None:
    """An entry point reads the contract, calls one function, and has the command to run it by hand in its docstring."""
    path = ROOT / "containers" / name / "main.py"
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    assert f"python containers/{name}/main.py" in (ast.get_docstring(tree(path)) or "")


def test_command_line_loads_nothing_heavy() -> None:
    """`medloop --help` is fast."""
    assert loaded_after("import medloop.cli").isdisjoint(
        {*TORCH_SIDE, "sagemaker", "boto3", "botocore", "pydantic", "numpy"}
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        (
            "medloop.local.runner, medloop.local.engine.engine",
            {"pydantic", "botocore", "boto3", "numpy", "http", "ssl"},
        ),
        ("medloop.local.function_runner", {"pydantic", "numpy", "typer", "rich"}),
        ("medloop.imaging.split_plan", {"nibabel", "scipy"}),
    ],
)
def test_an_unchanged_run_loads_only_what_it_needs(module: str, unneeded: set[str]) -> None:
    """The engine and a function of steps that are remembered, and the check of files that are: two seconds in all."""
    assert loaded_after(f"import {module}").isdisjoint(unneeded)


@pytest.mark.slow
def test_reading_a_volume_leaves_pydicom_out() -> None:
    """Nibabel would import it, for longer than all the rest; who wants it afterwards has it."""
    statement = "from medloop.imaging.nifti_header import load_nibabel; load_nibabel()"
    assert "nibabel" in loaded_after(statement)
    assert "pydicom" not in loaded_after(statement)
    assert {"pydicom", "nibabel"} <= loaded_after(f"{statement}; import pydicom.dataset")


@pytest.mark.slow
def test_building_a_pipeline_loads_no_torch() -> None:
    """The check is transitive: modules in the interpreter afterwards, including the SDK's."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in python_files("steps", "pipelines", "medloop/local")
    ]
    statement = "import os; os.environ['AWS_DEFAULT_REGION'] = 'us-east-1'\nimport " + ", ".join(
        module.removesuffix(".__init__") for module in modules
    )
    assert loaded_after(statement).isdisjoint({"torch", "torchvision", "monai"})


@pytest.mark.slow
def test_jobs_import_without_boto3_and_the_sdk() -> None:
    """The check is transitive: TensorBoard uses boto3 if it is installed, but no job needs it."""
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in python_files(*JOB_CODE[:-1])]
    absent = "import sys; sys.modules.update(dict.fromkeys(['boto3', 'botocore', 'sagemaker']))\nimport "
    loaded_after(absent + ", ".join(module.removesuffix(".__init__") for module in modules))


def test_files_and_functions_stay_small() -> None:
    """No file above 400 lines, no function above 60."""
    violations = []
    for path in python_files("medloop", "steps", "pipelines", "containers", "infra", "aws_smoke"):
        text = path.read_text(encoding="utf-8")
        # Constructors of constructs are long, because they name and describe each keyword.
        constructs = path.is_relative_to(ROOT / "infra")
        if len(text.splitlines()) > 400:
            violations.append(f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines")
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= (
                90 if constructs and node.name == "__init__" else 60
            ):
                violations.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert violations == []


def test_docs_and_code_speak_of_the_project_alone() -> None:
    """The repository contains no path of a developer's computer."""
    folders = ("medloop", "pipelines", "steps", "containers", "infra", "aws_smoke", "tests", "docs", "benchmarks")
    names = [path for path in ROOT.iterdir() if path.suffix in {".py", ".md", ".toml", ".txt", ""} and path.is_file()]
    names += [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".md", ".toml"}
    ]
    foreign = "/".join(("", "work", ""))
    assert [name for name in names if foreign in name.read_text(encoding="utf-8")] == []

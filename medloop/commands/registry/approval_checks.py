"""Checks that every approval must pass.

A version can't be approved if its evidence is missing, older than the model or changed since; if the champion that it
was compared with is no longer the champion; if a required field of the model card is empty; or if the approver started
the training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medloop.champion import approved_versions, artefact_of, find_champion
from medloop.commands.execution_status import execution_id
from medloop.commands.registry.evidence_files import (
    EvidenceFile,
    check_artefact,
    code_of,
    modified_at,
    read_evaluation_file,
    read_report_file,
)
from medloop.commands.registry.versions import name_of
from medloop.documents.artefact import MODEL_DIGEST
from medloop.documents.card import (
    CARD_FIX,
    NOT_FOR_APPROVAL,
    REQUIRED_CARD_FIELDS,
    read_card,
    required_fields_of,
    setting_names,
)
from medloop.documents.champion import CLASSES_DIGEST, NO_VERSION
from medloop.documents.metadata import decoded
from medloop.errors import UserError
from medloop.identity import Person, starter

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

    from medloop.cloud.target import Target, TargetName
    from medloop.documents.evaluation import Evaluation


def require_approvable(target: Target, package: Mapping[str, Any], approver: Person) -> str:
    """Check all that an approval stands on.

    Args:
        target: The version's target.
        package: DescribeModelPackage's response.
        approver: The person who wants to approve it.

    Returns:
        The digest of the report.

    Raises:
        UserError: A check fails; the message names it, and the fix.
    """
    from medloop.documents.evaluation import Evaluation

    sagemaker = target.boto.client("sagemaker")
    metadata = decoded(package.get("CustomerMetadataProperties"))
    _require_card_fields(package, metadata)
    file, report = read_evaluation_file(target, package), read_report_file(target, package)
    evaluation = Evaluation.parse(file.require(), file.uri)
    report.require()
    _require_same_model(evaluation, metadata)
    check_artefact(target, package)
    _require_older_model(target, package, [file, report])
    _require_champion(sagemaker, package, metadata)
    _require_another_person(sagemaker, target.name, metadata, approver)
    return str(report.digest)


def _require_card_fields(package: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    card = read_card(package)
    present = required_fields_of(card["content"] if card else None)
    missing = [
        name
        for name in REQUIRED_CARD_FIELDS
        if name in metadata.get(NOT_FOR_APPROVAL, "").split() or name not in present
    ]
    if missing:
        raise UserError(f"{name_of(package)} can't be approved: {setting_names(missing)} not stated; {CARD_FIX}")


def _require_same_model(evaluation: Evaluation, metadata: Mapping[str, str]) -> None:
    """The evaluation and the version speak of one model, one code, one data set and one champion."""
    data = evaluation.data
    champion = metadata.get("champion", NO_VERSION)
    pairs = [
        ("code_digest", data.code_digest, metadata.get("code_digest")),
        ("data_digest", data.split_digest, metadata.get("data_digest")),
        ("champion", evaluation.gate.champion, "" if champion == NO_VERSION else champion),
    ]
    if data.model_digest:  # UpdateModelPackage changes metadata, and no ModelMetrics, which bind evaluation.json.
        pairs.append((MODEL_DIGEST, data.model_digest, metadata.get(MODEL_DIGEST, NO_VERSION)))
    for name, evaluated, registered in pairs:
        if registered is not None and evaluated != registered:
            raise UserError(
                f"evaluation.json speaks of another model: its {name} is {evaluated or NO_VERSION}, the version's is "
                f"{registered or NO_VERSION}; run the pipeline again"
            )


def _require_older_model(target: Target, package: Mapping[str, Any], evidence: list[EvidenceFile]) -> None:
    """The artefact was written before the evidence about it.

    Both times are the store's own (S3's, or the files' on this machine, where outputs are moved and keep theirs), so
    no clock is compared with another one.
    """
    artefact = artefact_of(package)
    if not artefact:
        raise UserError(f"{name_of(package)} names no model.tar.gz; run the pipeline again")
    written = modified_at(target, artefact)
    for file in evidence:
        if file.modified is None or written > file.modified:
            raise UserError(
                f"{file.name} is older than the model ({file.modified} and {written}): {artefact} was written after "
                "it was evaluated; restore it, or run the pipeline again"
            )


def _require_champion(sagemaker: SageMakerClient, package: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """The version was compared with what is the champion still."""
    then, artefact = metadata.get("champion", NO_VERSION), artefact_of(package) or ""
    approved = approved_versions(sagemaker, package["ModelPackageGroupName"])
    champion = find_champion(sagemaker, approved, artefact, metadata.get(CLASSES_DIGEST))
    now = champion.arn if champion else NO_VERSION
    if then == now:
        return
    from medloop.settings import command_name

    pipeline = metadata.get("execution", "").partition(":pipeline/")[2].partition("/")[0] or "NAME"
    project = "" if "--project" in (command := command_name(pipeline)) else " --project ''"
    run = f"medloop run {command}{project} --data {metadata.get('data', 'DATA')}"
    raise UserError(
        f"{name_of(package)} was compared with {_short(then)}, and the newest Approved version is "
        f"{_short(now)}; compare again: `{run}` with the preset and settings of that run (Split and Train "
        "come from the cache) registers a version that was"
    )


def _require_another_person(
    sagemaker: SageMakerClient, target: TargetName, metadata: Mapping[str, str], approver: Person
) -> None:
    """Two people: the starter of an execution doesn't approve its model."""
    arn = metadata.get("execution", "")
    person = started_by(sagemaker, arn)
    if person is None:
        raise UserError(
            f"who started the training isn't recorded with execution {execution_id(arn) or 'none'}, so it is unknown "
            "whether the approver is another person; run the pipeline again"
        )
    if person.is_same(approver):
        fix = "--as NAME" if target == "local" else "sign in under a session name of their own"
        raise UserError(
            f"{approver.shown} started execution {execution_id(arn)} ({person.shown}), and must not approve their own "
            f"training; another person approves: {fix}"
        )


def started_by(sagemaker: SageMakerClient, arn: str) -> Person | None:
    """The person who started an execution; None if no execution, or no person, is recorded.

    Raises:
        UserError: The execution can't be read.
    """
    from botocore.exceptions import ClientError

    if not arn.startswith("arn:"):
        return None
    try:
        execution = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    except ClientError as error:
        raise UserError(
            f"execution {execution_id(arn)}: can't be read ({code_of(error)}), so it is unknown who started the "
            "training; where access is denied, the approver needs sagemaker:DescribePipelineExecution"
        ) from None
    return starter(execution.get("CreatedBy"))


def _short(arn: str) -> str:
    """`GROUP/N` of a version's ARN; "no version" for none."""
    return "no version" if arn == NO_VERSION else arn.partition(":model-package/")[2] or arn

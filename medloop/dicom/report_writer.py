"""Measurements of a model as a structured report by TID 1500: volumes, or the probabilities of classes. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medloop.dicom.result_codes import PRIVATE_SCHEME, ClassCode, Code, long_text
from medloop.dicom.results import (
    MANUFACTURER,
    NOT_FOR_DIAGNOSIS,
    Algorithm,
    ResultSource,
    coded,
    common_options,
    finish,
    load_highdicom,
    quiet,
    reference_dataset,
)

VOLUME = Code(value="118565006", scheme="SCT", meaning="Volume")
MILLILITRE = Code(value="ml", scheme="UCUM", meaning="milliliter")
NO_UNIT = Code(value="1", scheme="UCUM", meaning="no units")
PROBABILITY = Code(value="probability", scheme=PRIVATE_SCHEME, meaning="Probability")
OPERATING_POINT = Code(value="operating_point", scheme=PRIVATE_SCHEME, meaning="Operating point")
IS_CALLED = Code(value="is_called", scheme=PRIVATE_SCHEME, meaning="Probability is at least the operating point")
YES = Code(value="373066001", scheme="SCT", meaning="Yes")
NO = Code(value="373067005", scheme="SCT", meaning="No")
_PROCEDURE = Code(value="363679005", scheme="SCT", meaning="Imaging procedure")
_SIGNIFICANT = ".6g"
"""Digits of a number: DS has 16 characters."""


def make_volume_report(
    source: ResultSource,
    volumes: Mapping[str, float],
    codes: Sequence[ClassCode],
    algorithm: Algorithm,
    description: str,
) -> Any:
    """Make a report of the structures' volumes.

    Args:
        source: The series.
        volumes: In ml, by the structure's name.
        codes: Of the structures, in the same order.
        algorithm: The model.
        description: SeriesDescription.
    """
    groups = [
        _group(name, code, algorithm, [_measure(VOLUME, volume, MILLILITRE)])
        for (name, volume), code in zip(volumes.items(), codes, strict=True)
    ]
    return _report(source, groups, algorithm, description)


def make_class_report(
    source: ResultSource,
    probabilities: Mapping[str, float],
    operating_points: Mapping[str, float],
    codes: Sequence[ClassCode],
    algorithm: Algorithm,
    description: str,
) -> Any:
    """Make a report of the classes' probabilities, and of the operating points of classes that have one.

    Args:
        source: The image's series.
        probabilities: By class.
        operating_points: Probability from which a class is predicted, by class; some or all may be absent.
        codes: Of the classes, in the order of the probabilities.
        algorithm: The model.
        description: SeriesDescription.
    """
    groups = []
    for (name, probability), code in zip(probabilities.items(), codes, strict=True):
        measurements, evaluations = [_measure(PROBABILITY, probability, NO_UNIT)], []
        if name in operating_points:
            measurements.append(_measure(OPERATING_POINT, operating_points[name], NO_UNIT))
            evaluations.append((IS_CALLED, YES if probability >= operating_points[name] else NO))
        groups.append(_group(name, code, algorithm, measurements, evaluations))
    return _report(source, groups, algorithm, description)


def _measure(name: Code, value: float, unit: Code) -> Any:
    return load_highdicom().sr.Measurement(name=coded(name), value=float(format(value, _SIGNIFICANT)), unit=coded(unit))


def _group(
    name: str,
    code: ClassCode,
    algorithm: Algorithm,
    measurements: Sequence[Any],
    evaluations: Sequence[tuple[Code, Code]] = (),
) -> Any:
    """The measurements of a class (TID 1501)."""
    from pydicom.uid import generate_uid

    sr = load_highdicom().sr
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(), identifier=long_text(name)),
        finding_category=coded(code.category),
        finding_type=coded(code),
        algorithm_id=sr.AlgorithmIdentification(
            name=algorithm.name, version=algorithm.version, parameters=[NOT_FOR_DIAGNOSIS]
        ),
        measurements=measurements,
        qualitative_evaluations=[sr.QualitativeEvaluation(coded(key), coded(value)) for key, value in evaluations],
    )


def _report(source: ResultSource, groups: Sequence[Any], algorithm: Algorithm, description: str) -> Any:
    """A report that is complete, not verified and preliminary."""
    hd = load_highdicom()
    from pydicom.uid import generate_uid

    options = common_options(source, algorithm, description)
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=algorithm.name,
        serial_number=algorithm.version,
    )
    observer = hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept("121007", "DCM", "Device"), observer_identifying_attributes=device
    )
    with quiet():
        content = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(observer_device_context=observer),
            procedure_reported=coded(_PROCEDURE),
            title=hd.sr.CodedConcept("126000", "DCM", "Imaging Measurement Report"),
            imaging_measurements=groups,
        )
        report = hd.sr.EnhancedSR(
            evidence=[reference_dataset(file) for file in source.files],
            content=content[0],
            is_complete=True,
            is_final=False,
            **options,
        )
    return finish(report, source)

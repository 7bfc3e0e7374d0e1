"""Standardised uptake values of PET by body weight.

Source: QIBA's vendor-neutral pseudo-code for SUV (qibawiki.rsna.org), for the units BQML, CNTS (Philips) and GML.
Torch-free.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from medloop.dicom.elements import first_item, number, text
from medloop.imaging.files import FileError

_PHILIPS_FACTOR = 0x70531000
SUV_TAGS: tuple[Any, ...] = (
    *("Units", "DecayCorrection", "PatientWeight", "RadiopharmaceuticalInformationSequence"),
    *("SeriesDate", "SeriesTime", "AcquisitionDate", _PHILIPS_FACTOR),
)
"""Elements that the factor depends on; a patient's weight is used and not kept."""
_FIX = "give --pet stored to take the values as stored, in all series"


def suv_factor(path: Path, dataset: Any, first_acquisition: str) -> float:
    """Compute the factor from rescaled values to SUV in g/ml.

    Args:
        path: The file.
        dataset: Its header.
        first_acquisition: The smallest AcquisitionTime of the series: the scan's begin where a later processing
            changed SeriesTime.

    Raises:
        FileError: The header lacks what the factor depends on.
    """
    units = text(dataset, "Units").upper()
    if units == "GML":
        return 1.0
    if units == "CNTS" and (factor := _private_number(dataset)):
        return factor
    if units != "BQML":
        raise FileError(path, f"SUV is unknown: Units is {units or 'missing'}; {_FIX}")
    return _required(path, dataset, "PatientWeight") * 1000 / _decayed_dose(path, dataset, first_acquisition)


def _private_number(dataset: Any) -> float | None:
    try:
        return float(dataset[_PHILIPS_FACTOR].value) or None
    except (KeyError, TypeError, ValueError):
        return None


def _decayed_dose(path: Path, dataset: Any, first_acquisition: str) -> float:
    """The injected activity (Bq) at the time to which the images are decay corrected."""
    tracer = first_item(dataset, "RadiopharmaceuticalInformationSequence")
    dose = _required(path, tracer, "RadionuclideTotalDose")
    correction = text(dataset, "DecayCorrection").upper()
    if correction == "ADMIN":
        return dose
    if correction != "START":
        raise FileError(path, f"SUV is unknown: DecayCorrection is {correction or 'missing'}; {_FIX}")
    half_life = _required(path, tracer, "RadionuclideHalfLife")
    scan = _scan_time(path, dataset, first_acquisition)
    delay = (scan - _injection_time(path, tracer, scan)).total_seconds()
    if not 0 <= delay <= timedelta(days=2).total_seconds():
        raise FileError(path, f"SUV is unknown: the scan begins {delay:.0f} s after the injection; {_FIX}")
    return float(dose * 2 ** (-delay / half_life))


def _scan_time(path: Path, dataset: Any, first_acquisition: str) -> datetime:
    """The series' time, unless a later processing changed it: then that of the first acquisition."""
    series = _time(text(dataset, "SeriesDate"), text(dataset, "SeriesTime"))
    acquisition = _time(text(dataset, "AcquisitionDate"), first_acquisition)
    times = [time for time in (series, acquisition) if time]
    if not times:
        raise FileError(path, f"SUV is unknown: SeriesTime is missing; {_FIX}")
    return min(times)


def _injection_time(path: Path, tracer: Any, scan: datetime) -> datetime:
    start = text(tracer, "RadiopharmaceuticalStartDateTime")
    if start and (time := _time(start[:8], start[8:])):
        return time
    time = _time(scan.strftime("%Y%m%d"), text(tracer, "RadiopharmaceuticalStartTime"))
    if time is None:
        raise FileError(path, f"SUV is unknown: RadiopharmaceuticalStartTime is missing; {_FIX}")
    # It has no date: an injection before midnight was on the day before the scan.
    return time - timedelta(days=1) if time > scan else time


def _time(date: str, time: str) -> datetime | None:
    """A date and a time of DICOM; a time zone is left out, as both ends of a duration have it."""
    digits = time.split("+")[0].split("-")[0].split(".")[0].replace(":", "")[:6]
    try:
        return datetime.strptime(date + digits.ljust(6, "0"), "%Y%m%d%H%M%S") if digits else None
    except ValueError:
        return None


def _required(path: Path, dataset: Any, keyword: str) -> float:
    value = number(dataset, keyword)
    if value is None or value <= 0:
        raise FileError(path, f"SUV is unknown: {keyword} is {'missing' if value is None else value}; {_FIX}")
    return value

"""The optional packages that read DICOM, imported when they are first needed. Torch-free."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from medloop.errors import UserError


@cache
def load_pydicom() -> Any:
    """Import pydicom, with decoders of all usual compressions, and take values of files as they are.

    Raises:
        UserError: The extra `dicom` is not installed.
    """
    try:
        pydicom = importlib.import_module("pydicom")
        from medloop.dicom.decoders import add_decoders
    except ImportError as error:
        raise UserError(f"DICOM: package {error.name} is not installed; run pip install 'medloop[dicom]'") from None
    # What a scanner wrote is judged where it is used: a warning for each odd value of each slice helps no user.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    add_decoders()
    return pydicom

"""Types of numbers in documents and settings, and the units of lengths; this module builds no model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Triple = tuple[float, float, float]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Percentile = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
LengthUnit = Literal["mm", "micron", "meter"]

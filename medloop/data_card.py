"""model-card.yaml: the model card that a data set carries in its folder.

What is known of the patients and of the truth belongs to the data, not to a preset: a card speaks of the data that it
was written for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medloop.documents.file_names import CARD_FILE
from medloop.errors import SettingError
from medloop.setting_errors import parse_settings
from medloop.yaml_text import MAX_CHARACTERS, read_yaml

MAX_BYTES = 4 * MAX_CHARACTERS
"""Bytes of the file that are read at most."""

LongText = Annotated[str, Field(max_length=2048)]
ShortText = Annotated[str, Field(max_length=1024)]
"""The schema's own limits."""


class CardFields(BaseModel):
    """Fields of the model card that only a person can fill in."""

    purpose: LongText = ""
    """The model's purpose."""
    intended_use: LongText = ""
    """Users, stage of care and use; the uses that are excluded."""
    population: LongText = ""
    """The patients whom the data stand for."""
    exclusions: LongText = ""
    """Patients who were left out, or must be."""
    reference_standard: LongText = ""
    """The method that determined the truth."""
    annotators: LongText = ""
    """The persons who drew or read the truth, and their training."""
    limits: LongText = ""
    """Known failures and limits."""
    ethics: LongText = ""
    """Ethical considerations."""
    business_problem: LongText = ""
    """The problem that the model solves for those who pay for it."""
    stakeholders: LongText = ""
    """Persons and groups with a stake in the model."""
    line_of_business: LongText = ""
    """The part of the organisation that uses the model, such as a department."""
    owner: ShortText = ""
    """The person or group responsible for the model."""
    risk_rating: Literal["High", "Medium", "Low", "Unknown"] = "Unknown"
    risk_explained: LongText = ""


class DataCard(CardFields):
    """The card that a data set carries: what is known of its patients and its truth, so of every model made of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    note: Annotated[str, Field(max_length=200)] = ""
    """A note that is shown with the score."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a pipeline that it fills in: those that it states."""
        registration = self.model_dump(exclude_unset=True)
        note = registration.pop("note", None)
        return {"registration": registration} | ({"evaluate": {"note": note}} if note else {})


def read_data_card(folder: Path) -> DataCard | None:
    """Read `model-card.yaml` in a data set's folder; None if there is none, or an empty one.

    Raises:
        SettingError: It can't be read, is no YAML mapping, or has a field that no card has.
    """
    path = folder / CARD_FILE
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            return parse_data_card(file.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        raise SettingError(f"{path}: can't be read ({error.strerror}); correct or remove it") from None


def parse_data_card(content: bytes, name: str) -> DataCard | None:
    """Parse a card; None if it is empty: blank, or with comments alone.

    Args:
        content: Of the file, `MAX_BYTES` and one more at most.
        name: The file's, for messages.

    Raises:
        SettingError: It is no YAML mapping, or has a field that no card has.
    """
    try:
        card = read_yaml(content.decode("utf-8-sig"), name)
    except UnicodeDecodeError:
        raise SettingError(f"{name}: is no UTF-8 text; write it as YAML") from None
    if card is None:
        return None
    if not isinstance(card, dict):
        raise SettingError(f"{name}: must be a mapping; write lines such as `population: ...`, or remove it")
    return parse_settings(DataCard, card, name)

"""Floors by class: from the job's arguments to the gate's number."""

from __future__ import annotations

import pytest

from medloop.container.arguments import parse_arguments, read_pairs
from medloop.documents.evaluation import Statistic
from medloop.errors import SettingError
from medloop.evaluation.evaluate import EvaluateArguments
from medloop.evaluation.floors import find_floors, floor_left, floors_of_classes


def parse(*arguments: str) -> EvaluateArguments:
    """Read arguments as the job does."""
    return parse_arguments(EvaluateArguments, read_pairs(["--task", "classification", *arguments]))


def test_names_survive() -> None:
    """Spaces, equal signs, other alphabets, a leading hyphen or bracket; one argument without a number too."""
    names = {"a b": 0.5, "x=y": 0.25, "Größe": 1.0, "--margin": 0.0, "[1]": 0.75}
    arguments = [w for i, (name, value) in enumerate(names.items(), 1) for w in (f"--floor-{i}", f"{name}={value}")]
    assert parse(*arguments).floors == names
    assert parse("--floor", "cat=0.9").floors == {"cat": 0.9}
    assert parse().floors == {}


@pytest.mark.parametrize("text", ["cat", "cat=1.5", "cat=nan", "cat=high"])
def test_an_invalid_floor_is_refused(text: str) -> None:
    """The message has one line and names the arguments."""
    with pytest.raises(SettingError, match="floor"):
        parse("--floor-1", text)


def test_the_least_decides() -> None:
    """An undefined class is below any floor; without floors 0 is left."""
    reached = [
        Statistic(name="auroc", class_name=name, value=value, num_patients=20, num_cases=40)
        for name, value in (("cat", 0.9), ("dog", 0.8), ("fox", None))
    ]
    floors = find_floors({"cat": 0.7, "dog": 0.75}, reached, "classification")
    assert floor_left(floors) == pytest.approx(0.05)
    assert floor_left(find_floors({"cat": 0.7, "fox": 0.1}, reached, "classification")) == -1.0
    assert floor_left([]) == 0.0


def test_the_background_has_no_floor() -> None:
    """A floor for the background of a segmentation model is refused."""
    floors_of_classes({"gland": 0.5}, ("background", "gland"), "segmentation")
    with pytest.raises(SettingError, match="class 'background' is unknown; known: gland"):
        floors_of_classes({"background": 0.5}, ("background", "gland"), "segmentation")


def test_a_floor_is_of_its_class_in_any_form() -> None:
    """A key in decomposed letters is the class in composed ones; a class twice is refused, and so is another case."""
    classes = ("Gr\u00f6\u00dfe", "b", "c")
    assert floors_of_classes({"Gro\u0308\u00dfe": 0.5, " b": 0.1}, classes, "classification") == {
        "Gr\u00f6\u00dfe": 0.5,
        "b": 0.1,
    }
    with pytest.raises(SettingError, match="class 'b' is there twice"):
        floors_of_classes({"b": 0.5, "b\u200b": 0.1}, classes, "classification")
    with pytest.raises(SettingError, match="class 'B' is unknown; known: Gr\u00f6\u00dfe, b, c"):
        floors_of_classes({"B": 0.5}, classes, "classification")

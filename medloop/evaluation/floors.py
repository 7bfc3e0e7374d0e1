"""Floors: the minimum AUROC or Dice of a class, without which a model doesn't pass the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medloop.documents.evaluation import Floor, Statistic
from medloop.documents.names import known_keys
from medloop.documents.split import Task
from medloop.evaluation.metrics import floor_of


def read_floors(values: dict[str, Any]) -> dict[str, Any]:
    """Take the job's arguments `floor`, `floor_1`, `floor_2`, ... (`CLASS=VALUE`) as one mapping `floors`.

    The last `=` divides: the name of a class may contain others.

    Raises:
        ValueError: There is no `=`, or a class is given twice.
    """
    floors: dict[str, Any] = dict(values.get("floors", {}))
    arguments = {name: value for name, value in values.items() if name != "floors"}
    for name in list(arguments):
        if name == "floor" or (name.startswith("floor_") and name.removeprefix("floor_").isdigit()):
            class_name, divided, value = str(arguments.pop(name)).rpartition("=")
            if not divided or class_name in floors:
                raise ValueError("write --floor-1 CLASS=VALUE, --floor-2 CLASS=VALUE, each class once")
            floors[class_name] = value
    return arguments | ({"floors": floors} if floors else {})


def floors_of_classes(floors: Mapping[str, float], classes: Sequence[str], task: Task) -> dict[str, float]:
    """The floors, keyed by the model's own names of the classes.

    Raises:
        SettingError: A class is unknown, or it is the background.
    """
    return known_keys("evaluate.floors", floors, classes if task == "classification" else classes[1:])


def find_floors(floors: Mapping[str, float], statistics: Sequence[Statistic], task: Task) -> list[Floor]:
    """Compare each class that has a floor with it."""
    metric = floor_of(task).name
    reached = {statistic.class_name: statistic.value for statistic in statistics if statistic.name == metric}
    return [
        Floor.model_validate({"class_name": name, "metric": metric, "floor": floor, "value": reached.get(name)})
        for name, floor in floors.items()
    ]


def floor_left(floors: Sequence[Floor]) -> float:
    """Return the minimum distance of a class above its floor; -1 if a value is undefined, 0 without floors."""
    return min((-1.0 if floor.value is None else floor.value - floor.floor for floor in floors), default=0.0)

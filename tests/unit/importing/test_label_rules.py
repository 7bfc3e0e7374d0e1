"""Label values of a source become classes without gaps, and nothing is guessed that could swap structures."""

from __future__ import annotations

import numpy as np
import pytest

from medloop.errors import SettingError
from medloop.imaging.dataset_json import DescribedLabels
from medloop.importing.label_rules import choose_rule, remap

Values = list[tuple[int, ...]]


@pytest.mark.parametrize(
    ("values", "classes", "ignored"),
    [
        ([(0, 1), (0, 2)], {1: 1, 2: 2}, set()),
        ([(0, 255)], {255: 1}, set()),
        ([(0, 2), (0, 1000)], {2: 1, 1000: 2}, set()),
        ([(0, 1, 255), (0, 1)], {1: 1}, {255}),
        ([(0, 1, 2, 255)], {1: 1, 2: 2}, {255}),
        ([(0, 85, 170, 255)], {85: 1, 170: 2, 255: 3}, set()),
        ([(-1, 0, 1)], {1: 1}, {-1}),
        ([(0, 4, 1, 2)], {1: 1, 2: 2, 4: 3}, set()),
    ],
)
def test_values_without_names(values: Values, classes: dict[int, int], ignored: set[int]) -> None:
    """Their order stays; 255 after 1, 2, ... and negative values are voxels to ignore, as other tools write them."""
    rule = choose_rule(values, [], DescribedLabels(), None)
    assert rule.values == classes
    assert rule.ignored >= ignored
    assert rule.names == ()
    assert (255 in rule.ignored) == (255 in ignored)


def test_a_named_value_of_255_is_a_structure() -> None:
    """The source says so."""
    rule = choose_rule([(0, 1, 255)], [], DescribedLabels({0: "bg", 1: "a", 255: "b"}), None)
    assert (rule.values, rule.names, rule.ignored) == ({1: 1, 255: 2}, ("bg", "a", "b"), frozenset())


def test_regions_become_classes() -> None:
    """A value has the name of the smallest region that contains it."""
    described = DescribedLabels({0: "background"}, None, {"whole": (1, 2, 3), "core": (2, 3), "active": (3,)})
    rule = choose_rule([(0, 1, 2, 3)], [], described, None)
    assert rule.names == ("background", "whole", "core", "active")


def test_a_background_of_another_value() -> None:
    """It becomes 0."""
    rule = choose_rule([(1, 2)], [], DescribedLabels({1: "Background", 2: "liver"}), None)
    assert (rule.values, rule.names) == ({2: 1}, ("Background", "liver"))
    np.testing.assert_array_equal(remap(np.array([[[1, 2]]]), rule.values), [[[0, 1]]])


def test_repeated_names_and_commas() -> None:
    """Names are distinct, and can be written in an option."""
    rule = choose_rule([(0, 1, 2)], [], DescribedLabels({1: "left, kidney", 2: "left  kidney"}), None)
    assert rule.names == ("background", "left kidney", "left kidney 2")


def test_names_that_dont_fit_are_refused() -> None:
    """With the source's own."""
    with pytest.raises(
        SettingError, match=r"has no structure lung; it has liver, label 2 \(after the background\)|lung"
    ):
        choose_rule([(0, 1, 2)], [], DescribedLabels({1: "liver"}), ["background", "liver", "lung"])
    with pytest.raises(SettingError, match="300 structures, and a label map 255"):
        choose_rule([tuple(range(301))], [], DescribedLabels(), None)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_remap_in_all_types(dtype: type) -> None:
    """As a table of values by hand."""
    voxels = np.random.default_rng(0).choice([0, 3, 7, 100], (5, 6, 40)).astype(dtype)
    result = remap(voxels, {3: 2, 100: 1})
    np.testing.assert_array_equal(result, np.select([voxels == 3, voxels == 100], [2, 1], 0))
    assert result.dtype == np.uint8

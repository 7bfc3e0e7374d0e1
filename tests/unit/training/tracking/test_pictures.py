"""Pictures of validation cases."""

from __future__ import annotations

import numpy as np

from medloop.training.tracking.pictures import (
    NUM_SAMPLES,
    busiest_slice,
    confusion_panel,
    sample_indices,
    samples_panel,
    slice_panel,
)


def test_the_slice_with_most_of_the_truth_is_drawn() -> None:
    """Without truth, most of the prediction; without either, the middle."""
    truth, prediction = np.zeros((4, 4, 6), np.uint8), np.zeros((4, 4, 6), np.uint8)
    assert busiest_slice(truth, prediction) == 3
    prediction[:2, :2, 1] = 1
    assert busiest_slice(truth, prediction) == 1
    truth[0, 0, 5] = 2
    assert busiest_slice(truth, prediction) == 5


def test_a_slice_is_seen_as_radiologists_look() -> None:
    """Right at the left, front on top; the truth is tinted in the second part, the prediction in the third."""
    image = np.zeros((60, 60))
    image[50:, 50:] = 1000  # right (x grows to the right in RAS) and front (y grows to the front)
    truth, prediction = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    truth[[0, -1], [0, -1]] = 1
    prediction[0, 0] = 2
    panel = slice_panel(image, truth, prediction)
    assert panel.dtype == np.uint8
    part = (panel.shape[1] - 8) // 3
    assert panel[20, 20].tolist() == [255, 255, 255]
    assert panel[20, part - 20].tolist() == [0, 0, 0]
    bottom_right = [panel[-1, start + part - 1].tolist() for start in (0, part + 4, 2 * part + 8)]
    assert bottom_right == [[0, 0, 0], [115, 79, 0], [43, 90, 116]]


def test_a_slice_is_cropped_to_the_structures() -> None:
    """So that no face is in it."""
    image, labels = np.zeros((300, 300)), np.zeros((300, 300), np.uint8)
    labels[100:110, 100:110] = 1
    image[0] = 1e6
    panel = slice_panel(image, labels, labels)
    assert panel.shape[0] == 22 * round(192 / 22)
    assert panel[:, : panel.shape[0]].max() == 0


def test_a_flat_image_is_drawn() -> None:
    """A constant volume divides by nothing."""
    assert slice_panel(np.ones((5, 5)), np.zeros((5, 5), np.uint8), np.zeros((5, 5), np.uint8)).size


def test_samples_are_spread_and_few() -> None:
    """First and last are among them."""
    assert sample_indices(3) == [0, 1, 2]
    chosen = sample_indices(1000)
    assert (len(chosen), chosen[0], chosen[-1]) == (NUM_SAMPLES, 0, 999)


def test_samples_and_matrix_take_grey_and_rgb() -> None:
    """Seven images need a second row; an unreadable matrix isn't drawn."""
    for channels in (1, 3):
        images = [np.full((channels, 20, 20), 0.5)] * 7
        panel = samples_panel(images, [0] * 7, [1] * 7, ["a class with a very long name", "b"])
        assert panel.shape == (2 * 148, 6 * 120, 3)
    truth = np.array([0, 0, 1])
    matrix = confusion_panel(truth, truth, ["a", "b"])
    assert matrix is not None
    assert matrix.shape[2] == 3
    assert confusion_panel(truth, truth, ["x"] * 21) is None

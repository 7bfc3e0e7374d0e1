"""K-means baseline for `brain-tissue`: three classes of intensity over the brain's voxels, one subject at a time.

    python benchmarks/kmeans_tissue.py DIR [SUBJECT ...]

DIR contains `<subject>/{img,label}.nii.gz` (made by `medloop samples brain-tissue DIR`, or a split's test folder).
Clusters are matched to the truth by the best of all permutations, so that the baseline is not underestimated.
Prints the Dice of each subject and the means: a network should exceed them by 0.05.
"""

from __future__ import annotations

import sys
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

TISSUES = {1: "grey", 2: "white"}


def score_subject(folder: Path) -> dict[str, float]:
    """Dice of grey and white matter for the best assignment of clusters."""
    image = nib.load(folder / "img.nii.gz").get_fdata(dtype=np.float32)
    truth = np.asarray(nib.load(folder / "label.nii.gz").dataobj)
    brain = image > 0
    clusters = KMeans(n_clusters=3, n_init=4, random_state=0).fit_predict(image[brain].reshape(-1, 1))
    scores = [_dice(np.array(naming)[clusters], truth, brain) for naming in permutations(range(3))]
    return max(scores, key=lambda score: sum(score.values()))


def _dice(labels: NDArray[np.int_], truth: NDArray[np.int_], brain: NDArray[np.bool_]) -> dict[str, float]:
    predicted = np.zeros(truth.shape, dtype=np.uint8)
    predicted[brain] = labels
    return {
        name: 2.0 * float(((predicted == value) & (truth == value)).sum())
        / max(1, int((predicted == value).sum() + (truth == value).sum()))
        for value, name in TISSUES.items()
    }  # fmt: skip


def main(arguments: list[str]) -> int:
    """Print one line per subject and the mean."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    root = Path(arguments[0])
    names = arguments[1:] or sorted(path.parent.name for path in root.glob("*/img.nii.gz"))
    scores = {name: score_subject(root / name) for name in names}
    for name, score in scores.items():
        print(f"{name}  grey {score['grey']:.3f}  white {score['white']:.3f}  mean {np.mean(list(score.values())):.3f}")
    means = {tissue: np.mean([score[tissue] for score in scores.values()]) for tissue in TISSUES.values()}
    both = np.mean(list(means.values()))
    print(f"{len(scores)} subjects  grey {means['grey']:.3f}  white {means['white']:.3f}  mean {both:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

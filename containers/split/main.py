"""Split job: check a data set, give every patient a split, write pseudonymised copies and split.json.

By hand, from the repository's root:

    python containers/split/main.py --task segmentation --input-data DATA --input-key KEYS \
        --output-train OUT/train --output-val OUT/val --output-test OUT/test --output-split OUT/split

DATA contains `<class>/<image>.png|jpg` or `<subject>/{img,label}.nii.gz`, KEYS `pseudonyms.key`, 32 random bytes.
README.md describes the contract.
"""

from __future__ import annotations

import sys

from medloop.container.arguments import parse_arguments
from medloop.container.processing import ProcessingJob
from medloop.container.run import run
from medloop.documents.file_names import SPLIT_FILE
from medloop.documents.split import SplitRecord
from medloop.imaging.identity import random_key, read_key
from medloop.imaging.split_job import SplitOutputs, SplitSettings, split_dataset, summary


def main() -> None:
    """Read the contract, split, and write the counts to the exit message."""
    job = ProcessingJob.read(sys.argv[1:])
    settings = parse_arguments(SplitSettings, job.arguments)
    data = job.input("data")
    outputs = SplitOutputs(job.output("train"), job.output("val"), job.output("test"), job.output("split"))
    folder = job.optional_input("previous")
    previous = SplitRecord.read(folder) if folder and (folder / SPLIT_FILE).exists() else None
    record = split_dataset(data, _key(job), settings, outputs, previous)
    job.set_exit_message(summary(record))


def _key(job: ProcessingJob) -> bytes:
    if (folder := job.optional_input("key")) is not None:
        return read_key(folder)
    print("warning: no input key: pseudonyms are made with a random key and can't be made again", flush=True)
    return random_key()


if __name__ == "__main__":
    run(main, kind="processing")

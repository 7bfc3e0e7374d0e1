"""Definitions that differ in form: both pipelines with each option that changes their steps, and every preset.

One table for those who try what AWS takes: the tests hold each definition against what AWS publishes, and
`make aws-smoke` creates each pipeline in an account, and deletes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medloop.presets import load_presets

KEY = "arn:aws:kms:us-east-1:000000000000:key/01234567-89ab-cdef-0123-456789abcdef"
VPC = ("network.subnets=[subnet-0123abcd]", "network.security_group_ids=[sg-0123abcd]", f"network.kms_key={KEY}")
"""Settings of a network and a key that have the form of AWS's and don't exist."""
STATED = tuple(
    f"registration.{name}=known"
    for name in ("intended_use", "population", "exclusions", "reference_standard", "annotators")
)
"""The five required fields of the model card."""
NETWORK = "network"
"""Stands for the network's and key's settings."""
OPTIONS: dict[str, tuple[str, ...]] = {
    "deploy": ("deploy.mode=pipeline",),
    "tune": ("tune.enabled=true",),
    "script": ("train.mode=script",),
    "manifest": ("split.layout=manifest",),
    "vpc": (NETWORK,),
    "vpc, deployed": (NETWORK, "deploy.mode=pipeline", "network.encrypt_inter_container=true"),
    "isolated": (NETWORK, "network.isolation=true", "deploy.mode=pipeline"),
    "asynchronous": (NETWORK, "deploy.mode=pipeline", "deploy.kind=async"),
    "serverless": ("deploy.mode=pipeline", "deploy.kind=serverless"),
    "warm pool": ("train.keep_alive_minutes=30",),
    "spot": ("train.spot=true",),
    "stated": STATED,
    "Hyperband": ("tune.enabled=true", "tune.strategy=Hyperband", "tune.max_runtime_minutes=60"),
    "warm start": (NETWORK, "tune.enabled=true", "tune.warm_start.jobs=[earlier]", "tune.random_seed=3"),
    "tuned on Spot": ("tune.enabled=true", "train.spot=true"),
    "floors": ("evaluate.floors={a: 0.5}", "evaluate.note=of the year 2026"),
}
"""Settings by the option's name."""


@dataclass(frozen=True)
class Variant:
    """The choices of one definition.

    Args:
        name: `classification tune`, or the preset's name.
        pipeline: The pipeline.
        preset: The preset; None for an option.
        sets: Settings as `--set` takes them.
    """

    name: str
    pipeline: str
    preset: str | None
    sets: tuple[str, ...]


def variants(network: Sequence[str] = VPC) -> Iterator[Variant]:
    """Yield every variant.

    Args:
        network: Settings of the network and key.
    """
    for pipeline in ("classification", "segmentation"):
        for option, sets in OPTIONS.items():
            chosen = tuple(text for name in sets for text in (network if name == NETWORK else (name,)))
            yield Variant(f"{pipeline} {option}", pipeline, None, chosen)
    for name, preset in load_presets().items():
        yield Variant(name, preset.pipeline, name, ())

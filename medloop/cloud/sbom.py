"""The bill of materials of an image: its Python packages with versions and licences, in CycloneDX's JSON.

Read from the image itself, so that the base image's packages are in it. Packages of the base's operating system are
not: ECR's scan lists those.
"""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Mapping
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

_CLASSIFIER = "License :: "
_NAMESPACE = uuid.UUID("8a3f5f0e-2f2c-4d55-8e2b-5d2d3c1f7b9a")
MAX_LICENSE = 100
"""Longer ones are a licence's text, not its name."""


def make_sbom(report: str, container: str, tag: str) -> str:
    """Return an image's bill of materials as JSON; the serial number follows from its content.

    Args:
        report: The packages' metadata (`container_engines.list_packages`).
        container: The folder below `containers/`.
        tag: The image's tag, the digest of its code.
    """
    image = Component(name=f"medloop-{container}", version=tag, type=ComponentType.CONTAINER, bom_ref="image")
    packages = [_package(metadata) for metadata in json.loads(report)]
    content = "\n".join(sorted(str(package.purl) for package in packages))
    bom = Bom(components=packages, serial_number=uuid.uuid5(_NAMESPACE, f"{image.name}:{tag}\n{content}"))
    bom.metadata.component = image
    bom.register_dependency(image, packages)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which package needs which isn't listed
        return str(JsonV1Dot6(bom).output_as_string(indent=2))


def _package(metadata: Mapping[str, Any]) -> Component:
    name, version = metadata["Name"], metadata["Version"]
    licences = [LicenseFactory().make_from_string(licence)] if (licence := _licence(metadata)) else []
    url = PackageURL("pypi", None, name, version)
    return Component(name=name, version=version, purl=url, licenses=licences, bom_ref=str(url))


def _licence(metadata: Mapping[str, Any]) -> str | None:
    """Return a package's licence as it names it: an SPDX expression, a short name, or the classifiers."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    text = (metadata.get("License") or "").strip()
    if text and len(text) <= MAX_LICENSE and "\n" not in text and text != "UNKNOWN":
        return str(text)
    classifiers = [c.rpartition(" :: ")[2] for c in metadata.get("Classifier") or [] if c.startswith(_CLASSIFIER)]
    return " AND ".join(classifiers) or None

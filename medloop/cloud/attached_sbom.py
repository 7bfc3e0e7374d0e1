"""A bill of materials attached to its image in ECR: an artefact of OCI whose subject is the image.

It goes where the image goes, to another account too, and is deleted with it. `aws ecr list-image-referrers` and
`oras discover` find it by the image's digest. It has a tag also, the image's and `.sbom`: ECR's lifecycle rule deletes
what has none.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from medloop.errors import TargetError

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient

CYCLONEDX: Final = "application/vnd.cyclonedx+json"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_EMPTY: Final = "application/vnd.oci.empty.v1+json"
"""The media type of `{}`, the configuration of an artefact that needs none.
https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md#guidelines-for-artifact-usage"""
_ACCEPTED: Final = [_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"]


def sbom_tag(image_tag: str) -> str:
    """Return the tag of the bill of materials of the image with this tag."""
    return f"{image_tag}.sbom"


def has_sbom(ecr: ECRClient, repository: str, image_tag: str) -> bool:
    """True if the image with this tag has a bill of materials.

    Raises:
        TargetError: ECR can't be read.
    """
    return _find(ecr, repository, sbom_tag(image_tag)) is not None


def attach_sbom(ecr: ECRClient, repository: str, image_tag: str, sbom: str) -> None:
    """Attach a bill of materials to an image.

    Args:
        ecr: A client.
        repository: The image's.
        image_tag: The image's.
        sbom: CycloneDX's JSON.

    Raises:
        TargetError: The image isn't there, or ECR refuses.
    """
    image = _find(ecr, repository, image_tag)
    if image is None:
        raise TargetError(f"image {repository}:{image_tag}: isn't in ECR; run `medloop images push`")
    try:
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "artifactType": CYCLONEDX,
            "config": {"mediaType": _EMPTY, **_upload(ecr, repository, b"{}")},
            "layers": [{"mediaType": CYCLONEDX, **_upload(ecr, repository, sbom.encode())}],
            "subject": {
                "mediaType": image["imageManifestMediaType"],
                "digest": image["imageId"]["imageDigest"],
                "size": len(image["imageManifest"].encode()),
            },
        }
        ecr.put_image(
            repositoryName=repository,
            imageManifest=json.dumps(manifest),
            imageManifestMediaType=_MANIFEST,
            imageTag=sbom_tag(image_tag),
        )
    except (ClientError, BotoCoreError) as error:
        raise TargetError(f"image {repository}:{image_tag}: its bill of materials isn't attached ({error})") from error


def _find(ecr: ECRClient, repository: str, tag: str) -> dict[str, Any] | None:
    try:
        response = ecr.batch_get_image(
            repositoryName=repository, imageIds=[{"imageTag": tag}], acceptedMediaTypes=_ACCEPTED
        )
    except (ClientError, BotoCoreError) as error:
        raise TargetError(f"target aws: ECR can't be read ({error}); allow ecr:BatchGetImage") from error
    return dict(response["images"][0]) if response["images"] else None


def _upload(ecr: ECRClient, repository: str, data: bytes) -> dict[str, str | int]:
    """Upload a blob, unless it is there; returns its descriptor's digest and size. One part has 20 MiB at most."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    present = ecr.batch_check_layer_availability(repositoryName=repository, layerDigests=[digest])["layers"]
    if not any(layer.get("layerAvailability") == "AVAILABLE" for layer in present):
        upload = ecr.initiate_layer_upload(repositoryName=repository)["uploadId"]
        ecr.upload_layer_part(
            repositoryName=repository,
            uploadId=upload,
            partFirstByte=0,
            partLastByte=len(data) - 1,
            layerPartBlob=data,
        )
        ecr.complete_layer_upload(repositoryName=repository, uploadId=upload, layerDigests=[digest])
    return {"digest": digest, "size": len(data)}

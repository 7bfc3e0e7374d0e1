"""Decoders of compressed pixels that pydicom has no free one for: JPEG lossless and 12 bit, by imagecodecs. Torch-free.

pydicom brings RLE; Pillow, pyjpegls and pylibjpeg-openjpeg are its decoders of baseline JPEG, JPEG-LS and JPEG 2000.
"""

from __future__ import annotations

from typing import Any

LABEL = "imagecodecs"
DECODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {}
"""pydicom's protocol of plugins: the packages of each transfer syntax."""


def is_available(uid: str) -> bool:
    """True if a transfer syntax can be decoded: pydicom's protocol of plugins."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(source: bytes, runner: Any) -> bytearray:
    """Decode one frame: pydicom's protocol of plugins."""
    import imagecodecs
    import numpy as np

    pixels = imagecodecs.jpeg_decode(source)
    bits = 8 * pixels.dtype.itemsize
    runner.set_option("bits_allocated", bits)
    runner.set_option("planar_configuration", 0)
    if runner.pixel_representation and runner.bits_stored < bits:
        sign = 1 << (runner.bits_stored - 1)
        pixels = ((pixels.astype(np.int32) ^ sign) - sign).astype(f"i{pixels.dtype.itemsize}")
    return bytearray(pixels.tobytes())


def add_decoders() -> None:
    """Register the decoders with pydicom, once a process."""
    from pydicom import uid
    from pydicom.pixels import decoders

    for name in ("JPEGExtended12Bit", "JPEGLossless", "JPEGLosslessSV1"):
        syntax = getattr(uid, name)
        DECODER_DEPENDENCIES[syntax] = ("imagecodecs",)
        decoder = getattr(decoders, f"{name}Decoder")
        if LABEL not in decoder.available_plugins:
            decoder.add_plugin(LABEL, (__name__, "decode_frame"))

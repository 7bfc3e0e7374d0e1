"""Odd series are read right, or refused by name; the others of the source are imported all the same."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from tests.unit.dicom.scanners import CORONAL, MadeSeries, multi_frame, save, set_pixels
from tests.unit.importing.importer import read_volume, reasons, run

Build = Callable[[Path], MadeSeries | None]
Change = Callable[[int, Dataset], object]
TEN = MadeSeries(shape=(7, 6, 10))


def changed(change: Change, series: MadeSeries = TEN) -> Build:
    """A series with changes in its headers; the voxels stay."""

    def build(folder: Path) -> MadeSeries:
        series.write(folder, change)
        return series

    return build


def set_element(keyword: str, value: Any) -> Change:
    """Set one element in every slice."""
    return lambda _, dataset: setattr(dataset, keyword, value)


def delete(*keywords: str) -> Change:
    """Delete elements in every slice."""
    return lambda _, dataset: [delattr(dataset, keyword) for keyword in keywords]


def raw(keyword: str, text: str) -> Change:
    """Set an element to a text that its VR doesn't allow."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    return lambda _, dataset: dataset.__setitem__(tag, pydicom.DataElement(tag, "LO", text))


def selected(numbers: list[int]) -> Build:
    """Some slices of ten."""

    def build(folder: Path) -> None:
        for number in numbers:
            save(TEN.dataset(number), folder / str(number))

    return build


def at(*heights: float, seed: int = 1) -> Build:
    """Slices at heights in mm."""
    series = MadeSeries(shape=(7, 6, len(heights)), seed=seed)
    return changed(lambda index, dataset: setattr(dataset, "ImagePositionPatient", [0, 0, heights[index]]), series)


def copies(folder: Path) -> MadeSeries:
    """Each slice in two files."""
    TEN.write(folder)
    TEN.write(folder / "copy")
    return TEN


def repeated(folder: Path, change: Change = lambda index, dataset: None) -> None:
    """Each position twice, under other UIDs."""
    for number in (1, 2):
        for index, dataset in enumerate(TEN.datasets()):
            dataset.SOPInstanceUID = TEN.uid(f"{number}-{index}")
            change(number, dataset)
            save(dataset, folder / f"{number}-{index}")


def mixed(folder: Path) -> None:
    """Two orientations in one series."""
    other = MadeSeries(orientation=CORONAL, shape=(7, 6, 4))
    TEN.write(folder / "a")
    other.write(
        folder / "b",
        lambda index, dataset: dataset.update(
            {"SeriesInstanceUID": TEN.uid("series"), "SOPInstanceUID": TEN.uid(f"b{index}")}
        ),
    )


def in_syntax(syntax: str) -> Build:
    """The series in another transfer syntax."""

    def build(folder: Path) -> MadeSeries:
        folder.mkdir(exist_ok=True)
        for index, dataset in enumerate(TEN.datasets()):
            dataset.file_meta.TransferSyntaxUID = syntax
            if syntax == uid.ExplicitVRBigEndian:
                dataset.PixelData = TEN.stored[index].astype(">u2").tobytes()
                dataset["PixelData"].VR = "OW"
            dataset.save_as(folder / str(index), enforce_file_format=True)
        return TEN

    return build


def without_preamble(folder: Path) -> MadeSeries:
    """Files as programs before DICOM's media format wrote them."""
    for index, dataset in enumerate(TEN.datasets()):
        del dataset.file_meta
        folder.mkdir(exist_ok=True)
        pydicom.dcmwrite(folder / f"{index}.ima", dataset, implicit_vr=True, little_endian=True)
    return TEN


def compressed(syntax: str, encode: Callable[[Any], bytes], *, signed: bool = False) -> Build:
    """A series of 64 x 64 pixels, of which each is encoded."""
    series = MadeSeries(shape=(64, 64, 3), signed=signed, intercept=0)

    def build(folder: Path) -> MadeSeries:
        for index, dataset in enumerate(series.datasets()):
            dataset.PixelData = encapsulate([encode(series.stored[index])])
            dataset["PixelData"].is_undefined_length = True
            dataset.file_meta.TransferSyntaxUID = syntax
            save(dataset, folder / str(index))
        return series

    return build


def lossless_jpeg(pixels: Any) -> bytes:
    """JPEG's process 14, with 12 bit."""
    plain = np.asarray(pixels).astype(np.uint16) & 0xFFF
    return bytes(imagecodecs.jpeg_encode(plain, lossless=True, bitspersample=12))


def jpeg_2000(pixels: Any) -> bytes:
    """A lossless code stream."""
    return bytes(imagecodecs.jpeg2k_encode(pixels, reversible=True, level=0, codecformat="J2K"))


def jpeg_ls(pixels: Any) -> bytes:
    """A lossless stream."""
    return bytes(imagecodecs.jpegls_encode(pixels))


def run_lengths(folder: Path) -> MadeSeries:
    """Pydicom's own RLE."""
    for index, dataset in enumerate(TEN.datasets()):
        dataset.compress(uid.RLELossless)
        save(dataset, folder / str(index))
    return TEN


def high_bits(index: int, dataset: Dataset) -> None:
    """An old overlay in the bits that the pixels don't use."""
    dataset.PixelData = (TEN.stored[index] | np.uint16(0x8000)).tobytes()


READ: dict[str, Build] = {
    "copies": copies,
    "without rescale": changed(
        delete("RescaleSlope", "RescaleIntercept"), MadeSeries(intercept=0, slope=1, shape=(7, 6, 10))
    ),
    "high bits": changed(high_bits),
    "padded pixels": changed(lambda _, dataset: setattr(dataset, "PixelData", dataset.PixelData + bytes(64))),
    "MONOCHROME1": changed(set_element("PhotometricInterpretation", "MONOCHROME1")),
    "tilt in the header alone": changed(set_element("GantryDetectorTilt", 12)),
    "no PatientID": changed(set_element("PatientID", "")),
    "odd slice thickness": changed(set_element("SliceThickness", 99)),
    "wrong spacing between slices": changed(set_element("SpacingBetweenSlices", -7)),
    "wrong slice location": changed(lambda index, dataset: setattr(dataset, "SliceLocation", -index)),
    "acquired in halves": changed(lambda index, dataset: setattr(dataset, "AcquisitionNumber", 1 + index // 5)),
    "lossy date": changed(raw("StudyDate", "04/03/21")),
    "big endian": in_syntax(uid.ExplicitVRBigEndian),
    "implicit VR": in_syntax(uid.ImplicitVRLittleEndian),
    "deflated": in_syntax(uid.DeflatedExplicitVRLittleEndian),
    "no preamble": without_preamble,
    "RLE": run_lengths,
    "JPEG lossless": compressed(uid.JPEGLossless, lossless_jpeg),
    "JPEG lossless SV1": compressed(uid.JPEGLosslessSV1, lossless_jpeg),
    "JPEG lossless, signed": compressed(uid.JPEGLosslessSV1, lossless_jpeg, signed=True),
    "JPEG-LS": compressed(uid.JPEGLSLossless, jpeg_ls),
    "JPEG 2000": compressed(uid.JPEG2000Lossless, jpeg_2000),
}


@pytest.mark.parametrize("name", READ)
def test_an_odd_series_is_read(tmp_path: Path, name: str) -> None:
    """All voxels, at their positions."""
    series = READ[name](tmp_path / "src")
    assert series is not None

    report = run(tmp_path / "src", tmp_path / "out")

    assert reasons(report) == []
    voxels, affine = read_volume(report, tmp_path / "out")
    np.testing.assert_allclose(voxels, series.values)
    np.testing.assert_allclose(affine, series.affine, atol=1e-4)


def nested(folder: Path) -> None:
    """A file with sequences in sequences, 3,000 deep."""
    TEN.write(folder)
    path = folder / "IM0002.dcm"
    content = path.read_bytes()
    start = content.index(b"\x08\x00\x16\x00UI")
    opening = b"\x08\x00\x40\x11SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    path.write_bytes(content[:start] + opening * 3000 + closing * 3000 + content[start:])


def bomb(folder: Path) -> None:
    """A deflated file of 300 KiB, with 300 MiB of zeros."""
    import zlib

    folder.mkdir(parents=True)
    meta = b"\x02\x00\x10\x00UI" + struct.pack("<H", 22) + uid.DeflatedExplicitVRLittleEndian.encode()
    head = b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(meta))
    stream = zlib.compressobj(9, wbits=-15)
    zeros = 300 * (stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH))
    (folder / "1.dcm").write_bytes(bytes(128) + b"DICM" + head + meta + zeros)


def mixed_patients(index: int, dataset: Dataset) -> None:
    """Two patients in one series."""
    dataset.PatientID = f"P{index // 5}"


def no_decoder(folder: Path) -> None:
    """A transfer syntax of video."""
    compressed(uid.MPEG2MPML, lambda pixels: bytes(100))(folder)


def wrong_size(encode: Callable[[Any], bytes], syntax: str) -> Build:
    """Compressed pixels of 64 x 64 in a file whose header says 8 x 8."""

    def build(folder: Path) -> None:
        dataset = MadeSeries(shape=(64, 64, 3), intercept=0).dataset(0)
        dataset.PixelData = encapsulate([encode(MadeSeries(shape=(64, 64, 3)).stored[0])])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID, dataset.Rows, dataset.Columns = syntax, 8, 8
        save(dataset, folder / "0")
        dataset.SOPInstanceUID, dataset.ImagePositionPatient = "1.2.3", [-101.5, -88.25, 42.5]
        dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        save(dataset, folder / "1")

    return build


def garbage(folder: Path) -> None:
    """A file with a DICOM preamble, and noise behind it."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(3).integers(0, 256, 5000, dtype=np.uint8).tobytes()
    (folder / "1.dcm").write_bytes(bytes(128) + b"DICM" + noise)


def frames_without_positions(folder: Path) -> None:
    """An enhanced image without functional groups."""
    dataset = multi_frame(TEN)
    del dataset.PerFrameFunctionalGroupsSequence
    save(dataset, folder / "1")


REFUSED: dict[str, tuple[Build, str]] = {
    "a gap": (selected([0, 1, 2, 4, 5, 6, 7, 8, 9]), "1 slice is missing (after slice 3 of 9)"),
    "two gaps": (selected([0, 2, 3, 4, 5, 7, 8, 9]), "2 slices are missing (after slice 1, 5 of 8)"),
    "a wide gap": (selected([0, 1, 2, 3, 8, 9]), "4 slices are missing (after slice 4 of 6)"),
    "uneven": (at(0, 1, 4, 9, 16), "slices are 1 to 7 mm apart, which is no even volume"),
    "two distances": (at(0, 5, 10, 15, 18, 21, 24), "slices are 3 to 5 mm apart"),
    "the same positions": (repeated, "10 of 20 slices are at the position of another one"),
    "localizer": (changed(set_element("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])), "is a localizer"),
    "mosaic": (changed(set_element("ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"])), "is a mosaic"),
    "single slice": (selected([3]), "is a single slice"),
    "no position": (changed(delete("ImagePositionPatient")), "ImagePositionPatient is missing"),
    "no orientation": (changed(delete("ImageOrientationPatient")), "ImageOrientationPatient is missing"),
    "no spacing": (changed(delete("PixelSpacing")), "PixelSpacing is missing or malformed"),
    "spacing of zero": (changed(set_element("PixelSpacing", [0, 0])), "PixelSpacing is impossible"),
    "comma decimals": (changed(raw("PixelSpacing", "0,8\\0,9")), "PixelSpacing is missing or malformed"),
    "position not a number": (changed(raw("ImagePositionPatient", "nan\\nan\\nan")), "ImagePositionPatient is missing"),
    "no right angle": (
        changed(set_element("ImageOrientationPatient", [1, 0, 0, 0.5, 0.8, 0])),
        "ImageOrientationPatient or PixelSpacing is impossible",
    ),
    "two patients": (changed(mixed_patients), "PatientID differs within the series"),
    "truncated": (
        changed(lambda index, dataset: setattr(dataset, "PixelData", b"\0\0")),
        "is truncated: its header specifies 84 bytes of pixels, and it has 2",
    ),
    "huge": (
        changed(lambda index, dataset: dataset.update({"Rows": 65535, "Columns": 65535})),
        "the series has more than 536870912 voxels",
    ),
    "many frames": (changed(set_element("NumberOfFrames", 2_000_000_000)), "NumberOfFrames is 2000000000"),
    "no bits": (changed(set_element("BitsAllocated", 0)), "its pixels can't be decoded"),
    "24 bits": (changed(set_element("BitsAllocated", 24)), "is truncated: its header specifies 126 bytes"),
    "colour": (changed(lambda _, dataset: set_pixels(dataset, np.zeros((7, 6, 3), np.uint8))), "is a colour image"),
    "no pixels": (changed(delete("PixelData")), "has no pixels"),
    "nested": (nested, "has sequences that are nested too deeply"),
    "bomb": (bomb, "inflates to more than 256 MiB"),
    "no decoder": (no_decoder, "pixels can't be decoded"),
    "JPEG 2000 of another size": (wrong_size(jpeg_2000, uid.JPEG2000Lossless), "have 64 rows and 64 columns, and its"),
    "JPEG of another size": (wrong_size(lossless_jpeg, uid.JPEGLosslessSV1), "have 64 rows and 64 columns, and its"),
    "JPEG-LS of another size": (wrong_size(jpeg_ls, uid.JPEGLSLossless), "have 64 rows and 64 columns, and its"),
    "garbage": (garbage, "it again or remove it"),
    "frames without positions": (frames_without_positions, "ImagePositionPatient is missing"),
    "another modality": (changed(set_element("Modality", "NM")), "is of a modality that isn't imported (NM)"),
    "no modality": (changed(set_element("Modality", "")), "is of a modality that isn't imported (none)"),
    "no series": (changed(delete("SeriesInstanceUID")), "has no SeriesInstanceUID"),
    "burned-in text": (changed(set_element("BurnedInAnnotation", "YES")), "BurnedInAnnotation is YES"),
    "a screenshot": (changed(set_element("ImageType", ["DERIVED", "SECONDARY", "SCREEN SAVE"])), "is a screenshot"),
    "digitized film": (changed(set_element("ConversionType", "DF")), "ConversionType is DF (digitized film)"),
    "secondary capture": (changed(set_element("SOPClassUID", uid.SecondaryCaptureImageStorage)), "a secondary capture"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_odd_series_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """The reason is reported, and the good series next to it is imported."""
    build, message = REFUSED[name]
    build(tmp_path / "src" / "odd")
    MadeSeries(seed=9, patient="P9").write(tmp_path / "src" / "good")

    report = run(tmp_path / "src", tmp_path / "out")

    assert len(report.cases) == 1
    assert message in " ".join(reasons(report))
    assert all(omission.path.startswith("odd/") for omission in report.left_out)


@pytest.mark.parametrize(
    ("build", "num_slices", "warning"),
    [
        (mixed, [10, 4], "the series has 2 volumes"),
        (partial(repeated, change=lambda number, d: setattr(d, "EchoTime", 10 * number)), [10, 10], "(echo 20.0)"),
        (
            partial(repeated, change=lambda number, d: setattr(d, "DiffusionBValue", 800.0 * number)),
            [10, 10],
            "(b-value 1600.0)",
        ),
        (partial(repeated, change=lambda number, d: setattr(d, "ImageType", ["A", "B", "FAT", "W"][:number])), [10, 10],
         "image type"),
        (partial(repeated, change=lambda number, d: setattr(d, "AcquisitionTime", f"1200{number}0")), [10, 10],
         "2 volumes"),
    ],
)  # fmt: skip
def test_several_volumes_in_a_series(
    tmp_path: Path, build: Callable[[Path], object], num_slices: list[int], warning: str
) -> None:
    """Orientations, echoes, b-values, kinds and times divide it."""
    build(tmp_path / "src")

    report = run(tmp_path / "src", tmp_path / "out")

    shapes = [read_volume(report, tmp_path / "out", number)[0].shape[2] for number in range(len(report.cases))]
    assert shapes == num_slices
    assert warning in report.cases[-1].warnings[0]


def test_tilt_uneven_slices_and_copies_are_reported(tmp_path: Path) -> None:
    """They are imported, with a warning each."""
    MadeSeries(seed=11, patient="A", shear=0.4).write(tmp_path / "src" / "a")
    at(0, 2.6, 5, 7.6, 10, seed=12)(tmp_path / "src" / "b")
    copies(tmp_path / "src" / "c")
    changed(set_element("GantryDetectorTilt", -7.5), MadeSeries(seed=4))(tmp_path / "src" / "d")

    text = " ".join(warning for case in run(tmp_path / "src", tmp_path / "out").cases for warning in case.warnings)

    assert "slices are tilted by 9.1 degrees" in text
    assert "slices are 2.4 to 2.6 mm apart" in text
    assert "10 copies of slices" in text
    assert "GantryDetectorTilt is -7.5 degrees, but the positions aren't tilted" in text


def test_floating_point_pixels(tmp_path: Path) -> None:
    """FloatPixelData keeps its fractions."""

    def change(index: int, dataset: Dataset) -> None:
        dataset.FloatPixelData = np.full((7, 6), index + 0.25, np.float32).tobytes()
        dataset.BitsAllocated, dataset.RescaleIntercept = 32, 0
        del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation

    TEN.write(tmp_path / "src", change)

    voxels, _ = read_volume(run(tmp_path / "src", tmp_path / "out"), tmp_path / "out")

    assert voxels[0, 0].tolist() == [index + 0.25 for index in range(10)]

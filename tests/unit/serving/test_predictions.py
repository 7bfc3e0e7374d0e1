"""From a request's bytes to an answer, for both tasks."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor, nn

from medloop.documents.hyperparameters import ClassificationHyperparameters
from medloop.documents.image_statistics import ImageStatistics
from medloop.documents.model import ImagePreprocessing, Intensity
from medloop.imaging.classify_dataset import LabelledImages
from medloop.imaging.files import FileError, InMemory
from medloop.imaging.formats import read_image
from medloop.imaging.images import load_images
from medloop.imaging.segment_dataset import Subjects, load_training
from medloop.serving.volume_service import MAX_ATTRIBUTES
from medloop.training.classification_task import ClassificationTask
from tests.unit.imaging.test_pictures import png as deep_png
from tests.unit.imaging.test_segment_predictor import PREPROCESSING, Threshold, write_ball
from tests.unit.serving.worlds import (
    RULE,
    Brightness,
    ball,
    client,
    image_service,
    nifti,
    npy,
    png,
    read_map,
    volume_service,
)

RESIZE = PREPROCESSING.model_copy(update={"mode": "resize", "size": (24, 24, 24), "spacing": None})
JSON = {"accept": "application/json"}


class Widened(nn.Module):
    """A network with more classes, none of which is ever the likeliest."""

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network, self.num_classes = network, num_classes

    def forward(self, images: Tensor) -> Tensor:
        """[N, 1, x, y, z] to logits."""
        logits = self.network(images)
        shape = (1, self.num_classes - logits.shape[1], *logits.shape[2:])
        return torch.cat([logits, torch.full(shape, -1e4)], dim=1)


class TestImages:
    """Classification."""

    def test_answer(self) -> None:
        """Classes, their probabilities, the most probable one, and the model."""
        for level, expected in ((0, "dark"), (255, "bright")):
            response = client(image_service()).post("/invocations", content=png(np.full((9, 9), level, np.uint8)))
            assert response.status_code == 200
            assert response.headers["content-type"] == "application/json"
            content = response.json()
            assert content["classes"] == ["dark", "bright"]
            assert content["predicted"] == expected
            assert sum(content["probabilities"].values()) == pytest.approx(1)
            assert content["probabilities"][expected] > 0.8
            assert content["operating_point"] is None
            assert content["model"] == {
                "task": "classification", "network": "brightness", "data_digest": "data", "code_digest": "code",
            }  # fmt: skip

    def test_temperature_and_thresholds(self) -> None:
        """A temperature of 2 halves the logits; thresholds by class come with the answer."""
        plain = image_service()
        returned = {"temperature": 2.0, "operating_point": {"dark": 0.3, "bright": 0.7}}
        record = plain.record.model_copy(update=returned)
        calibrated = replace(plain, predictor=replace(plain.predictor, record=record))
        image = png(np.full((9, 9), 140, np.uint8))
        before, after = (client(service).post("/invocations", content=image).json() for service in (plain, calibrated))
        odds = [p["bright"] / p["dark"] for p in (before["probabilities"], after["probabilities"])]
        assert odds[0] != pytest.approx(1)
        assert odds[1] ** 2 == pytest.approx(odds[0], rel=1e-4)
        assert after["operating_point"] == returned["operating_point"]

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (16, 16)])
    def test_preprocessing_is_trainings(self, channels: int, shape: tuple[int, ...], tmp_path: Path) -> None:
        """The network sees, bit for bit, what training's batches hold: of a file, and of its pixels as an array."""
        rule = ImagePreprocessing(image_size=16, channels=channels, mean=0.4, std=0.2)  # type: ignore[arg-type]
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        (tmp_path / "scan.png").write_bytes(png(pixels))
        images = LabelledImages(load_images([tmp_path / "scan.png"], 16, channels), torch.zeros(1, dtype=torch.int64))
        settings = ClassificationHyperparameters(augment=False, batch_size=1, image_size=64)
        task = ClassificationTask(images, images, ["dark", "bright"], rule, settings, torch.device("cpu"))
        trained, _ = task.batch([0], 1)
        service = image_service(rule=rule)
        network = service.predictor.network
        assert isinstance(network, Brightness)
        for content in (png(pixels), npy(pixels)):
            assert client(service).post("/invocations", content=content).status_code == 200
            assert network.seen.dtype == trained.dtype
            assert network.seen.numpy().tobytes() == trained.numpy().tobytes()

    def test_16_bits_are_scaled_as_in_training(self) -> None:
        """The model's range applies to files and arrays; values outside are clipped, with a warning."""
        images = ImageStatistics(num_grey=9, num_colour=0, num_8_bits=0, num_16_bits=9, edge=16, value_range=(0, 4095))
        service = image_service(rule=RULE.model_copy(update={"images": images}))
        network = service.predictor.network
        assert isinstance(network, Brightness)
        pixels = np.random.default_rng(0).integers(0, 4096, (16, 16), dtype=np.uint16)
        for content in (png(pixels), npy(pixels)):
            response = client(service).post("/invocations", content=content).json()
            expected = (torch.from_numpy(pixels / 4095).half().float() - RULE.mean) / RULE.std
            torch.testing.assert_close(network.seen[0, 0], expected.float(), atol=1e-3, rtol=0)
            assert response["warnings"] == []
        response = client(service).post("/invocations", content=png(pixels * 2)).json()
        assert float(network.seen.max()) == pytest.approx((1 - RULE.mean) / RULE.std)
        assert response["warnings"] == ["the image has values outside of the training range 0..4095; clipped"]

    def test_evaluation_reports_images_unlike_the_training_images(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Files are scored as requests are; the log has each difference once, with the number of images."""
        images = ImageStatistics(num_grey=9, num_colour=0, num_8_bits=0, num_16_bits=9, edge=16, value_range=(0, 4095))
        service = image_service(rule=RULE.model_copy(update={"images": images}))
        levels = (0, 4095, 4096, 65_535)
        paths = [tmp_path / f"{level}.png" for level in levels]
        for path, level in zip(paths, levels, strict=True):
            path.write_bytes(png(np.full((16, 16), level, np.uint16)))
        scores = service.predictor.probabilities(paths)
        log = "warning: 2 of 4 images: the image has values outside of the training range 0..4095; clipped\n"
        assert capsys.readouterr().out == log
        assert scores[1:].tolist() == [scores[1].tolist()] * 3
        assert scores[0, 0] > 0.6
        for path, row in zip(paths, scores, strict=True):
            response = client(service).post("/invocations", content=path.read_bytes()).json()
            assert list(response["probabilities"].values()) == pytest.approx(row.tolist())

    def test_an_older_model_scales_16_bits_as_before(self) -> None:
        """Without statistics of its training images, by 0..65535, and nothing is said."""
        service = image_service()
        network = service.predictor.network
        assert isinstance(network, Brightness)
        response = client(service).post("/invocations", content=png(np.full((16, 16), 65_535, np.uint16))).json()
        assert float(network.seen.min()) == pytest.approx((1 - RULE.mean) / RULE.std)
        assert response["warnings"] == []

    @pytest.mark.parametrize("form", ["PNG", "MPO"])
    def test_odd_files_are_read_as_in_training(self, form: str) -> None:
        """A phone's photograph, and a PNG with text of two million characters."""
        options: dict[str, Any] = {"append_images": [Image.new("RGB", (8, 8))], "save_all": True}
        if form == "PNG":
            options = {"pnginfo": PngImagePlugin.PngInfo()}
            options["pnginfo"].add_text("Comment", "x" * 2_000_000, zip=True)
        content = png(np.full((20, 30, 3), 255, np.uint8), form, **options)
        response = client(image_service()).post("/invocations", content=content)
        assert response.status_code == 200, response.text
        assert response.json()["predicted"] == "bright"

    def test_16_bits_of_colour(self) -> None:
        """Colour of 12 bits in 16 gives what the same picture gives in 8."""
        images = ImageStatistics(num_grey=0, num_colour=9, num_8_bits=9, num_16_bits=9, edge=16, value_range=(0, 4080))
        service = image_service(rule=RULE.model_copy(update={"images": images, "channels": 3}))
        pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        deep, plain = (
            client(service).post("/invocations", content=content).json()
            for content in (deep_png(pixels.astype(np.uint16) * 16), png(pixels))
        )
        assert deep["probabilities"] == plain["probabilities"]

    @pytest.mark.parametrize("shape", [(16, 20), (16, 20, 3)])
    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_tiff_is_answered_as_png(self, kind: type[np.generic], shape: tuple[int, ...]) -> None:
        """The same pixels, grey or colour with 8 or 16 bits, give the same bytes."""
        pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, dtype=kind)  # type: ignore[type-var]
        service = image_service(rule=RULE.model_copy(update={"channels": 3}))
        responses = [
            client(service).post("/invocations", content=content, headers={"content-type": media_type})
            for content, media_type in (
                (imagecodecs.png_encode(pixels), "image/png"),
                (imagecodecs.tiff_encode(pixels, compression="lzw"), "image/tiff"),
                (imagecodecs.tiff_encode(pixels, byteorder=">"), ""),
            )
        ]
        assert [response.status_code for response in responses] == [200, 200, 200], responses[1].text
        assert responses[0].content == responses[1].content == responses[2].content

    def test_too_many_pixels_in_a_tiff(self) -> None:
        """Refused as in a PNG, and before they are decoded."""
        pixels = np.zeros((101, 100), np.uint16)
        as_png, as_tiff = (
            client(image_service()).post("/invocations", content=content)
            for content in (imagecodecs.png_encode(pixels), imagecodecs.tiff_encode(pixels))
        )
        assert as_png.status_code == as_tiff.status_code == 413
        assert as_png.json() == as_tiff.json()
        assert "has more than 10000 pixels" in as_tiff.text

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda: deep_png(np.zeros((40, 40, 3), np.uint16) + 7)[:80], "is truncated or damaged"),
            (lambda: deep_png(np.zeros((40, 40, 4), np.uint16))[:-20], "is truncated or damaged"),
            (lambda: png(save_all=True, append_images=[Image.new("L", (30, 20))]), "is an animation"),
            (
                lambda: png(form="MPO", save_all=True, append_images=[Image.new("L", (8, 8))])[:200],
                "is truncated or damaged",
            ),
        ],
    )
    def test_refused_files_are_400_with_the_checks_reason(self, make: Callable[[], bytes], reason: str) -> None:
        """The endpoint reads as `data check` does, and gives the same line."""
        content = make()
        with pytest.raises(FileError, match=reason) as refused:
            read_image(InMemory("body", content))
        response = client(image_service()).post("/invocations", content=content)
        assert response.status_code == 400
        assert str(refused.value) in response.text

    def test_arrays_in_unit_range(self) -> None:
        """Floating-point pixels are in 0..1 already: within float16 of the same image in whole numbers."""
        pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
        complete, unit = (
            client(image_service()).post("/invocations", content=npy(values)).json()["probabilities"]["bright"]
            for values in (pixels, pixels / 255)
        )
        assert unit == pytest.approx(complete, abs=1e-6)

    def test_no_text_of_a_file_comes_back(self) -> None:
        """Nor out of one that is refused."""
        text = PngImagePlugin.PngInfo()
        text.add_text("Patient", "DOE^JANE")
        content = png(pnginfo=text)
        for body in (content, content[:-30]):
            response = client(image_service()).post("/invocations", content=body, headers={"content-type": "image/png"})
            assert b"DOE" not in response.content


class TestVolumes:
    """Segmentation."""

    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize("compressed", [True, False])
    def test_label_map_on_the_volumes_own_grid(self, kind: Any, compressed: bool) -> None:
        """Shape and geometry are the input's, bit by bit; no text is."""
        body = nifti(kind=kind, compressed=compressed, descrip=b"DOE^JANE", qform_code=1, intent_name=b"JANE")
        response = client(volume_service()).post("/invocations", content=body)
        assert (response.status_code, response.headers["content-type"]) == (200, "application/x-nifti")
        sent, returned = kind.from_bytes(nifti(kind=kind, compressed=False)), read_map(response.content, kind)
        assert returned.shape == sent.shape
        assert returned.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(returned.affine, sent.affine)
        assert returned.header["qform_code"] == 1
        assert returned.header.get_xyzt_units()[0] == "mm"
        assert b"JANE" not in returned.to_bytes()
        truth = ball() > 100
        labels = np.asarray(returned.dataobj)
        assert 2 * (truth & (labels == 1)).sum() / (truth.sum() + labels.sum()) > 0.9

    def test_summary(self) -> None:
        """Volumes in ml by the header's voxel size; the map's own header holds them too."""
        body = nifti(affine=np.diag([2.0, 2.0, 2.5, 1.0]))
        response = client(volume_service()).post("/invocations", content=body, headers=JSON)
        content = response.json()
        assert (content["unit"], content["spacing_unit"], content["shape"]) == ("ml", "mm", [20, 18, 12])
        voxels = content["voxels"]["ball"]
        assert content["volumes"] == {"ball": pytest.approx(voxels * 10 / 1000)}
        mapped = client(volume_service()).post("/invocations", content=body)
        assert np.asarray(read_map(mapped.content).dataobj).sum() == voxels
        header = json.loads(mapped.headers["x-amzn-sagemaker-custom-attributes"])
        assert header == {"unit": "ml", "volumes": {"ball": pytest.approx(voxels / 100)}}

    @pytest.mark.parametrize(
        ("unit", "edge", "name", "factor"),
        [("unknown", 1.0, "voxels", 1), ("meter", 1e-3, "ml", 1e-3), ("micron", 1e3, "ml", 1e-3)],
    )
    def test_units(self, unit: str, edge: float, name: str, factor: float) -> None:
        """Where the header names no unit, voxels are counted, and never called ml."""
        body = nifti(affine=np.diag([edge, edge, edge, 1.0]), unit=unit)
        content = client(volume_service(RESIZE)).post("/invocations", content=body, headers=JSON).json()
        assert content["unit"] == name
        in_mm = {"meter": 1e3, "micron": 1e-3}.get(unit, 1) * edge
        assert content["spacing"] == pytest.approx([in_mm] * 3)
        assert content["spacing_unit"] == ("mm" if name == "ml" else "unknown")
        assert content["volumes"]["ball"] == pytest.approx(content["voxels"]["ball"] * factor, rel=1e-5)

    @pytest.mark.parametrize(("unit", "millimetres"), [("mm", 1.0), ("micron", 1e-3), ("meter", 1e3)])
    def test_the_models_unit_counts_where_the_header_has_none(self, unit: str, millimetres: float) -> None:
        """evaluate.length_unit, from model.json: volumes in ml, and the response says so; the header's unit wins."""
        service = volume_service(RESIZE)
        record = service.record.model_copy(update={"length_unit": unit})
        service = replace(service, predictor=replace(service.predictor, record=record))
        edge = 2 / millimetres
        body = nifti(affine=np.diag([edge, edge, edge, 1.0]), unit="unknown")
        content = client(service).post("/invocations", content=body, headers=JSON).json()
        assert (content["unit"], content["spacing_unit"]) == ("ml", "mm")
        assert content["length_unit"] == f"{unit} (model.json; the header has none)"
        assert content["spacing"] == pytest.approx([2, 2, 2])
        assert content["volumes"]["ball"] == pytest.approx(content["voxels"]["ball"] * 8e-3, rel=1e-5)
        with_unit = nifti(affine=np.diag([2.0, 2.0, 2.0, 1.0]), unit="mm")
        content = client(service).post("/invocations", content=with_unit, headers=JSON).json()
        assert "length_unit" not in content
        assert content["volumes"]["ball"] == pytest.approx(content["voxels"]["ball"] * 8e-3, rel=1e-5)

    @pytest.mark.parametrize("rule", ["zscore", "window"])
    def test_preprocessing_is_trainings(self, rule: str, tmp_path: Path) -> None:
        """The network sees, bit for bit, what training's loader gives."""
        write_ball(tmp_path / "scan")
        scaled = (
            PREPROCESSING if rule == "window" else PREPROCESSING.model_copy(update={"intensity": Intensity(rule=rule)})
        )
        [(image, _)] = load_training(Subjects("train", [tmp_path / "scan"], ["background", "ball"]), scaled)
        service = volume_service(scaled)
        body = (tmp_path / "scan" / "img.nii.gz").read_bytes()
        assert client(service).post("/invocations", content=body).status_code == 200
        network = service.predictor.model
        assert isinstance(network, Threshold)
        assert network.seen[0, 0].numpy().tobytes() == image.numpy().tobytes()

    def test_arrays(self) -> None:
        """With a voxel size they equal the same volume as NIfTI in RAS; without, some models can take them."""
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        with_size = {"x-amzn-sagemaker-custom-attributes": "trace=7; spacing=1,1,2"}
        expected = client(volume_service()).post("/invocations", content=nifti(affine=affine))
        returned = client(volume_service()).post("/invocations", content=npy(ball()), headers=with_size)
        np.testing.assert_array_equal(read_map(returned.content).dataobj, read_map(expected.content).dataobj)
        np.testing.assert_array_equal(read_map(returned.content).affine, affine)
        bare = client(volume_service()).post("/invocations", content=npy(ball()))
        assert (bare.status_code, "spacing=X,Y,Z" in bare.json()["error"]) == (400, True)
        unsized = client(volume_service(RESIZE)).post("/invocations", content=npy(ball()), headers=JSON).json()
        assert (unsized["unit"], unsized["spacing_unit"]) == ("voxels", "unknown")

    def test_map_as_an_array(self) -> None:
        """In the order of the input's axes."""
        headers = {"accept": "application/x-npy"}
        response = client(volume_service()).post("/invocations", content=nifti(), headers=headers)
        labels = np.load(io.BytesIO(response.content), allow_pickle=False)
        mapped = client(volume_service()).post("/invocations", content=nifti())
        np.testing.assert_array_equal(labels, read_map(mapped.content).dataobj)

    @pytest.mark.parametrize("text", ["spacing=1,1", "spacing=1,1,0", "spacing=a,b,c", "spacing=", "spacing=1,1,inf"])
    def test_a_wrong_voxel_size(self, text: str) -> None:
        """Is refused, not guessed."""
        headers = {"x-amzn-sagemaker-custom-attributes": text}
        response = client(volume_service()).post("/invocations", content=npy(ball()), headers=headers)
        assert (response.status_code, "spacing=1,1,2.5" in response.json()["error"]) == (400, True)

    def test_many_structures(self) -> None:
        """The header has room for 1,024 characters, and never holds half a line of JSON."""
        service = volume_service()
        names = ["background", "ball", *(f"structure ü {n}" for n in range(60))]
        record = service.record.model_copy(update={"classes": names})
        widened = replace(service.predictor, record=record, model=Widened(service.predictor.model, len(names)))
        response = client(replace(service, predictor=widened)).post("/invocations", content=nifti())
        assert response.status_code == 200
        attributes = response.headers["x-amzn-sagemaker-custom-attributes"]
        assert len(attributes) <= MAX_ATTRIBUTES
        assert json.loads(attributes)["omitted"]

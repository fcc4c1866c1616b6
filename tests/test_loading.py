"""From a bundle on disk to models that make pictures: every way to load makes the picture of the plain way."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from loaded_bundles import REQUEST, loaded, picture
from safetensors.torch import load_file, save_file

from instantid import expected_memory, memory_plan
from instantid.bundle import MODELS
from instantid.generation import generate_image
from instantid.memory_plan import VAE_PRECISIONS
from ip_adapter.convert import convert_to_safetensors

# Of 255, the most that a pixel may move by: sums in another order, and half precision.
ROUNDING, HALF = 1, 24


@pytest.fixture(scope="module")
def plain(models):
    """The picture of the bundle loaded the plain way."""
    return picture(models)


@pytest.mark.parametrize(
    "options",
    [
        {"device": "cpu", "offload": "none", "precision": "float32", "memory_fraction": 0.5, "vae_slicing": False},
        {"attention_slicing": True, "vae_tiling": True},
    ],
    ids=lambda options: " ".join(options),
)
def test_ways_to_use_memory_do_not_change_the_picture(random_bundle, plain, options):
    models = loaded(random_bundle, **options)
    assert {name: getattr(models.plan, name) for name in options} == options
    assert np.abs(picture(models) - plain).max() <= ROUNDING


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_makes_nearly_the_same_picture(random_bundle, plain, precision):
    models = loaded(random_bundle, precision=precision)
    assert {models.pipeline.unet.dtype, models.pipeline.controlnet.dtype} == {getattr(torch, precision)}
    difference = np.abs(picture(models) - plain)
    assert 0 < difference.max() < HALF


@pytest.mark.parametrize("precision", VAE_PRECISIONS)
def test_pictures_are_decoded_in_the_precision_of_the_plan(random_bundle, precision):
    models = loaded(random_bundle, precision="float16", vae_precision=precision)
    assert models.pipeline.vae.config.force_upcast is (precision == "float32")


def test_the_switches_of_the_plan_are_set_on_the_models(random_bundle):
    models = loaded(random_bundle, vae_slicing=False, vae_tiling=True)
    assert (models.pipeline.vae.use_slicing, models.pipeline.vae.use_tiling) == (False, True)
    assert models.pipeline.vae.tile_sample_min_size == 8 * models.pipeline.vae.tile_latent_min_size


def test_a_picture_larger_than_a_tile_is_decoded_in_tiles_to_its_size(random_bundle, monkeypatch):
    for module in (memory_plan, expected_memory):
        monkeypatch.setattr(module, "TILES_GIB", {64: 0.1})
    models = loaded(random_bundle, vae_tiling=True)
    assert models.pipeline.vae.tile_sample_min_size == 64
    (image,) = generate_image(models, replace(REQUEST, width=136, height=96, steps=1)).images
    assert image.size == (136, 96)
    assert np.asarray(image).std() > 10


def test_a_base_in_one_file_makes_the_picture_of_its_folder(single_file_bundle, plain):
    assert np.abs(picture(loaded(single_file_bundle)) - plain).max() <= ROUNDING


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_base_model_from_elsewhere_replaces_the_bundles_own(single_file_bundle, random_bundle, plain, kind, tmp_path):
    here = shutil.copytree(single_file_bundle, tmp_path / "bundle")
    own = here / "base.safetensors"
    elsewhere = random_bundle / "base" if kind == "folder" else shutil.copy(own, tmp_path / "civitai.safetensors")
    own.unlink()
    assert np.abs(picture(loaded(here, elsewhere)) - plain).max() <= ROUNDING


def test_a_converted_adapter_is_used_and_makes_nearly_the_same_picture(bundle_copy, plain):
    converted = convert_to_safetensors(bundle_copy / "ip-adapter.bin")
    (bundle_copy / "ip-adapter.bin").unlink()
    models = loaded(bundle_copy)
    assert models.bundle.adapter == converted
    difference = np.abs(picture(models) - plain)
    assert 0 < difference.max() < HALF


def test_a_converted_adapter_is_preferred_to_the_one_it_was_made_from(bundle_copy):
    convert_to_safetensors(bundle_copy / "ip-adapter.bin")
    reading_it_would_fail = (bundle_copy / "ip-adapter.bin").read_bytes()[:-1000]
    (bundle_copy / "ip-adapter.bin").write_bytes(reading_it_would_fail)
    assert picture(loaded(bundle_copy)).std() > 10


@pytest.mark.parametrize("models_with_variant", [MODELS, ["unet"]], ids=["all", "only the UNet"])
def test_fp16_variants_are_found_where_there_are_any(bundle_copy, plain, models_with_variant):
    for name in models_with_variant:
        (file,) = (bundle_copy / "base" / name).glob("*.safetensors")
        file.rename(file.with_suffix(".fp16.safetensors"))
    np.testing.assert_array_equal(picture(loaded(bundle_copy)), plain)


def test_a_bundle_of_half_precision_is_loaded_as_the_plan_says(bundle_copy, plain):
    for file in (*bundle_copy.glob("base/*/*.safetensors"), *bundle_copy.glob("ControlNetModel/*.safetensors")):
        save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    models = loaded(bundle_copy)
    assert {models.pipeline.unet.dtype, models.pipeline.text_encoder.dtype} == {torch.float32}
    assert np.abs(picture(models) - plain).max() < HALF


def test_the_native_size_is_the_one_the_base_model_was_made_for(models):
    assert models.native_size == 128

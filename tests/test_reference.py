"""The numbers of the published implementation, on models whose weights are fixed by their names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_components import resampler_shapes, standard_normal, weight
from tiny_pipeline import key_points_picture, largest_difference, run, tiny_pipeline, write_adapter

from ip_adapter.resampler import Resampler

REFERENCE = np.load(Path(__file__).with_name("reference.npz"))

# Of the largest value: latents reach 13, and float32 rounding alone, measured against float64, is 2e-5 there; another
# processor rounds otherwise.
TOLERANCE = 1e-5


def agrees(ours, key: str) -> bool:
    reference = REFERENCE[key]
    return largest_difference(ours, reference) < TOLERANCE * np.abs(reference).max()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def pipe(adapter):
    return tiny_pipeline(adapter)


def test_every_key_of_the_reference_is_compared():
    compared = {"plain_cfg", "plain_no_cfg", "plain_no_identity_scale", "masked_two_nets"}
    compared |= {"resampler_1280_20x64", "resampler_2048_16x128"}
    assert set(REFERENCE) == compared | {key for key in REFERENCE if key.startswith("kps_")}


def test_with_guidance_the_latents_are_those_of_the_original(pipe):
    assert agrees(run(pipe, "a"), "plain_cfg")


def test_without_guidance_the_latents_are_those_of_the_original(pipe):
    latents = run(pipe, "b", guidance_scale=1.0, image=key_points_picture("turned"))
    assert agrees(latents, "plain_no_cfg")


def test_with_adapter_strength_zero_the_latents_are_those_of_the_original(pipe):
    latents = run(pipe, "a", ip_adapter_scale=0)
    assert agrees(latents, "plain_no_identity_scale")


def test_with_a_region_and_a_second_controlnet_the_latents_are_those_of_the_original(adapter):
    pipe = tiny_pipeline(adapter, controlnets=("identity", "pose"))
    z = standard_normal("c.picture", (16, 16, 3)).numpy()
    picture = Image.fromarray(np.clip(z * 40 + 128, 0, 255).astype(np.uint8)).resize((128, 128), Image.BILINEAR)
    mask = np.zeros((128, 128, 3), np.uint8)
    mask[24:112, 32:104] = 255
    latents = run(
        pipe,
        "c",
        image=[key_points_picture(), picture],
        controlnet_conditioning_scale=[0.8, 0.5],
        control_mask=Image.fromarray(mask),
    )
    assert agrees(latents, "masked_two_nets")


@pytest.mark.parametrize(("dim", "heads", "dim_head"), [(1280, 20, 64), (2048, 16, 128)])
def test_the_resampler_gives_the_tokens_of_the_original(dim, heads, dim_head):
    with torch.device("meta"):
        resampler = Resampler(dim=dim, heads=heads, dim_head=dim_head)
    shapes = resampler_shapes(dim, depth=4, inner=heads * dim_head, output=2048)
    resampler.load_state_dict({key: weight("resampler." + key, shape) for key, shape in shapes.items()}, assign=True)
    with torch.no_grad():
        tokens = resampler(standard_normal("r.face", (1, 1, 512)))
    assert agrees(tokens, f"resampler_{dim}_{heads}x{dim_head}")


@pytest.mark.parametrize("key", [key for key in REFERENCE if key.startswith("kps_")])
def test_key_points_are_drawn_as_the_original_draws_them(key):
    _, name, size = key.split("_")
    picture = key_points_picture(name, tuple(int(side) for side in size.split("x")))
    assert np.array_equal(np.asarray(picture), REFERENCE[key])

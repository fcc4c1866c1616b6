"""The single file that tests load instead of a civitai download: diffusers reads it back to the bit."""

import socket

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import safe_open
from single_file import write_single_file


@pytest.fixture(scope="module")
def base(random_bundle):
    return random_bundle / "base"


@pytest.fixture(scope="module")
def single_file(base, tmp_path_factory):
    return write_single_file(base, tmp_path_factory.mktemp("single") / "base.safetensors")


@pytest.fixture(scope="module")
def both(base, single_file):
    """The folder and the single file as diffusers loads them, with no way to a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _no_network)
        folder = StableDiffusionXLPipeline.from_pretrained(base, local_files_only=True)
        single = StableDiffusionXLPipeline.from_single_file(str(single_file), config=str(base), local_files_only=True)
    return folder, single


def _no_network(*_args):
    raise AssertionError("a local file was looked up on the network")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_a_single_file_loads_to_the_bits_of_its_folder(both, part):
    expected, received = (getattr(pipeline, part).state_dict() for pipeline in both)
    assert received.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(expected[name], received[name])] == []


def test_the_keys_are_those_of_stabilitys_layout(single_file):
    with safe_open(single_file, "pt") as file:
        keys = set(file.keys())
    assert {
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
        "model.diffusion_model.output_blocks.2.2.conv.weight",
        "model.diffusion_model.label_emb.0.0.weight",
        "first_stage_model.decoder.up.3.block.0.conv1.weight",
        "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight",
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight",
    } <= keys


def test_no_tensor_of_the_folder_is_lost(base, single_file):
    def numbers(path):
        with safe_open(path, "pt") as file:
            return sum(file.get_tensor(key).numel() for key in list(file.keys()))

    assert numbers(single_file) == sum(numbers(path) for path in base.rglob("*.safetensors"))

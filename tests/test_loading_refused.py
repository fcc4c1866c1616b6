"""What cannot be loaded: the error names the file or folder at fault; too little memory or a bug is no such fault."""

import json
import os
import shutil

import pytest
import torch
from loaded_bundles import loaded, refusal
from machines import without_gpu
from safetensors.torch import load_file, save_file

from instantid import assembly, loading
from instantid.messages import explain
from ip_adapter.errors import MachineError, UserError

BROKEN = {
    "unet": "base/unet/diffusion_pytorch_model.safetensors",
    "vae": "base/vae/diffusion_pytorch_model.safetensors",
    "text encoder": "base/text_encoder/model.safetensors",
    "second text encoder": "base/text_encoder_2/model.safetensors",
    "IdentityNet": "ControlNetModel/diffusion_pytorch_model.safetensors",
}


@pytest.mark.parametrize("name", BROKEN.values(), ids=BROKEN)
def test_weights_that_lack_a_tensor_are_refused_with_their_folder(bundle_copy, name):
    """transformers only warns, and goes on with random numbers in the place of what is missing."""
    file = bundle_copy / name
    tensors = load_file(file)
    del tensors[next(iter(tensors))]
    save_file(tensors, file, metadata={"format": "pt"})
    error = refusal(bundle_copy)
    assert (error.code, error.facts["what"]) == ("loading.failed", file.parent)
    assert str(file.parent) in explain(error, "es")


@pytest.mark.parametrize("name", [BROKEN["unet"], BROKEN["text encoder"]], ids=["unet", "text encoder"])
def test_weights_of_another_model_are_refused_with_their_folder(bundle_copy, name):
    file = bundle_copy / name
    tensors = {name: tensor[:-1].contiguous() for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    error = refusal(bundle_copy)
    assert (error.code, error.facts["what"]) == ("loading.failed", file.parent)


@pytest.mark.parametrize("name", [BROKEN["unet"], BROKEN["IdentityNet"], "ip-adapter.bin"])
def test_weights_that_are_cut_short_are_refused_with_their_file(bundle_copy, name):
    file = bundle_copy / name
    os.truncate(file, file.stat().st_size // 2)
    error = refusal(bundle_copy)
    assert (error.code, error.facts["file"]) == ("weights.damaged", file)


def test_a_config_that_makes_no_sense_is_refused_with_its_folder(bundle_copy):
    config = bundle_copy / "base/scheduler/scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"beta_schedule": "none of ours"}))
    error = refusal(bundle_copy)
    assert (error.code, error.facts["what"]) == ("loading.failed", bundle_copy / "base")


def test_a_single_file_without_its_description_names_the_folder_that_it_needs(single_file_bundle, tmp_path):
    folder = shutil.copytree(single_file_bundle, tmp_path / "bundle")
    shutil.rmtree(folder / "base_config")
    with pytest.raises(UserError, match="base_config") as caught:
        loaded(folder)
    assert caught.value.code == "loading.no_description"
    assert caught.value.facts == {"file": folder / "base.safetensors"}


@pytest.mark.parametrize("part", ["model.diffusion_model", "first_stage_model", "conditioner.embedders.1"])
def test_a_single_file_that_lacks_a_tensor_is_refused_with_its_name(single_file_bundle, tmp_path, part):
    """diffusers would load it with a hole, and fail in the first picture."""
    tensors = load_file(single_file_bundle / "base.safetensors")
    del tensors[next(name for name in tensors if name.startswith(part) and name.endswith(".bias"))]
    file = tmp_path / "incomplete.safetensors"
    save_file(tensors, file, metadata={"format": "pt"})
    error = refusal(single_file_bundle, file)
    assert (error.code, error.facts["what"]) == ("loading.failed", file)


def test_a_single_file_of_another_kind_of_model_is_refused_with_its_name(single_file_bundle, tmp_path):
    file = tmp_path / "lora.safetensors"
    save_file({"lora_unet_down.alpha": torch.ones(1)}, file)
    error = refusal(single_file_bundle, file)
    assert (error.code, error.facts["what"]) == ("loading.failed", file)


def test_too_little_memory_for_a_single_file_is_not_taken_for_a_damaged_file(single_file_bundle, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5135368192 bytes.")

    monkeypatch.setattr(assembly, "map_single_file", fail)
    with pytest.raises(MachineError) as caught:
        loaded(single_file_bundle)
    assert caught.value.code == "loading.out_of_memory"


def test_an_option_that_is_impossible_here_is_refused_before_anything_is_loaded(random_bundle, monkeypatch):
    monkeypatch.setattr(loading, "detect_hardware", lambda folder=None: without_gpu(9.0))
    monkeypatch.setattr(loading, "FaceAnalyser", None)
    with pytest.raises(UserError) as caught:
        loaded(random_bundle, device="cuda")
    assert caught.value.code == "plan.no_such_device"


def test_a_bug_in_loading_keeps_its_kind(random_bundle, monkeypatch):
    monkeypatch.setattr(assembly, "_apply", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loaded(random_bundle)

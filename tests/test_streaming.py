"""Weights streamed from files: bit for bit what the libraries' own loading gives, without memory of its own."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import transformers
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from single_file import write_single_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from instantid import streaming
from instantid.streaming import (
    Transfer,
    copy_in_pieces,
    copy_to_cuda,
    map_folder,
    map_single_file,
    weight_paths,
)

CLASSES = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}
PRECISIONS = [torch.float32, torch.float16, torch.bfloat16]
REPOSITORY = Path(__file__).parent.parent


def by_the_library(cls, folder, dtype, **options):
    """The model as `from_pretrained` gives it. transformers 5 renamed the argument of the precision."""
    renamed = cls.__module__.startswith("transformers") and int(transformers.__version__.split(".")[0]) >= 5
    return cls.from_pretrained(
        folder, use_safetensors=True, **{"dtype" if renamed else "torch_dtype": dtype}, **options
    )


def assert_same(model, other):
    """Same names, same bits, same precision, same kind of attention; evaluating, not training."""
    for mine, theirs in (
        (dict(model.named_parameters()), dict(other.named_parameters())),
        (dict(model.named_buffers()), dict(other.named_buffers())),
    ):
        assert mine.keys() == theirs.keys()
        assert [name for name in mine if mine[name].dtype != theirs[name].dtype] == []
        assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert getattr(model.config, "_attn_implementation", None) == getattr(other.config, "_attn_implementation", None)
    assert not model.training


def streamed(cls, folder, dtype=torch.float32, **options):
    return map_folder(cls, folder, **options).placed("cpu", dtype)


def stored(folder, dtype):
    """Write the weights of `folder` again in `dtype`."""
    (file,) = folder.glob("*.safetensors")
    save_file({name: tensor.to(dtype) for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    return file


@pytest.fixture
def copy(random_bundle, tmp_path):
    """The base model and IdentityNet of a random bundle, to change files of."""
    shutil.copytree(random_bundle / "ControlNetModel", tmp_path / "ControlNetModel")
    return Path(shutil.copytree(random_bundle / "base", tmp_path / "base"))


# The same bits as the libraries


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", CLASSES)
def test_a_model_is_bit_for_bit_that_of_from_pretrained(random_bundle, name, dtype):
    folder = random_bundle / "base" / name
    assert_same(streamed(CLASSES[name], folder, dtype), by_the_library(CLASSES[name], folder, dtype))


def test_identitynet_is_bit_for_bit_that_of_from_pretrained(random_bundle):
    folder = random_bundle / "ControlNetModel"
    expected = by_the_library(ControlNetModel, folder, torch.float16)
    assert_same(streamed(ControlNetModel, folder, torch.float16), expected)


@pytest.mark.parametrize("name", CLASSES)
def test_a_half_precision_file_is_widened_as_from_pretrained_does(copy, name):
    stored(copy / name, torch.float16)
    assert_same(streamed(CLASSES[name], copy / name), by_the_library(CLASSES[name], copy / name, torch.float32))


@pytest.mark.parametrize("name", CLASSES)
def test_of_a_folder_with_both_the_asked_variant_is_read(copy, name):
    (file,) = (copy / name).glob("*.safetensors")
    half = {key: 2 * tensor.half() for key, tensor in load_file(file).items()}  # other numbers than the plain file
    save_file(half, file.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
    plain = by_the_library(CLASSES[name], copy / name, torch.float16)
    variant = by_the_library(CLASSES[name], copy / name, torch.float16, variant="fp16")
    assert_same(streamed(CLASSES[name], copy / name, torch.float16), plain)
    assert_same(streamed(CLASSES[name], copy / name, torch.float16, variant="fp16"), variant)


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_model_in_shards_is_that_of_from_pretrained(copy, name, variant):
    original = by_the_library(CLASSES[name], copy / name, torch.float32)
    for file in (copy / name).glob("*.safetensors"):
        file.unlink()
    original.save_pretrained(copy / name, max_shard_size="50KB", variant=variant)
    assert len(weight_paths(CLASSES[name], copy / name, variant)) > 1
    assert_same(streamed(CLASSES[name], copy / name, variant=variant), original)


def test_a_text_encoder_is_read_with_and_without_the_prefix_that_transformers_dropped(copy):
    folder = copy / "text_encoder"
    expected = by_the_library(CLIPTextModel, folder, torch.float32)
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    assert all(name.startswith("text_model.") for name in tensors)
    save_file({name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}, file)
    assert_same(streamed(CLIPTextModel, folder), expected)


@pytest.mark.parametrize("name", ["text_model.embeddings.position_ids", "logit_scale", "text_projection.weight"])
def test_what_other_programs_add_to_a_text_encoder_is_left_out(copy, name):
    expected = streamed(CLIPTextModel, copy / "text_encoder")
    (file,) = (copy / "text_encoder").glob("*.safetensors")
    save_file(load_file(file) | {name: torch.zeros(1)}, file)
    assert_same(streamed(CLIPTextModel, copy / "text_encoder"), expected)


def test_a_vae_with_the_names_of_old_is_read(copy):
    """Published VAEs, stabilityai/sd-vae-ft-mse for one, name their attention as diffusers did before 0.14."""
    expected = by_the_library(AutoencoderKL, copy / "vae", torch.float32)
    (file,) = (copy / "vae").glob("*.safetensors")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(file)
    for new_name, old_name in old.items():
        for name in [name for name in tensors if f".{new_name}." in name]:
            tensors[name.replace(new_name, old_name)] = tensors.pop(name)
    save_file(tensors, file, metadata={"format": "pt"})
    assert any(".proj_attn." in name for name in tensors)
    assert_same(streamed(AutoencoderKL, copy / "vae"), expected)


@pytest.mark.parametrize("stored_as", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_single_file_gives_the_models_of_its_folder(copy, tmp_path, stored_as, dtype):
    file = write_single_file(copy, tmp_path / "base.safetensors")
    stored_tensors = {name: tensor.to(stored_as) for name, tensor in load_file(file).items()}
    save_file(stored_tensors, file, metadata={"format": "pt"})
    for name, cls in CLASSES.items():
        model = map_single_file(cls, file, copy / name).placed("cpu", dtype)
        stored(copy / name, stored_as)
        assert_same(model, by_the_library(CLASSES[name], copy / name, dtype))


def test_what_a_single_file_holds_besides_is_left_out(copy, tmp_path):
    file = write_single_file(copy, tmp_path / "base.safetensors")
    more = {
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": torch.zeros(1, 77),
        "conditioner.embedders.0.transformer.text_projection.weight": torch.zeros(24, 24),
        "conditioner.embedders.1.model.logit_scale": torch.zeros(()),
        "denoiser.sigmas": torch.zeros(1000),
        "model_ema.decay": torch.zeros(()),
    }
    save_file(load_file(file) | more, file, metadata={"format": "pt"})
    for name in ("text_encoder", "text_encoder_2"):
        model = map_single_file(CLASSES[name], file, copy / name).placed("cpu", torch.float32)
        assert_same(model, streamed(CLASSES[name], copy / name))


# Strict


@pytest.mark.parametrize("name", CLASSES)
def test_a_missing_tensor_is_named(copy, name):
    (file,) = (copy / name).glob("*.safetensors")
    tensors = load_file(file)
    missing = sorted(tensors)[0]
    del tensors[missing]
    save_file(tensors, file)
    with pytest.raises(RuntimeError, match=f"Missing.*{missing.removeprefix('text_model.')}"):
        streamed(CLASSES[name], copy / name)


@pytest.mark.parametrize("name", CLASSES)
def test_a_tensor_too_many_is_named(copy, name):
    (file,) = (copy / name).glob("*.safetensors")
    save_file(load_file(file) | {"lora_up.weight": torch.ones(2, 3)}, file)
    with pytest.raises(RuntimeError, match=r"Unexpected.*lora_up\.weight"):
        streamed(CLASSES[name], copy / name)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(copy):
    (file,) = (copy / "vae").glob("*.safetensors")
    save_file(load_file(file) | {"quant_conv.bias": torch.ones(7)}, file)
    with pytest.raises(RuntimeError, match=r"size mismatch for quant_conv\.bias.*\[7\].*\[8\]"):
        streamed(AutoencoderKL, copy / "vae")


def test_a_file_that_is_cut_short_is_refused(copy):
    (file,) = (copy / "unet").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(SafetensorError):
        streamed(UNet2DConditionModel, copy / "unet")


def test_a_shard_outside_the_folder_is_not_read(copy):
    (file,) = (copy / "vae").glob("*.safetensors")
    shutil.copy(file, copy / "elsewhere.safetensors")
    index = {"weight_map": dict.fromkeys(load_file(file), "../elsewhere.safetensors")}
    (copy / "vae" / f"{file.name}.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        streamed(AutoencoderKL, copy / "vae")


def test_nothing_is_copied_before_all_tensors_are_known_to_fit(copy, monkeypatch):
    monkeypatch.setattr(streaming, "place", None)
    (file,) = (copy / "vae").glob("*.safetensors")
    save_file({"quant_conv.bias": torch.ones(8)}, file)
    with pytest.raises(RuntimeError, match="Missing"):
        streamed(AutoencoderKL, copy / "vae")


# Memory


def test_parameters_that_need_no_cast_are_views_of_the_file_and_writing_to_them_leaves_it_alone(copy):
    (file,) = (copy / "unet").glob("*.safetensors")
    before = file.read_bytes()
    model = streamed(UNet2DConditionModel, copy / "unet")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert file.read_bytes() == before
    again = streamed(UNet2DConditionModel, copy / "unet")
    assert torch.equal(model.conv_in.weight, again.conv_in.weight + 1)


MEASURED = """
import gc, json, sys
from pathlib import Path
import torch
from instantid.streaming import UNet2DConditionModel, map_folder, map_single_file

def anonymous():
    gc.collect()
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024

def folder(base, dtype):
    return map_folder(UNet2DConditionModel, base / "unet").placed("cpu", dtype)

def single_file(base, dtype):
    return map_single_file(UNet2DConditionModel, base.with_suffix(".safetensors"), base / "unet").placed("cpu", dtype)

grown, kept = {}, []
kept.append(folder(Path(sys.argv[1]), torch.float16))  # what the libraries allocate the first time
for load in (folder, single_file):
    for precision in ("float32", "float16"):
        before = anonymous()
        kept.append(load(Path(sys.argv[2]), getattr(torch, precision)))
        for parameter in kept[-1].parameters():
            parameter.detach().flatten()[::512].sum()  # touches every page of the file
        grown[f"{load.__name__} {precision}"] = anonymous() - before
print(json.dumps(grown))
"""


@pytest.fixture(scope="module")
def memory(random_bundle, tmp_path_factory):
    """Anonymous memory that a child process grew by in each way of loading a UNet of float32, by the file's size."""
    base = tmp_path_factory.mktemp("large") / "base"
    shutil.copytree(random_bundle / "base", base)
    with torch.device("meta"):
        config = UNet2DConditionModel.load_config(base / "unet")
        model = UNet2DConditionModel.from_config(config | {"block_out_channels": (64, 128, 256), "norm_num_groups": 32})
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 0.01)
    model.save_pretrained(base / "unet")
    write_single_file(base, base.with_suffix(".safetensors"))
    (file,) = (base / "unet").glob("*.safetensors")
    child = [sys.executable, "-c", MEASURED, random_bundle / "base", base]
    done = subprocess.run(child, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return {name: grown / file.stat().st_size for name, grown in json.loads(done.stdout).items()}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="anonymous memory is read from Linux's /proc")
@pytest.mark.parametrize("kind", ["folder", "single_file"])
def test_weights_that_need_no_cast_take_no_memory_of_this_process(memory, kind):
    assert memory[f"{kind} float32"] < 0.1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="anonymous memory is read from Linux's /proc")
@pytest.mark.parametrize("kind", ["folder", "single_file"])
def test_weights_that_are_cast_to_half_take_half_and_nothing_beside_it(memory, kind):
    assert 0.4 < memory[f"{kind} float16"] < 0.6


# On the way to a card


@pytest.mark.parametrize("piece", [0, 8, 64, 10_000])
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_pieces_of_any_size_give_the_tensor_whole_and_cast(piece, dtype):
    source = torch.randn(13, 7, dtype=torch.float32)
    target = torch.full_like(source, torch.nan, dtype=dtype)
    copy_in_pieces(source, target, torch.empty(piece, dtype=torch.uint8) if piece else None)
    assert torch.equal(target, source.to(dtype))


@pytest.mark.parametrize("source", [torch.tensor(3.5), torch.empty(0, 3), torch.randn(5, 4).T], ids=lambda t: t.shape)
def test_scalars_empty_tensors_and_turned_ones_travel_too(source):
    target = torch.empty(source.shape, dtype=torch.float16)
    copy_in_pieces(source, target, torch.empty(16, dtype=torch.uint8))
    assert torch.equal(target, source.half())


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_the_tensors_and_each_arrives(monkeypatch, threads):
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    pairs = [(torch.randn(11, size), torch.full((11, size), torch.nan)) for size in range(1, 40)]
    copy_to_cuda(pairs, torch.device("cpu"), Transfer(threads=threads, piece=256, pinned=False))
    assert all(torch.equal(source, target) for source, target in pairs)


def test_what_goes_wrong_in_a_thread_is_raised(monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(streaming, "copy_in_pieces", fail)
    with pytest.raises(torch.OutOfMemoryError):
        copy_to_cuda([(torch.ones(2), torch.ones(2))] * 9, torch.device("cpu"), Transfer(pinned=False))


def test_reading_ahead_of_a_file_that_is_not_there_is_silent(tmp_path):
    """Who reads the file for its sake says what is wrong. An error in the thread would be a warning, so a failure."""
    (tmp_path / "there").write_bytes(b"0" * 100)
    before = set(threading.enumerate())
    with streaming.reading_ahead([tmp_path / "gone", tmp_path / "there"]):
        pass
    assert set(threading.enumerate()) == before


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="nothing is read ahead where this is missing")
@pytest.mark.parametrize("cached", [(), (0,), (1, 2)], ids=["nothing is", "the first step is", "the others are"])
def test_what_the_kernel_does_not_have_is_read_ahead_step_by_step(tmp_path, monkeypatch, cached):
    (tmp_path / "file").write_bytes(bytes(range(25)))
    read, all_read = [], threading.Event()
    preadv = os.preadv

    def remembered(handle, buffers, start):
        read.append(bytes(buffers[0][: preadv(handle, buffers, start)]))
        if len(read) == 3 - len(cached):
            all_read.set()

    monkeypatch.setattr(streaming, "READ_AHEAD_STEP", 10)
    monkeypatch.setattr(streaming, "_is_cached", lambda file, start: start // 10 in cached)
    monkeypatch.setattr(os, "preadv", remembered)
    with streaming.reading_ahead([tmp_path / "file"]):
        assert all_read.wait(10)
    steps = [bytes(range(start, min(start + 10, 25))) for start in (0, 10, 20)]
    assert read == [step for number, step in enumerate(steps) if number not in cached]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(
    "transfer",
    [Transfer(), Transfer(threads=1), Transfer(piece=0), Transfer(piece=4096, pinned=False), Transfer(reads=False)],
    ids=["as it is", "one thread", "no buffer", "small buffer", "mapped"],
)
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", CLASSES)
def test_on_a_card_the_bits_are_those_of_the_processor(random_bundle, name, dtype, transfer):
    folder = random_bundle / "base" / name
    model = map_folder(CLASSES[name], folder).placed("cuda", dtype, transfer)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cuda"}
    assert {buffer.device.type for buffer in model.buffers()} <= {"cuda"}
    assert_same(model.cpu(), by_the_library(CLASSES[name], folder, dtype))

"""Calls that put other attention processors into the UNet: each either keeps the face or is named by an error.

On the published implementation each of these removes the face without a word.
"""

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor2_0, XFormersAttnProcessor
from tiny_components import weight
from tiny_pipeline import bare_pipeline, face, largest_difference, run, tiny_pipeline, write_adapter

from ip_adapter.errors import StateError
from ip_adapter.layers import check_installed, cross_attention, install

SAME = 1e-4
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

SWITCHES = {
    "enable_attention_slicing": lambda pipe: pipe.enable_attention_slicing(),
    "enable_attention_slicing one head at a time": lambda pipe: pipe.enable_attention_slicing(1),
    "enable_attention_slicing max": lambda pipe: pipe.enable_attention_slicing("max"),
    "slicing on and off": lambda pipe: (pipe.enable_attention_slicing(), pipe.disable_attention_slicing()),
    "fuse_qkv_projections": lambda pipe: pipe.fuse_qkv_projections(vae=False),
    "fused and not": lambda pipe: (pipe.fuse_qkv_projections(vae=False), pipe.unfuse_qkv_projections(vae=False)),
    "enable_xformers": lambda pipe: pipe.enable_xformers_memory_efficient_attention(),
    "model offload": lambda pipe: pipe.enable_model_cpu_offload(device=DEVICE),
    "vae slicing and tiling": lambda pipe: (pipe.vae.enable_slicing(), pipe.vae.enable_tiling()),
    "to": lambda pipe: pipe.to("cpu"),
    "channels last": lambda pipe: pipe.unet.to(memory_format=torch.channels_last),
}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module", autouse=True)
def _exact_float32():
    """On a GPU the offloaded pipeline is compared with the processor's numbers."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def unswitched(adapter):
    pipe = tiny_pipeline(adapter)
    return {who: run(pipe, image_embeds=face(who)) for who in ("a", "b")}


@pytest.fixture(autouse=True)
def _xformers_without_the_package(monkeypatch):
    """xformers needs a GPU; what it does to the processors does not."""

    def set_processors(pipe, valid, attention_op=None):
        for name in pipe.unet.attn_processors:
            if name.endswith("attn2.processor"):  # self-attention must still run here
                pipe.unet.get_submodule(name.removesuffix(".processor")).set_processor(XFormersAttnProcessor())

    monkeypatch.setattr(DiffusionPipeline, "set_use_memory_efficient_attention_xformers", set_processors)


def assert_the_face_is_kept(pipe, unswitched):
    for who, expected in unswitched.items():
        assert largest_difference(run(pipe, image_embeds=face(who)).cpu(), expected) < SAME


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_face_is_kept_when_the_switch_comes_after_the_adapter(adapter, unswitched, switch):
    pipe = tiny_pipeline(adapter)
    SWITCHES[switch](pipe)
    assert_the_face_is_kept(pipe, unswitched)


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_face_is_kept_when_the_switch_comes_before_the_adapter(adapter, unswitched, switch):
    pipe = bare_pipeline()
    SWITCHES[switch](pipe)
    pipe.load_ip_adapter_instantid(adapter)
    assert_the_face_is_kept(pipe, unswitched)


def test_all_switches_together_keep_the_face(adapter, unswitched):
    pipe = tiny_pipeline(adapter)
    for switch in ("fuse_qkv_projections", "enable_attention_slicing max", "vae slicing and tiling", "model offload"):
        SWITCHES[switch](pipe)
    assert_the_face_is_kept(pipe, unswitched)


def test_sliced_identity_attention_is_really_sliced(adapter):
    pipe = tiny_pipeline(adapter)
    pipe.enable_attention_slicing(1)
    assert {layer.slice_size for layer in pipe._adapter.layers.values()} == {1}
    pipe.disable_attention_slicing()
    assert {layer.slice_size for layer in pipe._adapter.layers.values()} == {None}


REMOVERS = {
    "set_attn_processor": lambda pipe: pipe.unet.set_attn_processor(AttnProcessor2_0()),
    "set_attention_slice": lambda pipe: pipe.unet.set_attention_slice("max"),
    "fuse_qkv_projections": lambda pipe: pipe.unet.fuse_qkv_projections(),
}


@pytest.mark.parametrize("call", REMOVERS)
def test_a_call_on_the_unet_that_removes_the_identity_is_named_and_can_be_mended(adapter, unswitched, call):
    pipe = tiny_pipeline(adapter)
    REMOVERS[call](pipe)
    with pytest.raises(StateError, match=call):
        run(pipe)
    pipe.restore_identity()
    assert_the_face_is_kept(pipe, unswitched)


def test_setting_the_default_processor_is_refused_by_diffusers_and_the_face_stays(adapter, unswitched):
    pipe = tiny_pipeline(adapter)
    with pytest.raises(ValueError, match="set_default_attn_processor"):
        pipe.unet.set_default_attn_processor()
    assert_the_face_is_kept(pipe, unswitched)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="accelerate offloads layer by layer only to an accelerator")
@pytest.mark.parametrize("adapter_first", [True, False])
def test_the_face_is_kept_under_sequential_offload(adapter, unswitched, adapter_first):
    pipe = tiny_pipeline(adapter) if adapter_first else bare_pipeline()
    pipe.enable_sequential_cpu_offload(device=DEVICE)
    if not adapter_first:
        pipe.load_ip_adapter_instantid(adapter)
    assert_the_face_is_kept(pipe, unswitched)


def test_unloading_the_adapter_is_named_by_the_next_call(adapter):
    pipe = tiny_pipeline(adapter)
    pipe.unload_ip_adapter()
    with pytest.raises(StateError, match=r"unload_ip_adapter\(\) removed it"):
        run(pipe)


def test_an_adapter_loaded_again_after_unloading_works(adapter, unswitched):
    pipe = tiny_pipeline(adapter)
    pipe.unload_ip_adapter()
    pipe.load_ip_adapter_instantid(adapter)
    assert_the_face_is_kept(pipe, unswitched)


def test_one_layer_set_to_another_processor_is_noticed(adapter):
    pipe = tiny_pipeline(adapter)
    name = next(n for n in pipe.unet.attn_processors if n.endswith("attn2.processor"))
    pipe.unet.get_submodule(name.removesuffix(".processor")).set_processor(XFormersAttnProcessor())
    with pytest.raises(StateError, match=r"1 of \d+ cross-attention layers: XFormersAttnProcessor"):
        run(pipe)


def test_every_layer_is_looked_at_before_every_picture(adapter, unswitched):
    pipe = tiny_pipeline(adapter)
    for name in cross_attention(pipe.unet):
        check_installed(pipe.unet, pipe._adapter.layers)
        pipe.unet.get_submodule(name.removesuffix(".processor")).set_processor(AttnProcessor2_0())
        with pytest.raises(StateError, match=r"1 of \d+ cross-attention layers: AttnProcessor2_0"):
            check_installed(pipe.unet, pipe._adapter.layers)
        pipe.restore_identity()
    assert_the_face_is_kept(pipe, unswitched)


def test_two_layers_in_each_other_s_place_are_noticed(adapter):
    pipe = tiny_pipeline(adapter)
    (first, a), (second, b), *_ = pipe._adapter.layers.items()
    install(pipe.unet, {first: b, second: a})
    with pytest.raises(StateError, match=r"2 of \d+ cross-attention layers"):
        run(pipe)


def test_a_cross_attention_that_nobody_gave_an_identity_is_noticed(adapter):
    pipe = tiny_pipeline(adapter)
    layers = dict(pipe._adapter.layers)
    del layers[next(iter(layers))]
    with pytest.raises(StateError, match="1 of"):
        check_installed(pipe.unet, layers)


def test_a_swapped_unet_is_noticed_and_the_adapter_can_be_loaded_again(adapter, unswitched):
    pipe = tiny_pipeline(adapter)
    pipe.unet = bare_pipeline().unet
    with pytest.raises(StateError, match=r"pipe\.unet was replaced"):
        run(pipe)
    pipe.load_ip_adapter_instantid(adapter)
    assert_the_face_is_kept(pipe, unswitched)


def lora_for(unet) -> dict[str, torch.Tensor]:
    state = {}
    for name in (n.removesuffix(".processor") for n in unet.attn_processors if n.endswith("attn2.processor")):
        linear = unet.get_submodule(f"{name}.to_q")
        state[f"unet.{name}.to_q.lora_A.weight"] = weight(name + ".A", (4, linear.in_features))
        state[f"unet.{name}.to_q.lora_B.weight"] = weight(name + ".B", (linear.out_features, 4))
    return state


def test_the_face_is_kept_while_a_lora_is_loaded_fused_and_unloaded(adapter, unswitched):
    pytest.importorskip("peft", reason="LoRA needs peft")
    pipe = tiny_pipeline(adapter)
    pipe.load_lora_weights(lora_for(pipe.unet))
    with_lora = {who: run(pipe, image_embeds=face(who)) for who in ("a", "b")}
    assert largest_difference(with_lora["a"], with_lora["b"]) > 0.1
    assert largest_difference(with_lora["a"], unswitched["a"]) > 0.01
    pipe.fuse_lora()
    assert_the_face_is_kept(pipe, with_lora)
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    assert_the_face_is_kept(pipe, unswitched)


def test_an_adapter_loaded_after_a_lora_works(adapter, unswitched):
    pytest.importorskip("peft", reason="LoRA needs peft")
    pipe = bare_pipeline()
    pipe.load_lora_weights(lora_for(pipe.unet))
    pipe.load_ip_adapter_instantid(adapter)
    assert largest_difference(run(pipe), run(pipe, image_embeds=face("b"))) > 0.1
    pipe.unload_lora_weights()
    assert_the_face_is_kept(pipe, unswitched)

"""Products in 8 bits: which layers make them, how far they are off, and that models work on as before."""

import peft
import pytest
import torch
from machines import T4, gpu
from published_sizes import PUBLISHED
from tiny_pipeline import face, largest_difference, run, tiny_pipeline, write_adapter
from torch import nn
from torch.nn.utils import parametrize

from instantid.expected_memory import GIB
from instantid.fp8 import Fp8Linear, multiply_in_fp8
from instantid.memory_plan import PlanOptions, choose_plan
from ip_adapter.errors import StateError, UserError

ROUNDING = 2**-4  # of a number in float8 with three binary digits, relative


class Blocks(nn.Module):
    """Layers in the places that they have in a UNet."""

    def __init__(self, **layers):
        super().__init__()
        self.attention = nn.Module()
        self.attention.transformer_blocks = nn.ModuleList([nn.ModuleDict(layers)])
        self.outside = nn.Linear(512, 512)

    def layer(self, name):
        return self.attention.transformer_blocks[0][name]


@pytest.fixture(autouse=True)
def _same_numbers():
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_off_by_the_rounding_of_8_bits(dtype, bias):
    blocks = Blocks(ff=nn.Linear(256, 384, bias=bias)).to(dtype)
    layer, inputs = blocks.layer("ff"), (torch.randn(2, 5, 256) * torch.logspace(-3, 1, 5)[:, None]).to(dtype)
    expected = layer(inputs).double()
    assert multiply_in_fp8(blocks) == 256 * 384
    out = layer(inputs)
    assert (out.dtype, out.shape) == (dtype, expected.shape)
    error = (out.double() - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert 0 < error.max() < ROUNDING


def test_a_cast_of_the_model_leaves_what_is_kept_alone():
    blocks = Blocks(ff=nn.Linear(256, 256).half())
    multiply_in_fp8(blocks)
    inputs = torch.randn(4, 256)
    before = blocks.layer("ff")(inputs)
    assert torch.equal(blocks.float().layer("ff")(inputs), before)


def test_rows_of_zeros_stay_zeros():
    blocks = Blocks(ff=nn.Linear(256, 256, bias=False))
    with torch.no_grad():
        blocks.layer("ff").weight[3] = 0
    multiply_in_fp8(blocks)
    inputs = torch.randn(4, 256)
    inputs[2] = 0
    out = blocks.layer("ff")(inputs)
    assert out.isfinite().all()
    assert not out[2].any()
    assert not out[:, 3].any()


def test_only_large_linear_layers_of_transformer_blocks_whose_sides_suit_are_changed():
    blocks = Blocks(
        ff=nn.Linear(256, 256), small=nn.Linear(64, 64), odd=nn.Linear(256, 300), convolution=nn.Conv2d(256, 256, 1)
    )
    multiply_in_fp8(blocks)
    changed = {name for name, layer in blocks.named_modules() if isinstance(layer, Fp8Linear)}
    assert changed == {"attention.transformer_blocks.0.ff"}


def test_to_everyone_else_the_layer_is_what_it_was_with_half_the_memory():
    blocks = Blocks(ff=nn.Linear(512, 512, bias=False).half())
    layer = blocks.layer("ff")
    before = layer.weight.detach().clone()
    multiply_in_fp8(blocks)
    assert isinstance(layer, nn.Linear)
    assert (layer.weight.dtype, layer.weight.shape) == (torch.float16, before.shape)
    assert (layer.weight.double() / before.double() - 1).abs().median() < ROUNDING / 2
    kept = sum(p.numel() * p.element_size() for p in layer.parameters())
    assert kept < 0.51 * before.numel() * before.element_size()
    assert multiply_in_fp8(blocks) == 0  # a second time nothing is left


@pytest.fixture
def pipelines(tmp_path, monkeypatch):
    """Two alike; every linear layer of tiny models counts as large."""
    monkeypatch.setattr("instantid.fp8.SMALLEST_LAYER", 0)
    adapter = write_adapter(tmp_path)
    return tiny_pipeline(adapter), tiny_pipeline(adapter)


def test_pictures_stay_near_and_the_identity_keeps_its_own_precision(pipelines):
    plain, in_8_bits = pipelines
    for net in (in_8_bits.unet, in_8_bits.controlnet):
        assert multiply_in_fp8(net) > 0
    identity = [part for layer in in_8_bits._adapter.layers.values() for part in layer.modules()]
    assert not any(parametrize.is_parametrized(part) for part in identity)
    near = largest_difference(run(in_8_bits), run(plain))
    other_face = largest_difference(run(in_8_bits, image_embeds=face("someone else")), run(in_8_bits))
    assert 0 < near < other_face


def test_a_lora_works_on_top_and_fusing_one_is_refused(pipelines):
    _, pipe = pipelines
    multiply_in_fp8(pipe.unet)
    first = run(pipe)
    config = peft.LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False)
    pipe.unet.add_adapter(config, adapter_name="style")
    pipe.unet.eval()
    assert largest_difference(run(pipe), first) > 0.01
    with pytest.raises(StateError):
        pipe.unet.fuse_lora()
    pipe.unet.disable_adapters()
    assert torch.equal(run(pipe), first)


def test_the_plan_knows_what_is_saved():
    full, in_8_bits = (
        choose_plan(gpu(22.2, 32.0, capability=(9, 0)), PUBLISHED, PlanOptions(offload="none", storage=storage))
        for storage in ("full", "fp8")
    )
    assert in_8_bits.storage == "fp8"
    saved = full.vram_gib["text"] - in_8_bits.vram_gib["text"]
    assert saved == pytest.approx(0.72 * (2567e6 + 1251e6) / GIB, rel=0.01)


@pytest.mark.parametrize("machine", [T4, gpu(39.4, 75.0, capability=(8, 0))], ids=["T4", "A100"])
def test_a_card_without_such_products_is_told(machine):
    with pytest.raises(UserError) as caught:
        choose_plan(machine, PUBLISHED, PlanOptions(storage="fp8"))
    assert caught.value.code == "plan.fp8_needs_card"

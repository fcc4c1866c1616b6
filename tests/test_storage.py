"""Weights in 8 bits: what is rounded, by how much, and that models work on as before."""

import peft
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from instantid.storage import LARGEST, SMALLEST_LAYER, keep_in_int8
from ip_adapter.errors import StateError

PRECISIONS = (torch.float16, torch.bfloat16, torch.float32)
LAYERS = {
    "linear": lambda: nn.Linear(192, 352),
    "convolution": lambda: nn.Conv2d(48, 160, 3),
    "convolution without bias": lambda: nn.Conv2d(320, 208, 1, bias=False),
}


def filled(layer, dtype, spread=1.0):
    """Normal weights whose rows differ in size by a thousand, in `dtype`."""
    with torch.no_grad():
        sizes = torch.logspace(-3, 0, len(layer.weight)) * spread
        layer.weight.copy_(torch.randn(layer.weight.shape) * sizes.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    return layer.to(dtype)


def stored_bytes(module):
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


@pytest.fixture(autouse=True)
def _same_numbers():
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_each_row_is_rounded_by_half_a_step_of_its_own(name, dtype):
    layer = filled(LAYERS[name](), dtype)
    before = layer.weight.detach().double().flatten(1)
    keep_in_int8(layer)
    error = (layer.weight.double().flatten(1) - before).abs().amax(1)
    largest = before.abs().amax(1)
    rounding = torch.finfo(dtype).eps / 2  # of the scale, and of the product
    assert (error <= largest * (0.5 / LARGEST + 2.5 * rounding)).all()


def test_rows_below_what_half_precision_tells_apart_lose_next_to_nothing():
    """Their scale has few digits, or rounds to zero, which must not become a division by zero."""
    layer = filled(nn.Linear(192, 352), torch.float16, spread=1e-3)
    before = layer.weight.detach().double()
    keep_in_int8(layer)
    error = (layer.weight.double() - before).abs().amax(1)
    assert (error <= before.abs().amax(1) / LARGEST + 4e-6).all()


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_rows_of_zeros_stay_zeros(dtype):
    layer = filled(nn.Linear(300, 300), dtype)
    with torch.no_grad():
        layer.weight[[0, 7]] = 0
    keep_in_int8(layer)
    assert layer.weight[[0, 7]].eq(0).all()
    assert layer.weight.isfinite().all()


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_nearly_the_same_in_its_own_precision(name, dtype):
    layer = filled(LAYERS[name](), dtype)
    given = torch.randn((2, 192) if name == "linear" else (2, layer.in_channels, 6, 5), dtype=dtype)
    with torch.no_grad():
        before = layer(given)
        keep_in_int8(layer)
        after = layer(given)
    assert (after.dtype, layer.weight.dtype) == (dtype, dtype)
    assert (after - before).float().norm() < 0.02 * before.float().norm()


def test_half_precision_takes_half_the_memory_then():
    model = nn.Sequential(nn.Linear(512, 512), nn.Conv2d(64, 128, 3)).to(torch.float16)
    before = stored_bytes(model)
    assert keep_in_int8(model) == 512 * 512 + 64 * 128 * 9
    assert stored_bytes(model) == pytest.approx(before / 2, rel=0.02)


def test_only_large_linear_and_convolution_layers_are_rounded():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.to_q = nn.Linear(256, 256)
            self.processor = nn.ModuleDict({"to_k_ip": nn.Linear(256, 256)})

    model = nn.ModuleDict(
        {
            "attention": Attention(),
            "small": nn.Linear(256, 255),
            "norm": nn.LayerNorm(SMALLEST_LAYER),
            "embedding": nn.Embedding(256, 256),
        }
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    keep_in_int8(model)
    after = model.state_dict()
    unchanged = {name for name, tensor in before.items() if name in after and torch.equal(after[name], tensor)}
    assert before.keys() - unchanged == {"attention.to_q.weight"}


def test_a_second_time_nothing_is_rounded_again():
    model = nn.Sequential(nn.Linear(256, 300))
    keep_in_int8(model)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert keep_in_int8(model) == 0
    second = model.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())


# In diffusers' models, with LoRAs


TEXT = torch.randn(2, 7, 512, generator=torch.Generator().manual_seed(1))
NOISE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def unet(dtype=torch.float32):
    torch.manual_seed(3)
    model = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=16,
        cross_attention_dim=512,
        norm_num_groups=8,
    )
    return model.to(dtype).eval()


@torch.no_grad()
def output(model):
    return model(NOISE.to(model.dtype), 10, TEXT.to(model.dtype)).sample.float()


def lora(model):
    """A LoRA whose weights are no zeros, as after training."""
    torch.manual_seed(4)
    model.add_adapter(peft.LoraConfig(r=4, lora_alpha=4, init_lora_weights=False, target_modules=["to_k", "to_v"]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_a_unet_says_its_precision_and_draws_nearly_the_same(dtype):
    model = unet(dtype)
    before = output(model)
    assert keep_in_int8(model) > 500_000
    assert model.dtype == dtype
    assert (output(model) - before).norm() < 0.05 * before.norm()


def test_a_lora_works_on_rounded_weights_and_can_be_taken_off():
    full, rounded = unet(), unet()
    keep_in_int8(rounded)
    without = output(rounded)
    lora(full)
    lora(rounded)
    effect = (output(full) - without).norm()
    assert effect > 0.1 * without.norm()
    assert (output(rounded) - output(full)).norm() < 0.1 * effect
    rounded.unload_lora()
    assert torch.equal(output(rounded), without)


def test_fusing_a_lora_is_refused_rather_than_lost():
    """peft would add it to a weight that is computed on each use, so to nothing."""
    model = unet()
    keep_in_int8(model)
    lora(model)
    with pytest.raises(StateError, match="cannot be fused") as caught:
        model.fuse_lora()
    assert caught.value.code == "storage.no_fusing"


def test_a_model_without_large_layers_fuses_as_before():
    model = unet()
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.weight.numel() >= SMALLEST_LAYER:
            layer.weight = nn.Parameter(layer.weight[:1])
    keep_in_int8(model)
    assert "fuse_lora" not in vars(model)

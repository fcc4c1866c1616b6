"""Compiled blocks draw what plain ones draw, but for rounding. Here nothing is made faster: the code is only traced."""

import pytest
import torch
from test_cuda_graphs import CALLS, CHANGES, imitated, needs_gpu
from tiny_pipeline import largest_difference, run, tiny_pipeline, write_adapter

from ip_adapter.compilation import CompiledBlocks
from ip_adapter.cuda_graphs import CudaGraphs

ROUNDING = 1e-3  # of latents up to 10

# Half precision is what is compiled for on a card; here it is float32, and that in full.
pytestmark = pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")


class Backend:
    """Of torch.compile: runs what was traced as it is, and counts it."""

    def __init__(self):
        self.traced = 0

    def __call__(self, traced, example_inputs):
        self.traced += 1
        return traced.forward


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
def pipelines(request, adapter):
    """A plain one, and one with compiled blocks under graphs."""
    torch._dynamo.reset()
    torch.backends.cudnn.allow_tf32 = False
    plain, compiled = (tiny_pipeline(adapter).to(request.param) for _ in range(2))
    compiled.cuda_graphs = CudaGraphs(imitated if request.param == "cpu" else None)
    compiled.compiled_blocks = CompiledBlocks(Backend() if request.param == "cpu" else "inductor")
    yield plain, compiled
    torch.backends.cudnn.allow_tf32 = True


def is_the_same(drawn, expected):
    return largest_difference(drawn, expected) < ROUNDING


@pytest.mark.parametrize("call", ["guidance", "region", "no identity attention", "wide"])
def test_compiled_blocks_draw_what_plain_ones_draw(pipelines, call):
    plain, compiled = pipelines
    expected = run(plain, **CALLS[call])
    assert is_the_same(run(compiled, **CALLS[call]), expected)
    assert is_the_same(run(compiled, **CALLS[call]), expected)
    assert (compiled.compiled_blocks.failure, compiled.cuda_graphs.failure) == (None, None)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_setting_that_changes_takes_effect(pipelines, change):
    plain, compiled = pipelines
    first, changed = run(compiled), run(compiled, **change)
    assert is_the_same(changed, run(plain, **change))
    assert largest_difference(changed, first) > ROUNDING
    assert torch.equal(run(compiled), first)


def test_what_changes_from_picture_to_picture_compiles_nothing_anew(adapter):
    torch._dynamo.reset()
    pipe, backend = tiny_pipeline(adapter), Backend()
    pipe.cuda_graphs, pipe.compiled_blocks = CudaGraphs(imitated), CompiledBlocks(backend)
    run(pipe)
    once = backend.traced
    assert 0 < once < len([m for m in pipe.unet.modules() if type(m).__name__ in ("ResnetBlock2D", "GroupNorm")])
    for change in ("prompt", "face", "pose", "strength of the adapter", "strength of IdentityNet", "steps"):
        run(pipe, **CHANGES[change])
    assert backend.traced == once


def test_a_lora_takes_effect_and_goes_again(pipelines):
    peft = pytest.importorskip("peft")
    plain, compiled = pipelines
    first = run(compiled)
    for pipe in pipelines:
        torch.manual_seed(0)
        config = peft.LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False)
        pipe.unet.add_adapter(config, adapter_name="style")
        pipe.unet.eval()
    for weight in (0.5, 1.5):
        for pipe in pipelines:
            pipe.unet.set_adapters(["style"], [weight])
        drawn = run(compiled)
        assert is_the_same(drawn, run(plain))
        assert largest_difference(drawn, first) > 10 * ROUNDING
    for pipe in pipelines:
        pipe.unet.delete_adapters("style")
        pipe.unload_lora_weights()
    assert is_the_same(run(compiled), first)


def test_what_cannot_be_compiled_runs_plainly_and_says_why(adapter):
    def refuse(traced, example_inputs):
        raise RuntimeError("no toolchain here")

    torch._dynamo.reset()
    plain, pipe = tiny_pipeline(adapter), tiny_pipeline(adapter)
    pipe.compiled_blocks = CompiledBlocks(refuse)
    for _ in range(2):
        assert is_the_same(run(pipe), run(plain))
    assert "no toolchain here" in pipe.compiled_blocks.failure


def test_an_error_that_is_not_the_compilers_is_not_taken_for_one(adapter):
    pipe = tiny_pipeline(adapter)
    pipe.compiled_blocks = CompiledBlocks(Backend())
    pipe.unet.conv_in.register_forward_hook(broken)
    with pytest.raises(ValueError, match="mine"):
        run(pipe)
    assert pipe.compiled_blocks.failure is None


def broken(module, inputs, output):
    raise ValueError("mine")


def test_afterwards_and_switched_off_the_networks_are_as_they_were(adapter):
    torch._dynamo.reset()
    plain, pipe = tiny_pipeline(adapter), tiny_pipeline(adapter)
    pipe.compiled_blocks = CompiledBlocks(Backend())
    run(pipe)
    assert all("forward" not in vars(m) for net in (pipe.unet, pipe.controlnet) for m in net.modules())
    pipe.disable_compilation()
    assert torch.equal(run(pipe), run(plain))
    assert all(weight.is_contiguous() for weight in pipe.unet.parameters())

"""Graphs draw what the plain way draws, to the last bit, whatever changes between two pictures.

On the processor a graph is imitated: what was captured is run again on the same buffers, so that whatever was not
written into them is as it was.
"""

import gc
import weakref

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, PNDMScheduler
from diffusers.models.attention_processor import AttnProcessor2_0
from tiny_components import TEXT_DIM, standard_normal
from tiny_pipeline import face, key_points_picture, run, tiny_pipeline, write_adapter

from ip_adapter import cuda_graphs
from ip_adapter.cuda_graphs import CudaGraphs, network_state, random_numbers_survive
from ip_adapter.errors import StateError
from pipeline_stable_diffusion_xl_instantid import (
    StableDiffusionXLInstantIDImg2ImgPipeline,
    StableDiffusionXLInstantIDInpaintPipeline,
)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
BOTH = 2  # UNet and IdentityNet


def imitated(repeat):
    """As a captured graph: what it returned is where the next results come to lie."""
    kept = repeat()

    def replay():
        for old, new in zip(tensors(kept), tensors(repeat())):
            old.copy_(new)

    return replay, kept


def tensors(value):
    return [value] if isinstance(value, torch.Tensor) else [t for part in value for t in tensors(part)]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def plain(adapter):
    return tiny_pipeline(adapter)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
def captured(request, adapter, plain):
    """A pipeline that answers by graphs; on a card `plain` is there too."""
    pipe = tiny_pipeline(adapter).to(request.param)
    plain.to(request.param)
    pipe.cuda_graphs = CudaGraphs(imitated if request.param == "cpu" else None)
    return pipe


def half_mask():
    mask = np.zeros((128, 128, 3), np.uint8)
    mask[:, :64] = 255
    return mask


WIDE = {"latents": standard_normal("wide", (1, 4, 16, 24)), "image": key_points_picture(size=(192, 128))}
CALLS = {
    "guidance": {},
    "no guidance": {"guidance_scale": 1.0},
    "region": {"control_mask": half_mask()},
    "a window of steps": {"control_guidance_end": 0.4},
    "no identity attention": {"ip_adapter_scale": 0.0},
    "no IdentityNet": {"controlnet_conditioning_scale": 0.0},
    "two pictures of each": {"num_images_per_prompt": 2, "latents": standard_normal("two", (2, 4, 16, 16))},
    "wide": WIDE,
}
CHANGES = {
    "prompt": {"prompt_embeds": standard_normal("other", (1, 77, TEXT_DIM))},
    "negative prompt": {"negative_prompt_embeds": standard_normal("other", (1, 77, TEXT_DIM))},
    "face": {"image_embeds": face("someone else")},
    "pose": {"image": key_points_picture("turned")},
    "seed": {"latents": standard_normal("other", (1, 4, 16, 16))},
    "strength of the adapter": {"ip_adapter_scale": 0.3},
    "no strength of the adapter": {"ip_adapter_scale": 0.0},
    "strength of IdentityNet": {"controlnet_conditioning_scale": 0.3},
    "guidance": {"guidance_scale": 7.5},
    "steps": {"num_inference_steps": 5},
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_graph_draws_what_the_plain_way_draws(plain, captured, call):
    expected = run(plain, **call)
    assert torch.equal(run(captured, **call), expected)
    assert torch.equal(run(captured, **call), expected)  # from the first step on
    assert captured.cuda_graphs.captures > 0


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_setting_that_changes_takes_effect_without_a_new_graph(plain, captured, change):
    first = run(captured)
    assert captured.cuda_graphs.captures == BOTH
    changed = run(captured, **change)
    assert captured.cuda_graphs.captures == BOTH
    assert torch.equal(changed, run(plain, **change))
    assert not torch.equal(changed, first)
    assert torch.equal(run(captured), first)


@pytest.mark.parametrize("kind", [DPMSolverMultistepScheduler, PNDMScheduler])
def test_another_scheduler_needs_no_new_graph(plain, captured, kind):
    """These two keep what the UNet gave in earlier steps."""
    run(captured)
    for pipe in (plain, captured):
        pipe.scheduler = kind.from_config(pipe.scheduler.config)
    captures = captured.cuda_graphs.captures
    assert torch.equal(run(captured, num_inference_steps=6), run(plain, num_inference_steps=6))
    # Steps may be counted in whole numbers or not: that is another kind of input, and no more than one.
    assert captured.cuda_graphs.captures <= captures + BOTH


def test_two_faces_in_turn_are_as_in_two_pipelines_of_their_own(adapter, captured):
    for person in ("a", "b", "a"):
        alone = tiny_pipeline(adapter).to(captured.unet.device)
        assert torch.equal(run(captured, person), run(alone, person))


def test_a_size_is_captured_once(plain, captured):
    run(captured)
    assert torch.equal(run(captured, **WIDE), run(plain, **WIDE))
    assert captured.cuda_graphs.captures == 2 * BOTH
    run(captured)
    run(captured, **WIDE)
    assert captured.cuda_graphs.captures == 2 * BOTH


def test_the_graph_not_used_for_longest_makes_room(captured, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "MOST", 1)
    run(captured)
    run(captured, **WIDE)
    assert captured.cuda_graphs.captures == 2 * BOTH
    assert {len(graphs) for graphs in captured.cuda_graphs._graphs.values()} == {1}
    run(captured)
    assert captured.cuda_graphs.captures == 3 * BOTH


def test_guidance_may_end_on_the_way(plain, captured):
    call = {"num_inference_steps": 4, "guidance_end": 0.5}
    for _ in range(2):
        assert torch.equal(run(captured, **call), run(plain, **call))
    assert captured.cuda_graphs.captures == 2 * BOTH  # with guidance and without


def test_a_prompt_that_a_callback_changes_acts_from_the_next_step_on(plain, captured):
    def replaced(pipe, step, timestep, inputs):
        return {"prompt_embeds": inputs["prompt_embeds"] + 1}

    def overwritten(pipe, step, timestep, inputs):
        inputs["prompt_embeds"].add_(1)
        return inputs

    for change in (replaced, overwritten):
        call = {"callback_on_step_end": change, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
        drawn = run(captured, **call)
        assert torch.equal(drawn, run(plain, **call))
        assert not torch.equal(drawn, run(plain))


@pytest.mark.parametrize(
    "cls",
    [StableDiffusionXLInstantIDImg2ImgPipeline, StableDiffusionXLInstantIDInpaintPipeline],
    ids=["img2img", "inpaint"],
)
def test_the_other_modes_draw_the_same_by_graphs(adapter, cls):
    def drawn(pipe):
        picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
        start = {"image": picture, "control_image": key_points_picture(), "strength": 0.9, "latents": None}
        if cls is StableDiffusionXLInstantIDInpaintPipeline:
            start["mask_image"] = (picture[:, :1] > 0.5).float()
        return run(pipe, generator=torch.Generator().manual_seed(0), **start)

    plain, captured = (tiny_pipeline(adapter, cls=cls) for _ in range(2))
    captured.cuda_graphs = CudaGraphs(imitated)
    expected = drawn(plain)
    assert torch.equal(drawn(captured), expected)
    assert torch.equal(drawn(captured), expected)
    assert captured.cuda_graphs.captures == BOTH


# When graphs no longer fit


def test_a_weight_written_in_place_takes_effect_without_a_new_graph(plain, captured):
    run(captured)
    with torch.no_grad():
        for pipe in (plain, captured):
            pipe.unet.conv_in.weight.mul_(0.5)
    assert torch.equal(run(captured), run(plain))
    assert captured.cuda_graphs.captures == BOTH


MODIFICATIONS = {
    "a weight elsewhere in memory": lambda unet: setattr(
        unet.conv_in, "weight", torch.nn.Parameter(unet.conv_in.weight.detach() * 0.5)
    ),
    "another module": lambda unet: setattr(unet.up_blocks[-1].resnets[0], "nonlinearity", torch.nn.Identity()),
    "another setting": lambda unet: setattr(unet.up_blocks[-1].resnets[0], "output_scale_factor", 3.0),
}


@pytest.mark.parametrize("modify", MODIFICATIONS.values(), ids=MODIFICATIONS)
def test_a_network_that_was_modified_is_captured_again(plain, captured, modify):
    first = run(captured)
    for pipe in (plain, captured):
        modify(pipe.unet)
    drawn = run(captured)
    assert torch.equal(drawn, run(plain))
    assert not torch.equal(drawn, first)
    assert captured.cuda_graphs.captures == 2 * BOTH


def test_a_lora_that_comes_changes_and_goes_takes_effect(plain, captured):
    peft = pytest.importorskip("peft")
    first = run(captured)
    config = peft.LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False)
    for pipe in (plain, captured):
        torch.manual_seed(0)
        pipe.unet.add_adapter(config, adapter_name="style")
        pipe.unet.eval()
    drawn = [first, run(captured)]
    assert torch.equal(drawn[-1], run(plain))
    for weight in (0.5, 1.5):
        for pipe in (plain, captured):
            pipe.unet.set_adapters(["style"], [weight])
        drawn.append(run(captured))
        assert torch.equal(drawn[-1], run(plain))
    for pipe in (plain, captured):
        pipe.unet.disable_adapters()
    without = run(captured)
    assert torch.equal(without, run(plain))
    assert torch.equal(without, first) or first.device.type == "cuda"  # cuDNN chooses anew, also for the plain way
    assert len({tuple(latents.flatten().tolist()) for latents in drawn}) == 4


def test_the_state_of_a_network_is_the_same_before_and_after_a_picture(plain):
    before = network_state(plain.unet), network_state(plain.controlnet)
    run(plain)
    assert (network_state(plain.unet), network_state(plain.controlnet)) == before


NOTICED = {
    "a number": lambda net: setattr(net.conv_out, "scale", 2),
    "a switch": lambda net: setattr(net.conv_out, "training", True),
    "an adapter switched off": lambda net: setattr(net.conv_out, "_disable_adapters", True),
    "a collection": lambda net: setattr(net.conv_out, "scaling", {"style": 0.5}),
    "a module more": lambda net: net.conv_out.add_module("more", torch.nn.Identity()),
    "a module less": lambda net: setattr(net, "conv_act", None),
    "a buffer": lambda net: net.conv_out.register_buffer("more", torch.zeros(1)),
    "another precision": lambda net: net.conv_out.double(),
}


@pytest.mark.parametrize("change", NOTICED.values(), ids=NOTICED)
def test_the_state_of_a_network_tells_what_changed(plain, change):
    before = network_state(plain.unet)
    change(plain.unet)
    assert network_state(plain.unet) != before


def test_the_state_of_a_network_tells_a_setting_that_changes_inside_a_collection(plain):
    plain.unet.conv_out.scaling = {"style": 0.5}
    before = network_state(plain.unet)
    plain.unet.conv_out.scaling["style"] = 0.7
    assert network_state(plain.unet) != before


def test_the_state_of_a_network_looks_into_every_module_but_the_identity_layers(plain):
    identity = {id(part) for layer in plain._adapter.layers.values() for part in layer.modules()}
    for module in plain.unet.modules():
        before = network_state(plain.unet)
        module.mark = 1
        assert (network_state(plain.unet) == before) == (id(module) in identity)


def test_the_state_of_a_network_holds_no_tensor(plain):
    held = [part for part in network_state(plain.unet) if not isinstance(part, int | float | str | type | torch.dtype)]
    assert held == []


# What is kept, and what happens when it cannot be


def test_after_a_call_nothing_of_it_is_held(captured):
    given = standard_normal("held", (1, 77, TEXT_DIM))
    inside = []

    def remember(pipe, step, timestep, inputs):
        inside.extend(weakref.ref(tensor) for tensor in inputs.values())
        return inputs

    run(
        captured,
        prompt_embeds=given,
        callback_on_step_end=remember,
        callback_on_step_end_tensor_inputs=["prompt_embeds", "latents"],
    )
    gc.collect()
    assert len(inside) > 0
    assert [reference() for reference in inside if reference() is not None] == []
    assert all(layer.call is None for layer in captured._adapter.layers.values())


def test_released_graphs_are_captured_again_when_needed(captured):
    first = run(captured)
    captured.cuda_graphs.release()
    assert torch.equal(run(captured), first)
    assert captured.cuda_graphs.captures == 2 * BOTH


def test_an_identity_layer_replaced_between_two_pictures_is_named(captured):
    first = run(captured)
    name = next(iter(captured._adapter.layers))
    captured.unet.get_submodule(name.removesuffix(".processor")).set_processor(AttnProcessor2_0())
    with pytest.raises(StateError, match="AttnProcessor2_0"):
        run(captured)
    captured.restore_identity()
    assert torch.equal(run(captured), first)
    assert captured.cuda_graphs.captures == BOTH


def test_afterwards_the_networks_are_as_they_were(captured):
    run(captured)
    assert "forward" not in vars(captured.unet)
    assert "forward" not in vars(captured.controlnet)


def test_graphs_that_were_switched_off_are_gone(plain, captured):
    run(captured)
    graphs = weakref.ref(captured.cuda_graphs)
    captured.disable_cuda_graphs()
    gc.collect()
    assert graphs() is None
    assert torch.equal(run(captured), run(plain))


def test_what_cannot_be_captured_runs_plainly(plain, adapter):
    def refuse(repeat):
        raise RuntimeError("operation not permitted when stream is capturing")

    pipe = tiny_pipeline(adapter)
    pipe.cuda_graphs = CudaGraphs(refuse)
    assert torch.equal(run(pipe), run(plain))
    assert "not permitted" in pipe.cuda_graphs.failure


def test_a_capture_that_breaks_off_gives_the_random_numbers_back_and_one_that_ends_keeps_them(monkeypatch):
    class Generator:
        state = "as before"

        def clone_state(self):
            return self.state

        def graphsafe_set_state(self, state):
            self.state = state

    generator = Generator()
    monkeypatch.setattr(torch.cuda, "default_generators", (generator,))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)

    @random_numbers_survive()
    def break_off():
        generator.state = "capturing"
        raise RuntimeError("capture invalidated")

    with pytest.raises(RuntimeError, match="invalidated"):
        break_off()
    assert generator.state == "as before"
    with random_numbers_survive():
        generator.state = "captured"
    assert generator.state == "captured"


@pytest.mark.gpu
@needs_gpu
def test_after_a_capture_that_broke_off_the_card_goes_on(plain, adapter):
    pipe = tiny_pipeline(adapter).to("cuda")
    pipe.unet.conv_in.register_forward_hook(lambda module, args, out: out.sum().item() and None)  # waits for the card
    torch.cuda.manual_seed(7)
    expected = torch.randn(4, device="cuda")
    torch.cuda.manual_seed(7)
    pipe.enable_cuda_graphs()
    assert torch.equal(run(pipe), run(plain.to("cuda")))
    assert pipe.cuda_graphs.failure
    assert torch.equal(torch.randn(4, device="cuda"), expected)
    pipe.unet.conv_in._forward_hooks.clear()
    pipe.disable_cuda_graphs()
    pipe.enable_cuda_graphs()
    run(pipe)
    assert pipe.cuda_graphs.captures == BOTH


def test_too_little_memory_for_a_graph_is_not_hidden(adapter):
    def too_large(repeat):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    pipe = tiny_pipeline(adapter)
    pipe.cuda_graphs = CudaGraphs(too_large)
    with pytest.raises(torch.OutOfMemoryError):
        run(pipe)
    assert "forward" not in vars(pipe.unet)


def test_a_call_with_arguments_that_no_graph_knows_runs_plainly(plain, captured):
    call = {"cross_attention_kwargs": {"scale": 0.5}}
    before = captured.cuda_graphs.captures
    assert torch.equal(run(captured, **call), run(plain, **call))
    assert [len(captured.cuda_graphs._graphs[name]) for name in ("unet", "identitynet")] == [0, 1]
    assert captured.cuda_graphs.captures == before + 1


def test_without_a_card_graphs_are_refused_in_one_sentence(plain):
    if plain.unet.device.type == "cuda":
        pytest.skip("there is a card")
    with pytest.raises(StateError, match="CUDA graphs need"):
        plain.enable_cuda_graphs()

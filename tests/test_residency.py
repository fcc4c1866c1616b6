"""Modules that wait in RAM: they come before their forward, leave after it, and nothing else changes."""

import numpy as np
import pytest
import torch
from accelerate.hooks import add_hook_to_module
from face_photos import person

from instantid.generation import generate_image
from instantid.loading import load_models
from instantid.memory_plan import PlanOptions
from instantid.request import GenerationRequest
from instantid.residency import Stay, Visit, leave_gpu, wait_in_ram

REQUEST = GenerationRequest(person(), "a person", steps=2, width=64, height=80, seed=3)
HERE = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


class Traced(Visit):
    """A visit that notes where the memory of its module lies while it works."""

    def pre_forward(self, module, *args, **kwargs):
        arguments = super().pre_forward(module, *args, **kwargs)
        for tensor, in_ram in self.waiting:
            tensor.data = in_ram.clone()  # stands in for the copy on a GPU
        self.there = module.weight.data_ptr()
        return arguments


def picture(models):
    return np.asarray(generate_image(models, REQUEST).images[0])


@pytest.fixture
def visitor():
    layer = torch.nn.Linear(3, 5)
    add_hook_to_module(layer, Traced(HERE, pinned=False))
    return layer


def test_after_its_forward_a_module_is_back_in_the_memory_that_it_had(visitor):
    home, weight = visitor.weight.data_ptr(), visitor.weight.detach().clone()
    visitor(torch.ones(2, 3))
    assert visitor._hf_hook.there != home
    assert visitor.weight.data_ptr() == home
    assert torch.equal(visitor.weight, weight)


def test_a_module_that_came_twice_still_knows_its_home(visitor):
    """The VAE comes with its first tile and stays for the others."""
    home, hook = visitor.weight.data_ptr(), visitor._hf_hook
    hook.pre_forward(visitor)
    first = visitor.weight.data_ptr()
    Visit.pre_forward(hook, visitor)
    assert visitor.weight.data_ptr() == first
    hook.leave()
    assert visitor.weight.data_ptr() == home


def test_a_precision_that_was_changed_on_the_way_is_taken_along(visitor):
    """diffusers decodes in float32 and casts the VAE back while it is on the GPU."""
    weight = visitor.half().weight.detach().clone()
    visitor.float()
    visitor._hf_hook.pre_forward(visitor)
    visitor.half()
    visitor._hf_hook.leave()
    assert visitor.weight.dtype == torch.float16
    assert torch.equal(visitor.weight, weight)


def test_what_was_added_to_a_module_since_comes_along(visitor):
    """A LoRA is loaded after the plan was carried out."""
    visitor.register_parameter("lora", torch.nn.Parameter(torch.ones(7)))
    visitor._hf_hook.pre_forward(visitor)
    assert {len(in_ram.shape) for _, in_ram in visitor._hf_hook.waiting} == {1, 2}
    assert len(visitor._hf_hook.waiting) == 3
    visitor._hf_hook.leave()


@pytest.fixture(scope="module")
def waiting(random_bundle):
    models = load_models(random_bundle, write=lambda line: None)
    wait_in_ram(models.pipeline, HERE, pinned=False)
    return models


def visits(pipeline):
    return [m._hf_hook for m in pipeline.unet.modules() if isinstance(getattr(m, "_hf_hook", None), Visit)] + [
        module._hf_hook
        for module in (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.vae, pipeline.image_proj_model)
    ]


def test_the_picture_is_the_same(waiting, models):
    np.testing.assert_array_equal(picture(waiting), picture(models))


def test_after_a_picture_nobody_is_left_on_the_gpu(waiting):
    picture(waiting)
    assert [visit for visit in visits(waiting.pipeline) if visit.waiting] == []


def test_what_the_loop_needs_stays(waiting):
    assert isinstance(waiting.pipeline.unet._hf_hook, Stay)
    assert isinstance(waiting.pipeline.controlnet._hf_hook, Stay)
    assert len(visits(waiting.pipeline)) > 4  # the identity layers too, inside the UNet


def test_after_an_error_everyone_leaves(waiting):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting.pipeline.vae.decoder.conv_out, "forward", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            generate_image(waiting, REQUEST)
    assert [visit for visit in visits(waiting.pipeline) if visit.waiting] == []


def test_a_pipeline_where_nobody_waits_is_left_alone(models):
    leave_gpu(models.pipeline)
    assert not hasattr(models.pipeline.vae, "_hf_hook")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("offload", ["idle", "model", "sequential"])
def test_on_a_card_offload_changes_no_pixel(random_bundle, offload):
    resident, moved = (
        load_models(random_bundle, options=PlanOptions(offload=way, vae_tiling=False), write=lambda line: None)
        for way in ("none", offload)
    )
    np.testing.assert_array_equal(picture(moved), picture(resident))
    assert {p.device.type for p in moved.pipeline.text_encoder.parameters()} <= {"cpu", "meta"}

"""Memory that turns out too small, while loading or drawing: one rung down, and the same request again."""

import dataclasses
import weakref

import numpy as np
import pytest
import torch
from face_photos import person

from instantid import assembly, loading
from instantid.generation import generate_image
from instantid.hardware import GIB, is_out_of_memory, limit_vram
from instantid.loading import load_models
from instantid.memory_plan import LADDERS, PlanOptions
from instantid.messages import LANGUAGES, say
from instantid.request import GenerationRequest
from ip_adapter.cuda_graphs import CudaGraphs
from ip_adapter.errors import MachineError

REQUEST = GenerationRequest(person(), "a person", steps=2, width=64, height=80, seed=3)
LOWEST = {"precision": "bfloat16", "storage": "int8"}  # of the processor's ladder; forced, so that nothing is below

# CUDA's has a class of its own; the others are known by their words.
NO_MEMORY_LEFT = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of …"),
    "CUDA itself": RuntimeError("CUDA error: out of memory"),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "Apple": RuntimeError("MPS backend out of memory (MPS allocated: 8.17 GB, max allowed: 9.07 GB)."),
    "processor": RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: …"),
    "Python": MemoryError(),
}
# Where a run can be stopped short, by the layer that fails.
STAGES = {
    "text": lambda pipeline: pipeline.text_encoder_2.text_projection,
    "tokens": lambda pipeline: pipeline.image_proj_model.proj_in,
    "IdentityNet": lambda pipeline: pipeline.controlnet.conv_in,
    "UNet": lambda pipeline: pipeline.unet.conv_out,
    "VAE": lambda pipeline: pipeline.vae.decoder.conv_out,
}


def loaded(folder, write=lambda line: None, **options):
    return load_models(folder, options=PlanOptions(**options), write=write)


def picture(models):
    return np.asarray(generate_image(models, REQUEST).images[0]).astype(int)


def raising(error):
    def forward(_):
        raise error

    return forward


def fail_in(layer, error=NO_MEMORY_LEFT["CUDA"]):
    layer.forward = raising(error)


@pytest.mark.parametrize("error", NO_MEMORY_LEFT.values(), ids=NO_MEMORY_LEFT)
def test_a_lack_of_memory_is_known_whoever_says_it(error):
    assert is_out_of_memory(error)


# While drawing


@pytest.fixture(scope="module")
def one_rung_down(random_bundle):
    """The picture of the processor's second rung, loaded on purpose."""
    return picture(loaded(random_bundle, precision=LADDERS["cpu"][1].precision))


@pytest.mark.parametrize("stage", STAGES)
def test_the_same_picture_is_made_again_one_rung_down(random_bundle, one_rung_down, stage):
    models = loaded(random_bundle)
    fail_in(STAGES[stage](models.pipeline))
    result = generate_image(models, REQUEST)
    assert models.plan.rung == LADDERS["cpu"][1]
    assert result.seeds == [REQUEST.seed]
    np.testing.assert_array_equal(np.asarray(result.images[0]).astype(int), one_rung_down)


def test_graphs_that_do_not_fit_go_first_and_the_picture_is_the_same(random_bundle):
    def too_large(repeat):
        raise NO_MEMORY_LEFT["CUDA"]

    models = loaded(random_bundle)
    before = picture(models)
    rung, models.plan = models.plan.rung, dataclasses.replace(models.plan, speed="instant")
    models.pipeline.cuda_graphs = CudaGraphs(too_large)
    result = generate_image(models, REQUEST)
    assert [note.key for note in result.notes] == ["note.stepped_down"]
    assert (models.plan.rung, models.plan.speed) == (rung, "plain")
    np.testing.assert_array_equal(np.asarray(result.images[0]).astype(int), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("offload", ["none", "idle"])
def test_on_a_card_graphs_make_the_picture_of_the_plain_way(random_bundle, offload):
    plain, instant = (loaded(random_bundle, offload=offload, speed=speed) for speed in ("plain", "instant"))
    expected = picture(plain)
    for _ in range(2):
        np.testing.assert_array_equal(picture(instant), expected)
    assert instant.pipeline.cuda_graphs.captures == 2


def test_the_person_is_told_once(random_bundle):
    models = loaded(random_bundle)
    fail_in(models.pipeline.unet.conv_out)
    (note,) = generate_image(models, REQUEST).notes
    assert (note.key, note.facts) == ("note.stepped_down", {"offload": "none", "storage": "full"})
    assert {say(note.key, language, **note.facts)[:2] for language in LANGUAGES}
    assert generate_image(models, REQUEST).notes == ()


def test_the_ladder_is_gone_down_to_its_end_in_one_run(random_bundle, monkeypatch):
    """Every pipeline that is loaded is too large, but for the last."""
    assemble = loading.assemble

    def too_large(bundle, plan, monitor):
        pipeline = assemble(bundle, plan, monitor)
        if plan.rung != LADDERS["cpu"][-1]:
            fail_in(pipeline.unet.conv_out)
        return pipeline

    monkeypatch.setattr(loading, "assemble", too_large)
    models = loaded(random_bundle)
    assert len(generate_image(models, REQUEST).notes) == 1
    assert models.plan.rung == LADDERS["cpu"][-1]


@pytest.mark.parametrize("maker", ["CUDA", "Apple"])
def test_on_the_lowest_rung_it_is_said_with_the_size_and_the_next_run_is_as_ever(random_bundle, maker):
    models = loaded(random_bundle, **LOWEST)
    before, pipeline = picture(models), models.pipeline
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.unet.conv_out, "forward", raising(NO_MEMORY_LEFT[maker]))
        with pytest.raises(MachineError) as caught:
            generate_image(models, REQUEST)
    assert caught.value.code == "generation.out_of_memory"
    assert caught.value.facts == {"size": "64 × 80", "offload": "none"}
    assert models.pipeline is pipeline
    np.testing.assert_array_equal(picture(models), before)


def test_the_error_holds_none_of_the_run(random_bundle):
    """A notebook keeps its last error, and an error keeps the frames it came through, with their tensors."""
    models, held = loaded(random_bundle, **LOWEST), []

    def forward(latents):
        held.append(weakref.ref(latents))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    models.pipeline.unet.conv_out.forward = forward
    with pytest.raises(MachineError) as caught:
        generate_image(models, REQUEST)
    assert caught.value.code == "generation.out_of_memory"
    assert [reference() for reference in held] == [None]


def test_where_no_lower_rung_can_be_loaded_the_first_one_is_back(random_bundle, monkeypatch):
    models = loaded(random_bundle)
    before, assemble = picture(models), loading.assemble

    def only_the_first(bundle, plan, monitor):
        if plan.rung != LADDERS["cpu"][0]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return assemble(bundle, plan, monitor)

    monkeypatch.setattr(loading, "assemble", only_the_first)
    fail_in(models.pipeline.unet.conv_out)
    with pytest.raises(MachineError) as caught:
        generate_image(models, REQUEST)
    assert caught.value.code == "generation.out_of_memory"
    assert models.plan.rung == LADDERS["cpu"][0]
    np.testing.assert_array_equal(picture(models), before)


def test_a_request_that_fails_for_another_reason_goes_nowhere(random_bundle):
    models = loaded(random_bundle)
    fail_in(models.pipeline.unet.conv_out, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        generate_image(models, REQUEST)
    assert models.plan.rung == LADDERS["cpu"][0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_card_a_real_lack_of_memory_is_recovered_from(random_bundle):
    models = loaded(random_bundle)
    before = picture(models)
    torch.cuda.empty_cache()
    limit_vram(torch.cuda.memory_reserved() / GIB)  # not a byte more than the weights
    large = dataclasses.replace(REQUEST, width=512, height=512)
    assert [note.key for note in generate_image(models, large).notes] == ["note.stepped_down"]
    assert models.plan.offload == "idle"
    np.testing.assert_array_equal(picture(models), before)


# While loading


@pytest.mark.parametrize("language", LANGUAGES)
def test_loading_goes_on_one_rung_down_and_says_so(random_bundle, monkeypatch, language):
    placed, lines = assembly._placed, []

    def too_large(name, mapped, plan):
        if plan.rung == LADDERS["cpu"][0] and name == "controlnet":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return placed(name, mapped, plan)

    monkeypatch.setattr(assembly, "_placed", too_large)
    models = load_models(random_bundle, language=language, write=lines.append)
    assert models.plan.rung == LADDERS["cpu"][1]
    assert lines.count(say("loading.stepped_down", language)) == 1
    assert models.plan.text(language) in lines
    assert picture(models).std() > 0

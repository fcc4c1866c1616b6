"""Memory given back: whatever stage a loading fails at, nothing of what it had read is kept, nor after a release."""

import weakref

import diffusers
import pytest
import torch
import transformers
from loaded_bundles import REQUEST, loaded, picture, refusal

from instantid import assembly, loading, streaming
from instantid.generation import generate_image
from ip_adapter.errors import MachineError, StateError
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline as Pipeline

READERS = {
    "faces": (loading, "FaceAnalyser"),
    "IdentityNet": (streaming, "place", diffusers.ControlNetModel),
    "unet": (streaming, "place", diffusers.UNet2DConditionModel),
    "vae": (streaming, "place", diffusers.AutoencoderKL),
    "text encoder": (streaming, "place", transformers.CLIPTextModel),
    "second text encoder": (streaming, "place", transformers.CLIPTextModelWithProjection),
    "tokenizers": (Pipeline, "from_pretrained"),
    "adapter": (Pipeline, "load_ip_adapter_instantid"),
    "switches": (assembly, "_apply"),
}


@pytest.fixture
def living(monkeypatch):
    """Weak references to what a loading holds: face analysis and models, as they are made."""
    references = []
    analyser, placed = loading.FaceAnalyser, assembly._placed

    def remembered(make):
        def made(*args, **kwargs):
            thing = make(*args, **kwargs)
            references.append(weakref.ref(thing))
            return thing

        return made

    monkeypatch.setattr(loading, "FaceAnalyser", remembered(analyser))
    monkeypatch.setattr(assembly, "_placed", remembered(placed))
    return references


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_too_little_memory_at_any_stage_is_one_sentence_and_keeps_nothing(random_bundle, living, monkeypatch, reader):
    """The error is alive here, as in a notebook, where what it held would fill the memory of the next attempt."""
    owner, name, *kinds = reader
    read = getattr(owner, name)

    def fail(*args, **kwargs):
        if kinds and not isinstance(args[0], tuple(kinds)):
            return read(*args, **kwargs)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity …")

    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(MachineError) as caught:
        loaded(random_bundle)
    assert caught.value.code == "loading.out_of_memory"
    assert caught.value.facts == {"device": "cpu", "detail": "CUDA out of memory"}
    assert [reference() for reference in living if reference() is not None] == []


def test_a_base_that_cannot_be_read_is_found_before_any_weights_are_read(bundle_copy, living):
    (bundle_copy / "base/vae/config.json").write_text('{"down_block_types": ["NoSuchBlock"]}')
    error = refusal(bundle_copy)
    assert error.facts["what"] == bundle_copy / "base/vae"
    assert len(living) == 1  # face analysis: no weights are read before all files fit
    assert [reference() for reference in living if reference() is not None] == []


def test_an_adapter_that_cannot_be_read_keeps_nothing_of_what_was_read_before(bundle_copy, living):
    content = torch.load(bundle_copy / "ip-adapter.bin", weights_only=True)
    content["ip_adapter"].popitem()
    torch.save(content, bundle_copy / "ip-adapter.bin")
    assert refusal(bundle_copy).code.startswith("adapter.")
    assert len(living) == 6  # face analysis and all models
    assert [reference() for reference in living if reference() is not None] == []


def test_released_models_are_gone_and_say_so(random_bundle, living):
    models = loaded(random_bundle)
    unet = weakref.ref(models.pipeline.unet)
    picture(models)
    models.release()
    assert unet() is None
    assert [reference() for reference in living if reference() is not None] == []
    with pytest.raises(StateError) as caught:
        generate_image(models, REQUEST)
    assert caught.value.code == "generation.released"

"""From a bundle on disk to models that make pictures: every way to load, and what happens when it cannot be."""

import json
import os
import shutil
import weakref
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
import transformers
from face_photos import person
from safetensors.torch import load_file, save_file
from single_file import write_single_file

from instantid import assembly, expected_memory, loading, memory_plan, streaming
from instantid.bundle import MODELS
from instantid.generation import generate_image
from instantid.hardware import Hardware
from instantid.loading import DEMO, choose_bundle, load_models
from instantid.memory_plan import VAE_PRECISIONS, PlanOptions
from instantid.messages import LANGUAGES, explain, say
from instantid.random_bundle import DESCRIPTION
from instantid.request import GenerationRequest
from ip_adapter.convert import convert_to_safetensors
from ip_adapter.errors import MachineError, StateError, UserError
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline as Pipeline

REQUEST = GenerationRequest(person(), "a person", steps=2, width=64, height=80, seed=3)
STAGES = ("start", "faces", "base", "identitynet", "adapter", "ready")
# Of 255, the most that a pixel may move by: sums in another order, and half precision.
ROUNDING, HALF = 1, 24


def loaded(source, base=None, **options):
    return load_models(source, base, options=PlanOptions(**options), write=lambda line: None)


def picture(models):
    return np.asarray(generate_image(models, REQUEST).images[0]).astype(int)


@pytest.fixture(scope="module")
def plain(models):
    """The picture of the bundle loaded the plain way."""
    return picture(models)


@pytest.fixture
def copy(random_bundle, tmp_path):
    """A random bundle to change files of."""
    return shutil.copytree(random_bundle, tmp_path / "bundle")


@pytest.fixture(scope="module")
def single_file(random_bundle, tmp_path_factory):
    """A bundle whose base model is one file, described by `base_config/`."""
    folder = tmp_path_factory.mktemp("single") / "bundle"
    for part in ("ControlNetModel", "antelopev2"):
        shutil.copytree(random_bundle / part, folder / part)
    shutil.copy(random_bundle / "ip-adapter.bin", folder)
    write_single_file(random_bundle / "base", folder / "base.safetensors")
    shutil.copytree(random_bundle / "base", folder / "base_config", ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


# Every way to load


@pytest.mark.parametrize(
    "options",
    [
        {"device": "cpu", "offload": "none", "precision": "float32", "memory_fraction": 0.5, "vae_slicing": False},
        {"attention_slicing": True, "vae_tiling": True},
    ],
    ids=lambda options: " ".join(options),
)
def test_ways_to_use_memory_do_not_change_the_picture(random_bundle, plain, options):
    models = loaded(random_bundle, **options)
    assert {name: getattr(models.plan, name) for name in options} == options
    assert np.abs(picture(models) - plain).max() <= ROUNDING


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_makes_nearly_the_same_picture(random_bundle, plain, precision):
    models = loaded(random_bundle, precision=precision)
    assert {models.pipeline.unet.dtype, models.pipeline.controlnet.dtype} == {getattr(torch, precision)}
    difference = np.abs(picture(models) - plain)
    assert 0 < difference.max() < HALF


def test_the_switches_of_the_plan_are_set_on_the_models(random_bundle):
    models = loaded(random_bundle, vae_slicing=False, vae_tiling=True)
    assert (models.pipeline.vae.use_slicing, models.pipeline.vae.use_tiling) == (False, True)
    assert models.pipeline.vae.tile_sample_min_size == 8 * models.pipeline.vae.tile_latent_min_size


def test_a_picture_larger_than_a_tile_is_decoded_in_tiles_to_its_size(random_bundle, monkeypatch):
    for module in (memory_plan, expected_memory):
        monkeypatch.setattr(module, "TILES_GIB", {64: 0.1})
    models = loaded(random_bundle, vae_tiling=True)
    assert models.pipeline.vae.tile_sample_min_size == 64
    (image,) = generate_image(models, replace(REQUEST, width=136, height=96, steps=1)).images
    assert image.size == (136, 96)
    assert np.asarray(image).std() > 10


def test_a_base_in_one_file_makes_the_picture_of_its_folder(single_file, plain):
    assert np.abs(picture(loaded(single_file)) - plain).max() <= ROUNDING


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_base_model_from_elsewhere_replaces_the_bundles_own(single_file, random_bundle, plain, kind, tmp_path):
    here = shutil.copytree(single_file, tmp_path / "bundle")
    own = here / "base.safetensors"
    elsewhere = random_bundle / "base" if kind == "folder" else shutil.copy(own, tmp_path / "civitai.safetensors")
    own.unlink()
    assert np.abs(picture(loaded(here, elsewhere)) - plain).max() <= ROUNDING


def test_a_single_file_without_its_description_names_the_folder_that_it_needs(single_file, tmp_path):
    folder = shutil.copytree(single_file, tmp_path / "bundle")
    shutil.rmtree(folder / "base_config")
    with pytest.raises(UserError, match="base_config") as caught:
        loaded(folder)
    assert caught.value.code == "loading.no_description"
    assert caught.value.facts == {"file": folder / "base.safetensors"}


def test_a_converted_adapter_is_used_and_makes_nearly_the_same_picture(copy, plain):
    converted = convert_to_safetensors(copy / "ip-adapter.bin")
    (copy / "ip-adapter.bin").unlink()
    models = loaded(copy)
    assert models.bundle.adapter == converted
    difference = np.abs(picture(models) - plain)
    assert 0 < difference.max() < HALF


def test_a_converted_adapter_is_preferred_to_the_one_it_was_made_from(copy):
    convert_to_safetensors(copy / "ip-adapter.bin")
    reading_it_would_fail = (copy / "ip-adapter.bin").read_bytes()[:-1000]
    (copy / "ip-adapter.bin").write_bytes(reading_it_would_fail)
    assert picture(loaded(copy)).std() > 10


@pytest.mark.parametrize("models_with_variant", [MODELS, ["unet"]], ids=["all", "only the UNet"])
def test_fp16_variants_are_found_where_there_are_any(copy, plain, models_with_variant):
    for name in models_with_variant:
        (file,) = (copy / "base" / name).glob("*.safetensors")
        file.rename(file.with_suffix(".fp16.safetensors"))
    np.testing.assert_array_equal(picture(loaded(copy)), plain)


def test_a_bundle_of_half_precision_is_loaded_as_the_plan_says(copy, plain):
    for file in (*copy.glob("base/*/*.safetensors"), *copy.glob("ControlNetModel/*.safetensors")):
        save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    models = loaded(copy)
    assert {models.pipeline.unet.dtype, models.pipeline.text_encoder.dtype} == {torch.float32}
    assert np.abs(picture(models) - plain).max() < HALF


# What is said


@pytest.fixture(scope="module", params=LANGUAGES)
def told(request, random_bundle):
    """A language, and the lines of a loading in it."""
    lines = []
    load_models(random_bundle, language=request.param, write=lines.append)
    return request.param, lines


def test_the_first_lines_say_what_is_loaded_and_how_memory_is_used(told):
    language, lines = told
    assert lines[0] == say("loading.description", language, description=DESCRIPTION[language])
    assert lines[1].startswith(say("plan.title", language))


@pytest.mark.parametrize("precision", VAE_PRECISIONS)
def test_pictures_are_decoded_in_the_precision_of_the_plan(random_bundle, precision):
    models = loaded(random_bundle, precision="float16", vae_precision=precision)
    assert models.pipeline.vae.config.force_upcast is (precision == "float32")


def test_every_stage_has_its_memory_line_in_order(told):
    language, lines = told
    named = [stage for line in lines for stage in STAGES if line.startswith(f"📊 {say(f'stage.{stage}', language)}: ")]
    assert named == list(STAGES)


def test_it_is_said_where_faces_are_analysed_and_that_all_is_ready(told):
    language, lines = told
    assert say("loading.faces_on", language, provider="CPUExecutionProvider") in lines
    assert lines[-1].startswith(say("loading.ready", language, seconds="|").split("|")[0])


def test_libraries_add_nothing_to_the_lines(random_bundle, capfd, caplog):
    models = loaded(random_bundle)
    generate_image(models, replace(REQUEST, prompt="person " * 90))
    assert "".join(capfd.readouterr()) == ""
    assert caplog.messages == []


def test_the_line_for_the_page_names_bundle_device_and_precision_in_each_language(models):
    about = models.about()
    assert set(about) == set(LANGUAGES)
    for language, line in about.items():
        assert line == f"{DESCRIPTION[language]} · {models.hardware.name} · float32"


def test_the_native_size_is_the_one_the_base_model_was_made_for(models):
    assert models.native_size == 128


# Without a bundle


@pytest.fixture
def no_gpu(monkeypatch):
    machine = Hardware("cpu", "CPU, 2 cores", None, None, None, 12.7, 9.0, 40.0)
    monkeypatch.setattr(loading, "detect_hardware", lambda folder=None: machine)


@pytest.fixture
def a_gpu(monkeypatch):
    machine = Hardware("cuda", "Tesla T4", (7, 5), 14.7, 14.5, 12.7, 9.0, 40.0)
    monkeypatch.setattr(loading, "detect_hardware", lambda folder=None: machine)


def test_without_a_gpu_and_a_bundle_random_weights_are_made_and_called_so(no_gpu, tmp_path, monkeypatch, plain):
    monkeypatch.setattr(loading, "SHIPPED_BUNDLE", tmp_path / "absent")
    monkeypatch.setenv("INSTANTID_HOME", str(tmp_path / "home"))
    lines = []
    models = load_models(language="en", write=lines.append)
    assert lines[0] == f"📦 {DESCRIPTION['en']}"
    assert models.bundle.identitynet.is_relative_to(tmp_path / "home")
    np.testing.assert_array_equal(picture(models), plain)


@pytest.fixture
def shipped(random_bundle, tmp_path, monkeypatch):
    """A bundle in the place of the one that is shipped, and no published weights."""
    folder = shutil.copytree(random_bundle, tmp_path / "shipped")
    monkeypatch.setattr(loading, "SHIPPED_BUNDLE", folder)
    monkeypatch.setenv("INSTANTID_HOME", str(tmp_path / "home"))
    return folder


@pytest.mark.parametrize("base", [None, DEMO])
def test_without_a_gpu_the_shipped_bundle_is_taken_and_no_random_one_written(shipped, no_gpu, tmp_path, base):
    assert choose_bundle(base=base).folder == shipped
    assert not (tmp_path / "home").exists()


def test_where_no_bundle_is_shipped_a_random_one_is_written(shipped, no_gpu, tmp_path):
    shutil.rmtree(shipped)
    assert choose_bundle().folder == tmp_path / "home" / "random-bundle"


def test_the_demo_can_be_asked_for_beside_a_gpu(shipped, a_gpu):
    assert choose_bundle(base=DEMO).folder == shipped


def test_without_a_network_the_shipped_bundle_is_taken_and_said(shipped, a_gpu):
    lines = []
    assert choose_bundle(language="en", write=lines.append).folder == shipped
    assert lines == [say("loading.no_network", "en")]


@pytest.mark.parametrize("asked", [{"base": "sdxl-base-1.0"}, {}], ids=["a base was asked for", "nothing is shipped"])
def test_without_a_network_nothing_takes_the_place_of_what_was_asked_for(shipped, a_gpu, asked):
    if not asked:
        shutil.rmtree(shipped)
    with pytest.raises(MachineError) as raised:
        choose_bundle(**asked)
    assert raised.value.code == "weights.network"


def test_a_base_that_is_asked_for_is_never_answered_with_random_weights(no_gpu, tmp_path):
    with pytest.raises(UserError) as caught:
        load_models(base="no-such-model", folder=tmp_path, write=lambda line: None)
    assert caught.value.code == "weights.unknown_base"


# What cannot be loaded

BROKEN = {
    "unet": "base/unet/diffusion_pytorch_model.safetensors",
    "vae": "base/vae/diffusion_pytorch_model.safetensors",
    "text encoder": "base/text_encoder/model.safetensors",
    "second text encoder": "base/text_encoder_2/model.safetensors",
    "IdentityNet": "ControlNetModel/diffusion_pytorch_model.safetensors",
}


def refusal(folder):
    """The error of a loading that is refused, as kept by a person's notebook."""
    with pytest.raises(UserError) as caught:
        loaded(folder)
    return caught.value


@pytest.mark.parametrize("name", BROKEN.values(), ids=BROKEN)
def test_weights_that_lack_a_tensor_are_refused_with_their_folder(copy, name):
    """transformers only warns, and goes on with random numbers in the place of what is missing."""
    file = copy / name
    tensors = load_file(file)
    del tensors[next(iter(tensors))]
    save_file(tensors, file, metadata={"format": "pt"})
    error = refusal(copy)
    assert (error.code, error.facts["what"]) == ("loading.failed", file.parent)
    assert str(file.parent) in explain(error, "es")


@pytest.mark.parametrize("name", [BROKEN["unet"], BROKEN["text encoder"]], ids=["unet", "text encoder"])
def test_weights_of_another_model_are_refused_with_their_folder(copy, name):
    file = copy / name
    tensors = {name: tensor[:-1].contiguous() for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    error = refusal(copy)
    assert (error.code, error.facts["what"]) == ("loading.failed", file.parent)


@pytest.mark.parametrize("name", [BROKEN["unet"], BROKEN["IdentityNet"], "ip-adapter.bin"])
def test_weights_that_are_cut_short_are_refused_with_their_file(copy, name):
    file = copy / name
    os.truncate(file, file.stat().st_size // 2)
    error = refusal(copy)
    assert (error.code, error.facts["file"]) == ("weights.damaged", file)


def test_a_config_that_makes_no_sense_is_refused_with_its_folder(copy):
    config = copy / "base/scheduler/scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"beta_schedule": "none of ours"}))
    error = refusal(copy)
    assert (error.code, error.facts["what"]) == ("loading.failed", copy / "base")


@pytest.mark.parametrize("part", ["model.diffusion_model", "first_stage_model", "conditioner.embedders.1"])
def test_a_single_file_that_lacks_a_tensor_is_refused_with_its_name(single_file, tmp_path, part):
    """diffusers would load it with a hole, and fail in the first picture."""
    tensors = load_file(single_file / "base.safetensors")
    del tensors[next(name for name in tensors if name.startswith(part) and name.endswith(".bias"))]
    file = tmp_path / "incomplete.safetensors"
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError) as caught:
        loaded(single_file, file)
    assert (caught.value.code, caught.value.facts["what"]) == ("loading.failed", file)


def test_a_single_file_of_another_kind_of_model_is_refused_with_its_name(single_file, tmp_path):
    file = tmp_path / "lora.safetensors"
    save_file({"lora_unet_down.alpha": torch.ones(1)}, file)
    with pytest.raises(UserError) as caught:
        loaded(single_file, file)
    assert (caught.value.code, caught.value.facts["what"]) == ("loading.failed", file)


def test_an_option_that_is_impossible_here_is_refused_before_anything_is_loaded(random_bundle, no_gpu, monkeypatch):
    monkeypatch.setattr(loading, "FaceAnalyser", None)
    with pytest.raises(UserError) as caught:
        loaded(random_bundle, device="cuda")
    assert caught.value.code == "plan.no_such_device"


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


def test_a_base_that_cannot_be_read_is_found_before_any_weights_are_read(copy, living):
    (copy / "base/vae/config.json").write_text('{"down_block_types": ["NoSuchBlock"]}')
    error = refusal(copy)
    assert error.facts["what"] == copy / "base/vae"
    assert len(living) == 1  # face analysis: no weights are read before all files fit
    assert [reference() for reference in living if reference() is not None] == []


def test_an_adapter_that_cannot_be_read_keeps_nothing_of_what_was_read_before(copy, living):
    content = torch.load(copy / "ip-adapter.bin", weights_only=True)
    content["ip_adapter"].popitem()
    torch.save(content, copy / "ip-adapter.bin")
    assert refusal(copy).code.startswith("adapter.")
    assert len(living) == 6  # face analysis and all models
    assert [reference() for reference in living if reference() is not None] == []


def test_too_little_memory_for_a_single_file_is_not_taken_for_a_damaged_file(single_file, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5135368192 bytes.")

    monkeypatch.setattr(assembly, "map_single_file", fail)
    with pytest.raises(MachineError) as caught:
        loaded(single_file)
    assert caught.value.code == "loading.out_of_memory"


def test_a_bug_in_loading_keeps_its_kind(random_bundle, monkeypatch):
    monkeypatch.setattr(assembly, "_apply", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loaded(random_bundle)


# Giving back


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

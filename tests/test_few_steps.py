"""Pictures in few steps: the right LoRA with the right settings, and what was there before once it is gone."""

import dataclasses

import numpy as np
import pytest
from face_photos import person
from fake_hub import FakeHub, tensors
from lora_files import write_lora

from instantid import weights
from instantid.few_steps import FEW_STEPS, NO_FEW_STEPS, USUAL, usual_settings
from instantid.generation import generate_image
from instantid.loading import load_models
from instantid.messages import LANGUAGES, say
from instantid.request import BOUNDS, SCHEDULERS, GenerationRequest
from ip_adapter.errors import MachineError, UserError

REQUEST = GenerationRequest(person(), "a person", width=64, height=80, seed=3, steps=2)
LIGHTNING = FEW_STEPS["lightning-4"]


def place(folder, few_steps):
    return folder / "loras" / few_steps.repo_id.replace("/", "--") / few_steps.file


@pytest.fixture(scope="module")
def models(random_bundle, tmp_path_factory):
    """Models of their own whose LoRAs are there already."""
    folder = tmp_path_factory.mktemp("home")
    for seed, few_steps in enumerate(FEW_STEPS.values()):
        write_lora(random_bundle, place(folder, few_steps), seed)
    return load_models(random_bundle, folder=folder, write=lambda line: None)


def picture(models, **changes):
    return np.asarray(generate_image(models, dataclasses.replace(REQUEST, **changes)).images[0]).astype(int)


@pytest.mark.parametrize("few_steps", [NO_FEW_STEPS, *FEW_STEPS])
def test_what_is_left_to_a_preset_is_what_it_was_made_for(few_steps):
    request = GenerationRequest(person(), "a person", few_steps=few_steps).checked()
    assert {name: getattr(request, name) for name in USUAL} == usual_settings(few_steps)


def test_what_a_person_sets_beside_a_preset_stays():
    request = GenerationRequest(person(), "a person", few_steps="lightning-4", steps=6, scheduler="lcm").checked()
    assert (request.steps, request.guidance_scale, request.scheduler) == (6, 1.0, "lcm")


def test_a_preset_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(UserError) as caught:
        GenerationRequest(person(), "a person", few_steps="turbo").checked()
    assert caught.value.facts["allowed"] == ", ".join((NO_FEW_STEPS, *FEW_STEPS))


@pytest.mark.parametrize("few_steps", FEW_STEPS.values(), ids=FEW_STEPS)
def test_every_preset_asks_for_what_there_is(few_steps):
    assert few_steps.scheduler in SCHEDULERS
    assert few_steps.suits(few_steps.steps, few_steps.guidance_scale, few_steps.scheduler)
    assert few_steps.guidance_scale >= BOUNDS["guidance_scale"].least
    assert few_steps.file.endswith(".safetensors")


@pytest.mark.parametrize(
    "unsuited", [{"steps": 30}, {"steps": 2}, {"guidance_scale": 5.0}, {"scheduler": "euler"}], ids=str
)
def test_settings_that_do_not_suit_a_preset_are_told(models, unsuited):
    suited = {"steps": 4} | unsuited
    notes = generate_image(models, dataclasses.replace(REQUEST, few_steps="lightning-4", **suited)).notes
    assert [(note.key, note.facts["steps"]) for note in notes] == [("note.few_steps_unsuited", 4)]
    assert {say(notes[0].key, language, **notes[0].facts)[:9] for language in LANGUAGES} == {"«lightnin", "“lightnin"}


def test_settings_that_suit_are_told_nothing(models):
    assert generate_image(models, dataclasses.replace(REQUEST, few_steps="lightning-4", steps=None)).notes == ()


def test_each_preset_draws_with_its_own_lora_and_nothing_of_it_stays(models):
    before = picture(models)
    same = {"guidance_scale": 1.0, "scheduler": "euler_trailing"}
    plain = picture(models, **same)
    drawn = [picture(models, few_steps=name, **same) for name in ("lightning-4", "hyper-4", "lightning-4")]
    assert np.abs(drawn[0] - plain).max() > 2
    assert np.abs(drawn[0] - drawn[1]).max() > 2
    np.testing.assert_array_equal(drawn[2], drawn[0])
    np.testing.assert_array_equal(picture(models), before)
    assert models.pipeline.get_active_adapters() == []


def test_a_lora_of_the_persons_own_stays(models, random_bundle, tmp_path):
    own = write_lora(random_bundle, tmp_path / "own.safetensors", seed=9)
    models.pipeline.load_lora_weights(own.parent, weight_name=own.name, adapter_name="own")
    before = picture(models)
    together = picture(models, few_steps="lightning-4")
    assert sorted(models.pipeline.get_active_adapters()) == ["instantid-lightning-4", "own"]
    np.testing.assert_array_equal(picture(models), before)
    assert models.pipeline.get_active_adapters() == ["own"]
    assert np.abs(together - before).max() > 2
    models.pipeline.unload_lora_weights()


def test_after_a_step_down_the_lora_is_there_again(models):
    wanted = picture(models, few_steps="lightning-4", guidance_scale=1.0)
    models._load_pipeline(type("Monitor", (), {"stage": lambda *_: None})())
    np.testing.assert_array_equal(picture(models, few_steps="lightning-4", guidance_scale=1.0), wanted)


def test_a_file_that_is_no_lora_is_one_sentence_and_the_models_work_on(models, tmp_path, monkeypatch):
    before = picture(models)
    bad = place(tmp_path, LIGHTNING)
    bad.parent.mkdir(parents=True)
    bad.write_bytes(tensors())
    monkeypatch.setattr(models, "folder", tmp_path)
    with pytest.raises(UserError) as caught:
        picture(models, few_steps="lightning-4")
    assert (caught.value.code, caught.value.facts["what"]) == ("loading.lora_failed", bad)
    np.testing.assert_array_equal(picture(models), before)


# Its file


def test_a_file_is_fetched_once_with_its_size_and_licence(quick_client, tmp_path):
    lines = []
    content = {LIGHTNING.file: tensors(5000), "other.safetensors": tensors()}
    with FakeHub({LIGHTNING.repo_id: content}, licences={LIGHTNING.repo_id: "openrail++"}) as hub:
        reports = []
        options = {"endpoint": hub.endpoint, "on_progress": reports.append, "language": "en", "write": lines.append}
        file = weights.obtain_file(LIGHTNING.repo_id, LIGHTNING.file, tmp_path / "loras", **options)
        assert file == place(tmp_path, LIGHTNING)
        assert file.read_bytes() == content[LIGHTNING.file]
        assert hub.files_asked == [LIGHTNING.file]
        assert reports[-1].done_bytes == len(content[LIGHTNING.file])
        assert "openrail++" in lines[1]
    assert weights.obtain_file(LIGHTNING.repo_id, LIGHTNING.file, tmp_path / "loras", **options) == file


def test_a_file_that_the_repository_does_not_have_is_named(quick_client, tmp_path):
    with FakeHub({LIGHTNING.repo_id: {"other.safetensors": tensors()}}) as hub, pytest.raises(MachineError) as caught:
        weights.obtain_file(LIGHTNING.repo_id, LIGHTNING.file, tmp_path, endpoint=hub.endpoint, write=lambda line: None)
    assert caught.value.facts == {"repo": LIGHTNING.repo_id, "file": LIGHTNING.file}

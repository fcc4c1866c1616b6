"""From a request to pictures, end to end: the random bundle, the real loader, face analysis and pipeline."""

import dataclasses
import json
import math
import threading

import insightface.data
import numpy as np
import pytest
import torch
from face_photos import person, two_people
from PIL import Image

from instantid.generation import generate_image
from instantid.images import output_size
from instantid.loading import load_models
from instantid.request import MAX_SEED, SCHEDULERS, GenerationRequest
from instantid.ui_results import picture_settings
from ip_adapter.errors import MachineError, StateError, UserError

PHOTO = two_people()
SMALL = {"negative_prompt": "fog", "steps": 2, "width": 64, "height": 80, "seed": 3}
VISIBLE = 4  # of 255: the least that a setting moves some pixel by; the same request again moves none


def asked(**settings):
    return GenerationRequest(**{"face": PHOTO, "prompt": "a person", **SMALL, **settings})


def picture(models, **settings):
    (image,) = generate_image(models, asked(**settings)).images
    return np.asarray(image).astype(int)


def differ(a, b):
    return a.shape != b.shape or np.abs(a - b).max() >= VISIBLE


@pytest.fixture(scope="module")
def plain(models):
    """The picture of the plain request, to which a test compares its own."""
    return picture(models)


def reports(models, **settings):
    """Every report of a run, in order."""
    received = []
    generate_image(models, asked(**settings), received.append)
    return received


# What the request says takes effect

CHANGES = {
    "face": person(),
    "prompt": "una niña",
    "negative_prompt": "rain",
    "style": "ink",
    "more_faces": [person()],
    "face_index": 1,
    "pose": person(60, centre=(50, 60)),
    "pose_face_index": 1,
    "width": 72,
    "height": 88,
    "steps": 3,
    "guidance_scale": 8.0,
    "guidance_end": 0.0,
    "identity_strength": 0.2,
    "adapter_strength": 0.2,
    "seed": 4,
    "scheduler": "ddim",
    "region_mask": True,
}


def test_every_setting_of_a_request_is_tried_here():
    """`count` and `few_steps` have tests of their own."""
    fields = {field.name for field in dataclasses.fields(GenerationRequest)}
    assert set(CHANGES) == fields - {"count", "few_steps"}


@pytest.mark.parametrize("setting", CHANGES)
def test_a_setting_changes_the_picture(models, plain, setting):
    with_pose = {"pose": PHOTO} if setting == "pose_face_index" else {}  # the plain picture takes it from there anyway
    assert differ(picture(models, **{setting: CHANGES[setting]}, **with_pose), plain)


def test_each_scheduler_makes_a_picture_of_its_own(models):
    pictures = [picture(models, scheduler=name, steps=4) for name in SCHEDULERS]
    alike = [(i, j) for i, a in enumerate(pictures) for j, b in enumerate(pictures[:i]) if not differ(a, b)]
    assert alike == []


@pytest.mark.parametrize("strength", ["identity_strength", "adapter_strength"])
def test_each_way_alone_tells_one_face_from_another(models, strength):
    """With one strength at zero the identity still acts through the other."""
    assert differ(picture(models, **{strength: 0}), picture(models, **{strength: 0}, face=person(), pose=PHOTO))


def test_without_both_ways_it_does_not_matter_whose_face_it_is(models):
    nobody = {"identity_strength": 0, "adapter_strength": 0}
    np.testing.assert_array_equal(picture(models, **nobody), picture(models, **nobody, face=person()))


def test_the_face_photo_given_as_pose_too_changes_nothing(models, plain):
    np.testing.assert_array_equal(picture(models, pose=PHOTO), plain)


def test_the_mean_of_all_photos_embeddings_reaches_the_pipeline(models, monkeypatch):
    received = []
    prepare = type(models.pipeline)._prepare_identity

    def spy(pipeline, image_embeds, *args):
        received.append(image_embeds)
        return prepare(pipeline, image_embeds, *args)

    monkeypatch.setattr(type(models.pipeline), "_prepare_identity", spy)
    photos = [PHOTO, person(), person(70)]
    generate_image(models, asked(face=photos[0], more_faces=photos[1:]))
    expected = np.mean([models.faces.analyse(photo).embedding for photo in photos], axis=0)
    np.testing.assert_allclose(received, [expected], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pose", [None, Image.new("RGB", (300, 200), (30, 40, 90))], ids=["face photo", "pose photo"])
def test_without_a_size_the_picture_has_the_proportions_of_the_photo_that_gives_the_pose(models, pose):
    if pose is not None:
        pose.paste(person(), (80, 20))
    result = generate_image(models, asked(width=None, height=None, face=person(size=(128, 200)), pose=pose))
    expected = output_size(pose.size if pose else (128, 200), models.native_size)
    assert (result.width, result.height) == expected
    assert {picture.size for picture in (*result.images, result.key_points_picture)} == {expected}


def test_a_picture_of_the_real_photo_of_six_people(models):
    photo = np.ascontiguousarray(insightface.data.get_image("t1")[..., ::-1])
    result = generate_image(models, asked(face=photo, width=None, height=None))
    assert (result.width, result.height) == output_size((photo.shape[1], photo.shape[0]), models.native_size)
    assert result.face.count >= 2
    assert np.asarray(result.images[0]).std() > 10


# Seeds


def test_a_request_made_again_gives_the_same_picture(models, plain):
    np.testing.assert_array_equal(picture(models), plain)


def test_zero_is_a_seed_like_any_other(models):
    result = generate_image(models, asked(seed=0))
    assert result.seeds == [0]
    np.testing.assert_array_equal(result.images[0], picture(models, seed=0))


def test_without_a_seed_one_is_drawn_and_told(models):
    result = generate_image(models, asked(seed=None))
    np.testing.assert_array_equal(result.images[0], picture(models, seed=result.seeds[0]))


def test_several_pictures_are_those_of_their_seeds_one_by_one(models):
    """The last seed is followed by the first."""
    result = generate_image(models, asked(count=3, seed=MAX_SEED))
    assert result.seeds == [MAX_SEED, 0, 1]
    for image, seed in zip(result.images, result.seeds):
        np.testing.assert_array_equal(image, picture(models, seed=seed))


def test_a_run_leaves_nothing_behind_for_the_next(models):
    """Whatever the one before asked for. Karras' noise levels show from the third step on."""
    before = picture(models, steps=3)
    everything_else = {"region_mask": True, "scheduler": "dpm++_2m_karras", "style": "photo", "adapter_strength": 1.2}
    picture(models, **everything_else, face=person(), width=72, guidance_scale=1.0)
    np.testing.assert_array_equal(picture(models, steps=3), before)


def test_two_runs_at_once_give_what_each_gives_alone(models, plain):
    made = {}

    def run(name, **settings):
        made[name] = picture(models, **settings)

    settings = {"one": {}, "other": {"face": person(), "scheduler": "heun", "region_mask": True}}
    threads = [threading.Thread(target=run, args=(name,), kwargs=given) for name, given in settings.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(made["one"], plain)
    np.testing.assert_array_equal(made["other"], picture(models, **settings["other"]))


# What is told


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_step_is_told_once_it_is_done_and_none_is_taken_back(models, scheduler):
    """Heun's method calls the UNet twice a step: some of its reports repeat the number before."""
    received = reports(models, scheduler=scheduler, steps=3)
    steps = [report.step for report in received]
    assert steps == sorted(steps)
    assert {report.step for report in received if report.stage == "denoising"} >= {1, 2, 3}
    assert {report.steps for report in received} == {3}


def test_the_steps_of_several_pictures_are_counted_through(models):
    told = [(report.stage, report.step, report.steps) for report in reports(models, steps=2, count=2)]
    assert [step for stage, step, _ in told if stage == "denoising"] == [1, 2, 3, 4]
    assert {steps for _, _, steps in told} == {4}
    assert told[-1] == ("done", 4, 4)


def test_the_stages_follow_one_another(models):
    stages = [report.stage for report in reports(models, steps=2, count=2)]
    one_picture = ["denoising", "denoising", "decoding"]
    assert stages == ["faces", "text", *one_picture, *one_picture, "done"]


def test_the_clock_of_the_reports_never_runs_back(models):
    seconds = [report.seconds for report in reports(models)]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 0


def test_the_times_of_the_stages_fit_into_the_whole(models):
    seconds = dict(generate_image(models, asked(count=2)).seconds)
    total = seconds.pop("total")
    assert set(seconds) == {"faces", "text", "denoising", "decoding"}
    assert min(seconds.values()) > 0
    assert sum(seconds.values()) <= total


def test_a_result_shows_the_face_and_the_key_points_that_were_used(models):
    result = generate_image(models, asked(face_index=1))
    assert result.face.index == 1
    np.testing.assert_array_equal(result.face.embedding, models.faces.analyse(PHOTO, 1).embedding)
    assert result.face_picture.size == result.face.picture(PHOTO).size
    assert np.asarray(result.key_points_picture).any()


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_text_beyond_what_the_encoder_reads_is_told_with_its_length(models, field):
    (note,) = generate_image(models, asked(**{field: "person " * 90})).notes
    assert note.key == "note.text_cut"
    assert note.facts == {"field": field, "count": 90 + 2, "most": 77}  # begin and end count


def test_a_text_that_is_read_whole_gives_no_note(models):
    assert generate_image(models, asked(prompt="person " * 75)).notes == ()


def test_the_settings_of_a_result_make_its_pictures_again_after_a_journey_through_json(models):
    result = generate_image(models, asked(width=None, height=None, seed=None, count=2, style="ink", scheduler="heun"))
    settings = json.loads(json.dumps(result.settings()))
    fields = {field.name for field in dataclasses.fields(GenerationRequest)}
    again = generate_image(models, GenerationRequest(PHOTO, **{k: v for k, v in settings.items() if k in fields}))
    np.testing.assert_array_equal(again.images, result.images)


def test_the_settings_of_one_picture_make_that_picture_again(models):
    result = generate_image(models, asked(count=2))
    settings = picture_settings(result, 1)
    again = picture(models, **{name: settings[name] for name in ("seed", "count", "width", "height")})
    np.testing.assert_array_equal(again, result.images[1])


# Stopping


def cancel_after(models, stage, times=1):
    """Cancels a run of three pictures at the report number `times` of `stage`; how often the UNet was called."""
    received, calls = [], []

    def cancelled():
        return sum(report.stage == stage for report in received) >= times

    counting = models.pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    with counting, pytest.raises(StateError) as caught:
        generate_image(models, asked(steps=2, count=3), received.append, cancelled)
    assert caught.value.code == "generation.cancelled"
    return len(calls)


@pytest.mark.parametrize(
    ("stage", "steps"), [("faces", 0), ("text", 0), ("denoising", 2), ("decoding", 2)], ids=lambda value: str(value)
)
def test_a_cancel_costs_at_most_the_step_that_is_running(models, stage, steps):
    """During the decoding of a picture it keeps the next from beginning."""
    assert cancel_after(models, stage) == steps


def test_after_a_cancel_the_next_run_is_as_ever(models, plain):
    cancel_after(models, "denoising", times=3)
    np.testing.assert_array_equal(picture(models), plain)


def test_a_cancel_while_another_run_has_its_turn_ends_the_wait_before_anything_is_done(models):
    received = []
    answers = iter([False, True])
    with models.lock, pytest.raises(StateError) as caught:
        generate_image(models, asked(), received.append, lambda: next(answers))
    assert caught.value.code == "generation.cancelled"
    assert received == []
    assert not models.lock.locked()


# Failing


@pytest.mark.parametrize("stage", ["text", "denoising", "done"])
def test_a_bug_in_the_receiver_of_reports_reaches_the_caller_and_spoils_no_later_run(models, plain, stage):
    def fail(report):
        if report.stage == stage:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        generate_image(models, asked(), fail)
    np.testing.assert_array_equal(picture(models), plain)


def error_of_run(models, layer, forward):
    """The error of a run in which `layer` does `forward` instead of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer, "forward", forward)
        with pytest.raises(Exception) as caught:
            generate_image(models, asked())
    return caught.value


def raising(error):
    def forward(_):
        raise error

    return forward


def test_another_runtime_error_in_a_step_keeps_its_kind_and_words(models):
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert error_of_run(models, models.pipeline.unet.conv_out, raising(error)) is error


def test_numbers_that_are_not_finite_are_an_error_and_no_black_picture(models, plain):
    def overflow(_):
        return torch.full((1, 3, 80, 64), math.nan)

    error = error_of_run(models, models.pipeline.vae.decoder.conv_out, overflow)
    assert isinstance(error, MachineError)
    assert error.code == "generation.not_finite"
    assert error.facts == {"precision": "float32"}
    np.testing.assert_array_equal(picture(models), plain)


@pytest.mark.parametrize("field", ["face", "pose", "more_faces"])
def test_a_photo_without_a_face_is_refused_wherever_it_is_given(models, field):
    nobody = Image.new("RGB", (200, 100), (30, 40, 90))
    with pytest.raises(UserError) as caught:
        generate_image(models, asked(**{field: [nobody] if field == "more_faces" else nobody}))
    assert caught.value.code == "faces.none"
    assert caught.value.facts == {"width": 200, "height": 100}


def test_a_request_that_cannot_be_is_refused_before_anything_is_done(models):
    received = []
    with pytest.raises(UserError) as caught:
        generate_image(models, asked(steps=0), received.append)
    assert caught.value.code == "request.out_of_range"
    assert received == []


# What is kept for the next picture


def test_a_prompt_that_came_lately_is_not_read_again(random_bundle, monkeypatch):
    models = load_models(random_bundle, write=lambda line: None)
    encoder, read = models.pipeline.text_encoder_2, []
    handle = encoder.register_forward_hook(lambda *_: read.append(1))
    first = picture(models, prompt="a person in the snow")
    both = len(read)  # the prompt and the negative one
    assert both == 2
    np.testing.assert_array_equal(picture(models, prompt="a person in the snow"), first)
    assert len(read) == both
    picture(models, prompt="a person in the rain")
    assert len(read) == 2 * both
    weights = encoder.text_projection.weight
    encoder.text_projection.weight = torch.nn.Parameter(weights.detach() * 2)
    assert differ(picture(models, prompt="a person in the snow"), first)
    assert len(read) == 3 * both
    handle.remove()


def test_several_pictures_of_a_request_read_the_prompt_once(models):
    read = []
    handle = models.pipeline.text_encoder.register_forward_hook(lambda *_: read.append(1))
    generate_image(models, asked(prompt="somebody quite different", count=3))
    handle.remove()
    assert len(read) == 2

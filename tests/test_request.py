"""A request is checked field by field before anything is loaded, and its settings make the same pictures again."""

import json
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import diffusers
import numpy as np
import pytest
from PIL import Image

from instantid.few_steps import USUAL
from instantid.request import (
    BOUNDS,
    MAX_EXTRA_PHOTOS,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    SCHEDULERS,
    WHOLE_NUMBERS,
    GenerationRequest,
    GenerationResult,
)
from instantid.styles import NO_STYLE, STYLES
from ip_adapter.errors import UserError

FACE = Image.new("RGB", (4, 4))
NAN, INF = float("nan"), float("inf")
NO_NUMBERS = [None, "", "5", "thirty", NAN, INF, -INF, True, False, [5], 5j, 10**400, -(10**400), object()]
NOT_A_NAME = [None, "", "no such", 0, True, NAN, ["none"], "NONE", object()]


def request(**changes):
    return GenerationRequest(**{"face": FACE, "prompt": "a sailor", **changes})


def fault(**changes):
    with pytest.raises(UserError) as caught:
        request(**changes).checked()
    return caught.value


def test_a_request_with_a_face_and_a_prompt_is_enough():
    checked = request().checked()
    assert (checked.face, checked.prompt) == (FACE, "a sailor")


def test_checking_twice_changes_nothing_more():
    checked = request().checked()
    assert checked.checked() == checked


def test_checking_leaves_the_request_as_it_was():
    unchecked = request()
    unchecked.checked()
    assert unchecked.seed is None


# Photos


def test_a_missing_face_photo_is_said():
    assert fault(face=None).code == "request.no_face_photo"


@pytest.mark.parametrize("photo", ["one.jpg", Path("one.jpg"), FACE, np.zeros((4, 4, 3), np.uint8)])
def test_one_further_photo_needs_no_list(photo):
    """A path alone would else be read letter by letter."""
    (kept,) = request(more_faces=photo).checked().more_faces
    assert kept is photo


def test_no_further_photos_may_be_none():
    assert request(more_faces=None).checked().more_faces == ()


def test_several_further_photos_are_kept_in_order():
    assert request(more_faces=["b.jpg", "a.jpg"]).checked().more_faces == ("b.jpg", "a.jpg")


def test_too_many_further_photos_are_counted():
    request(more_faces=["a.jpg"] * MAX_EXTRA_PHOTOS).checked()
    error = fault(more_faces=["a.jpg"] * (MAX_EXTRA_PHOTOS + 1))
    assert error.code == "request.too_many_photos"
    assert error.facts == {"count": MAX_EXTRA_PHOTOS + 1, "most": MAX_EXTRA_PHOTOS}


# Texts


@pytest.mark.parametrize("prompt", [None, "", "  \n\t", 5, NAN, True, ["a sailor"], b"a sailor"])
def test_a_missing_prompt_is_said(prompt):
    assert fault(prompt=prompt).code == "request.no_prompt"


def test_no_negative_prompt_may_be_none():
    assert request(negative_prompt=None).checked().negative_prompt == ""


@pytest.mark.parametrize("text", [0, NAN, True, ["lowres"], b"lowres"])
def test_a_negative_prompt_that_is_no_text_is_named(text):
    assert fault(negative_prompt=text).facts["field"] == "negative_prompt"


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_a_text_that_is_too_long_is_named_with_its_length(name):
    request(**{name: "x" * MAX_PROMPT_CHARACTERS}).checked()
    error = fault(**{name: "x" * (MAX_PROMPT_CHARACTERS + 1)})
    assert error.code == "request.text_too_long"
    assert (error.facts["field"], error.facts["length"]) == (name, MAX_PROMPT_CHARACTERS + 1)


# Choices


@pytest.mark.parametrize(("name", "known"), [("style", STYLES), ("scheduler", SCHEDULERS)])
@pytest.mark.parametrize("value", NOT_A_NAME)
def test_an_unknown_choice_is_named_with_all_that_exist(name, known, value):
    if value is None and name in USUAL:
        pytest.skip("left to the few-step preset")
    error = fault(**{name: value})
    assert error.code == "request.unknown_choice"
    assert error.facts == {"field": name, "value": value, "allowed": ", ".join(known)}


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_accepted(style):
    assert request(style=style).checked().style == style


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_exists_and_takes_its_settings(scheduler):
    name, settings = SCHEDULERS[request(scheduler=scheduler).checked().scheduler]
    config = getattr(diffusers, name)(**settings).config
    assert {key: config[key] for key in settings} == settings


@pytest.mark.parametrize("value", [None, "", "no", 2, NAN, object()])
def test_a_region_mask_that_is_neither_on_nor_off_is_named(value):
    """The word "no" would else switch it on."""
    assert fault(region_mask=value).facts["field"] == "region_mask"


@pytest.mark.parametrize("value", [True, False, 1, 0, np.True_, np.False_])
def test_a_region_mask_is_on_or_off(value):
    assert request(region_mask=value).checked().region_mask is bool(value)


# Numbers


def with_number(name, value):
    """Fields that hold `value` at `name`; a size has two sides."""
    return {"width": 512, "height": 512, name: value} if name in ("width", "height") else {name: value}


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: repr(value)[:20])
def test_what_is_no_usable_number_is_named_with_its_bounds(name, value):
    if value is None and name in USUAL:
        pytest.skip("left to the few-step preset")
    error = fault(**with_number(name, value))
    if value is None and name in ("width", "height"):
        assert error.code == "request.one_side"
    else:
        assert error.code == "request.out_of_range"
        assert error.facts == {"field": name, "value": value, "least": BOUNDS[name].least, "most": BOUNDS[name].most}


@pytest.mark.parametrize("name", BOUNDS)
def test_numbers_reach_to_their_bounds_and_no_further(name):
    bounds = BOUNDS[name]
    for value in (bounds.least, bounds.most):
        assert getattr(request(**with_number(name, value)).checked(), name) == value
    for value in (bounds.least - bounds.step, bounds.most + bounds.step):
        assert fault(**with_number(name, value)).code == "request.out_of_range"


@pytest.mark.parametrize("name", sorted(WHOLE_NUMBERS))
def test_a_part_of_a_whole_number_is_refused(name):
    assert fault(**with_number(name, BOUNDS[name].least + 0.5)).code == "request.out_of_range"


@pytest.mark.parametrize("kind", [int, float, np.int64, np.uint8, np.float32, np.float64, Fraction])
def test_numbers_of_any_kind_become_plain_ones(kind):
    checked = request(steps=kind(20), guidance_scale=kind(4), seed=kind(7)).checked()
    assert [type(value) for value in (checked.steps, checked.guidance_scale, checked.seed)] == [int, float, int]
    assert (checked.steps, checked.guidance_scale, checked.seed) == (20, 4, 7)


@pytest.mark.parametrize(("name", "value", "nearest"), [("width", 1023, 1024), ("height", 515, 512), ("width", 67, 64)])
def test_a_side_that_no_vae_can_make_is_named_with_the_nearest(name, value, nearest):
    error = fault(**with_number(name, value))
    assert error.code == "request.size_multiple"
    assert (error.facts["field"], error.facts["nearest"]) == (name, nearest)


@pytest.mark.parametrize("given", ["width", "height"])
def test_one_side_alone_is_refused(given):
    assert fault(**{given: 512}).code == "request.one_side"


# Seeds


@pytest.mark.parametrize("seed", [0, 1, MAX_SEED])
def test_a_seed_is_kept_and_zero_is_one(seed):
    assert request(seed=seed).checked().seed == seed


def test_a_request_without_a_seed_gets_one_of_its_own():
    drawn = [request().checked().seed for _ in range(20)]
    assert len(set(drawn)) > 15
    assert all(isinstance(seed, int) and 0 <= seed <= MAX_SEED for seed in drawn)


@pytest.mark.parametrize(
    "seed", ["", "7", "x", NAN, INF, -INF, True, False, -1, MAX_SEED + 1, 10**400, 0.5, [7], 7j, object()]
)
def test_a_seed_that_is_none_is_named(seed):
    error = fault(seed=seed)
    assert error.code == "request.bad_seed"
    assert error.facts == {"value": seed, "most": MAX_SEED}


def test_each_picture_has_the_next_seed_and_the_last_is_followed_by_zero():
    assert request(seed=MAX_SEED - 1, count=4).checked().seeds() == [MAX_SEED - 1, MAX_SEED, 0, 1]


# Settings


def test_settings_hold_every_field_but_the_photos():
    assert set(request().checked().settings()) == {field.name for field in fields(GenerationRequest)} - {
        "face",
        "more_faces",
        "pose",
    }


def test_settings_written_as_json_make_the_same_request_again():
    checked = request(
        style="oil", more_faces=[FACE], pose=FACE, steps=np.int64(12), width=832, height=1216, seed=5, region_mask=True
    ).checked()
    settings = json.loads(json.dumps(checked.settings(), allow_nan=False))
    assert GenerationRequest(face=FACE, more_faces=(FACE,), pose=FACE, **settings).checked() == checked


def test_settings_of_a_result_hold_those_of_its_request_and_what_came_out():
    checked = request(seed=5, count=2).checked()
    result = GenerationResult([], checked.seeds(), checked, 896, 1152, None, FACE, FACE, None, {"total": 1.23456})
    settings = json.loads(json.dumps(result.settings(), allow_nan=False))
    assert settings.items() >= {**checked.settings(), "width": 896, "height": 1152, "seeds": [5, 6]}.items()
    assert settings["seconds"] == {"total": 1.235}


# Styles


def test_a_style_is_laid_around_the_persons_words():
    prompt, negative = STYLES["oil"].apply("  a sailor ", " hats ")
    assert prompt.startswith("oil painting of a sailor,")
    assert negative == f"hats, {STYLES['oil'].negative}"


@pytest.mark.parametrize("name", STYLES)
def test_every_style_keeps_the_persons_words_once(name):
    prompt, negative = STYLES[name].apply("SAILOR", "HATS")
    assert (prompt.count("SAILOR"), negative.count("HATS")) == (1, 1)
    assert "{" not in prompt


def test_no_style_changes_nothing():
    assert STYLES[NO_STYLE].apply("a sailor", "hats") == ("a sailor", "hats")


def test_a_style_without_negative_words_of_the_persons_own_begins_with_its_own():
    assert STYLES["oil"].apply("a sailor", "")[1] == STYLES["oil"].negative


def test_braces_in_a_prompt_are_kept():
    assert "{a|b} {0}" in STYLES["oil"].apply("{a|b} {0}", "")[0]


def test_every_style_has_a_name_of_its_own_in_both_languages():
    for names in ([style.spanish for style in STYLES.values()], [style.english for style in STYLES.values()]):
        assert all(names)
        assert len(set(names)) == len(names)


def test_no_style_uses_weights_that_sdxl_would_read_as_words():
    assert not any(sign in style.prompt + style.negative for style in STYLES.values() for sign in "():[]")

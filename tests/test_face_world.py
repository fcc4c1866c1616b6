"""The face world: the same numbers give the same picture, key points are where the features are, words are known."""

import dataclasses
import io
import math
import zipfile

import pytest
import torch
from PIL import Image

from instantid.packing import code_archive
from ip_adapter.errors import UserError
from training.face_world import TRAITS, captions, people, render, scenes, vocabulary
from training.face_world.__main__ import main
from training.face_world.captions import WORD
from training.face_world.scene import (
    ACCESSORIES,
    BACKGROUNDS,
    CHOICES,
    CLOTHES,
    DYE_NAMES,
    EXPRESSIONS,
    LEAST_SCALE,
    MOST_SCALE,
    STYLES,
)
from training.face_world.traits import NAMES, choice

SIZE = 64
BALD = 0.01  # of the trait hair_style; nothing then covers the face


def plain(count, **changes):
    """`count` equal scenes of a face that fills most of a studio photo, but for the changes (a number for all)."""
    numbers, choices = torch.zeros(count), torch.zeros(count, dtype=torch.long)
    kept = {"expression", "style", "background", "clothes", "clothes_colour", "accessory", "accessory_colour"}
    fields = dict.fromkeys(kept | {"hair_dye", "texture"}, choices)
    fields |= dict.fromkeys(("roll", "yaw", "pitch", "gaze", "warmth"), numbers)
    fields |= {"centre": torch.full((count, 2), 0.5), "scale": numbers + 0.7, "intensity": numbers + 1}
    fields |= {"light_angle": numbers - math.pi / 2, "light_strength": numbers + 0.5}
    base = dataclasses.replace(scenes(range(count)), **fields)
    spread = {name: torch.as_tensor(change).expand(getattr(base, name).shape) for name, change in changes.items()}
    return dataclasses.replace(base, **spread)


def person(**traits):
    """Someone with middling traits, but for those named."""
    vector = torch.full((1, len(TRAITS)), 0.4)
    for name in ("hair_style", "glasses", "beard", "mole"):
        vector[0, NAMES.index(name)] = BALD
    for name, place in traits.items():
        vector[0, NAMES.index(name)] = place
    return vector


def changed(first, second):
    """The largest change of each pixel, (size, size)."""
    return (first.picture[0] - second.picture[0]).abs().amax(0)


def test_the_same_numbers_give_the_same_people_scenes_and_pictures():
    first, again = (render(people(range(4), 7), scenes(range(4), 7), SIZE) for _ in range(2))
    assert torch.equal(first.picture, again.picture)
    assert torch.equal(first.key_points, again.key_points)


def test_a_person_and_a_scene_do_not_depend_on_those_drawn_with_them():
    assert torch.equal(people([5, 900], 3)[1], people([900], 3)[0])
    together, alone = scenes([5, 900], 3)[1], scenes([900], 3)
    assert all(torch.equal(getattr(together, f.name), getattr(alone, f.name)) for f in dataclasses.fields(alone))


def test_a_batch_equals_its_pictures_drawn_alone():
    persons, shown = people(range(12), 1), scenes(range(12), 1)
    batch = render(persons, shown, SIZE)
    alone = torch.cat([render(persons[i : i + 1], shown[i], SIZE).picture for i in range(12)])
    torch.testing.assert_close(batch.picture, alone, atol=1e-4, rtol=0)


def test_another_seed_gives_other_people_and_scenes():
    assert (people(range(8), 0) - people(range(8), 1)).abs().mean() > 0.2
    assert not torch.equal(scenes(range(8), 0).centre, scenes(range(8), 1).centre)


def test_two_people_differ_in_several_traits_clearly():
    persons = people(range(200))
    distance = (persons[:, None] - persons[None]).abs()
    different = (distance > 0.2).sum(-1) + len(TRAITS) * torch.eye(200, dtype=torch.long)
    assert different.min() >= 6


def test_every_choice_of_every_trait_is_met():
    persons = people(range(400))
    for name, trait in TRAITS.items():
        if trait.choices:
            assert set(choice(persons, name).tolist()) == set(range(len(trait.choices)))


def test_faces_lie_in_the_picture_at_all_promised_sizes():
    shown = scenes(range(400))
    boxes = render(people(range(8)), shown[:8], SIZE).box
    assert ((boxes[:, 2:] - boxes[:, :2]) > SIZE / 10).all()
    assert shown.scale.min() < LEAST_SCALE + 0.03
    assert MOST_SCALE - 0.06 < shown.scale.max() <= MOST_SCALE
    assert (shown.centre - shown.scale[:, None] / 2).min() >= 0
    assert (shown.centre + shown.scale[:, None] / 2).max() <= 1


def test_key_points_and_box_grow_exactly_with_the_size():
    persons, shown = people(range(3)), scenes(range(3))
    small, large = render(persons, shown, SIZE), render(persons, shown, 3 * SIZE)
    torch.testing.assert_close(small.key_points * 3, large.key_points)
    torch.testing.assert_close(small.box * 3, large.box)


def test_a_picture_looks_the_same_at_another_size():
    persons, shown = people(range(4)), plain(4, background=torch.arange(4))
    small, large = render(persons, shown, 96), render(persons, shown, 192)
    shrunk = torch.nn.functional.avg_pool2d(large.picture, 2)
    assert (shrunk - small.picture).abs().mean() < 0.02


def test_moving_and_rolling_a_face_moves_its_points_alike():
    who = person()
    straight = render(who, plain(1), SIZE).key_points[0] - SIZE / 2
    angle = torch.tensor(0.4)
    shown = plain(1, roll=angle, centre=torch.tensor([0.45, 0.55]))
    turning = torch.tensor([[angle.cos(), angle.sin()], [-angle.sin(), angle.cos()]])
    expected = straight @ turning + torch.tensor([0.45, 0.55]) * SIZE
    torch.testing.assert_close(render(who, shown, SIZE).key_points[0], expected)


@pytest.mark.parametrize("yaw", [-0.6, 0.0, 0.6])
@pytest.mark.parametrize("roll", [-0.4, 0.3])
def test_another_eye_colour_shows_at_the_eye_points_and_nowhere_else(yaw, roll):
    shown = plain(1, yaw=torch.tensor(yaw), roll=torch.tensor(roll), pitch=torch.tensor(0.15))
    brown, blue = (render(person(eye_colour=colour), shown, 128) for colour in (0.0, 0.8))
    change = changed(brown, blue)
    rows, columns = (change > 0.1).nonzero(as_tuple=True)
    places = torch.stack([columns, rows], 1) + 0.5
    distances = torch.cdist(places, brown.key_points[0, :2])
    assert distances.min(1).values.max() < 128 * 0.08
    for eye in (0, 1):
        middle = places[distances.argmin(1) == eye].mean(0)
        assert (middle - brown.key_points[0, eye]).norm() < 128 * 0.015


def test_the_nose_point_turns_further_than_the_eyes():
    ahead, aside = (render(person(), plain(1, yaw=torch.tensor(yaw)), SIZE).key_points[0] for yaw in (0.0, 0.5))
    moved = (aside - ahead)[:, 0]
    assert moved[2] > moved[:2].max() > 0


def test_the_ends_of_the_lips_are_at_the_mouth_points():
    thin, full = (render(person(lip_fullness=place), plain(1), 128) for place in (0.0, 1.0))
    columns = (changed(thin, full) > 0.08).nonzero()[:, 1] + 0.5
    left, right = thin.key_points[0, 3:, 0]
    assert left - 4 < columns.min() < left + 10
    assert right - 10 < columns.max() < right + 4


def test_the_eyes_of_a_person_keep_their_distance_in_every_scene():
    shown = dataclasses.replace(scenes(range(9)), yaw=torch.zeros(9), pitch=torch.zeros(9))
    points = render(people([4]).expand(9, -1), shown, SIZE).key_points
    apart = (points[:, 1] - points[:, 0]).norm(dim=1) / shown.scale
    torch.testing.assert_close(apart, apart[:1].expand(9), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("field", "names"),
    [("style", STYLES), ("background", BACKGROUNDS), ("expression", EXPRESSIONS), ("clothes", CLOTHES),
     ("accessory", ACCESSORIES), ("hair_dye", DYE_NAMES)],
)  # fmt: skip
def test_every_choice_of_a_scene_shows(field, names):
    count = len(names)
    shown = plain(count, scale=torch.tensor(0.4), **{field: torch.arange(count)})
    pictures = render(person(hair_style=0.25).expand(count, -1), shown, 96).picture
    clearly = (pictures[:, None] - pictures[None]).abs().amax(2) > 0.15  # (count, count, size, size)
    assert (clearly.sum((2, 3)) + 100 * torch.eye(count)).min() >= 12


@pytest.mark.parametrize("style", range(len(STYLES)), ids=STYLES)
def test_no_style_erases_who_it_is(style):
    first, second = people([0, 2])[:, None]
    shown = plain(1, style=torch.tensor(style))
    assert changed(render(first, shown, SIZE), render(second, shown, SIZE)).mean() > 0.05


def test_a_dye_hides_the_own_colour_of_hair():
    black, blond = person(hair_style=0.6, hair_colour=0.0), person(hair_style=0.6, hair_colour=0.8)
    own, dyed = (plain(1, hair_dye=torch.tensor(dye)) for dye in (0, 2))
    assert changed(render(black, dyed, SIZE), render(blond, dyed, SIZE)).mean() < 0.02
    assert changed(render(black, own, SIZE), render(blond, own, SIZE)).mean() > 0.1


def test_pictures_are_finite_and_between_black_and_white():
    picture = render(people(range(24), 9), scenes(range(24), 9), SIZE).picture
    assert picture.dtype == torch.float32
    assert picture.min() >= 0
    assert picture.max() <= 1  # nan fails both


def test_captions_use_only_words_of_the_vocabulary():
    known = set(vocabulary())
    texts = captions(scenes(range(1500)))
    assert all(set(text.replace(",", " , ").split()) <= known for text in texts)
    assert {word for text in texts for word in WORD.findall(text)} == known


def test_the_caption_of_a_scene_is_always_the_same_and_another_seed_words_it_differently():
    shown = scenes(range(40))
    assert captions(shown)[7] == captions(shown[7])[0]
    assert captions(shown, 1) != captions(shown)


def test_a_caption_speaks_of_hair_only_where_it_is_dyed():
    shown = scenes(range(300))
    spoken = {bool(dye) for dye, text in zip(shown.hair_dye.tolist(), captions(shown)) if "hair" in text}
    assert spoken == {True}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_does_not_exist_is_named_with_those_that_do(name):
    wrong = plain(1, **{name: torch.tensor(99)})
    with pytest.raises(UserError, match=rf"^{name} is 99 in a scene; it goes from 0 to \d+: {CHOICES[name][0]}, "):
        render(person(), wrong, SIZE)


@pytest.mark.parametrize(
    ("persons", "changes", "size", "sentence"),
    [
        (person(), {"yaw": torch.tensor(1.0)}, SIZE, r"^yaw is 1\.0 in a scene; it must be from -0\.61\d* to 0\.61"),
        (person(), {"scale": torch.tensor(math.nan)}, SIZE, r"^scale is nan in a scene"),
        (person() * 3, {}, SIZE, r"^A trait is 1\.2\d*; traits go from 0 to 1"),
        (person()[:, 1:], {}, SIZE, r"^People of shape \(1, 29\) were given; \(n, 30\) is needed"),
        (person().expand(2, -1), {}, SIZE, r"^2 people and 1 scenes were given"),
        (person(), {}, 32, r"^Size 32 cannot be used: it must be a whole number of pixels from 64 to 2048"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_sentence(persons, changes, size, sentence):
    with pytest.raises(UserError, match=sentence):
        render(persons, plain(1, **changes), size)


@pytest.mark.parametrize(
    ("indices", "sentence"), [([], "at least one"), ([3, -1], "Number -1"), ([2**41], "go from 0")]
)
def test_numbers_that_name_nobody_are_refused(indices, sentence):
    for draw in (people, scenes):
        with pytest.raises(UserError, match=sentence):
            draw(indices)


def test_the_command_writes_a_sheet_and_prints_captions(tmp_path, capsys):
    output = tmp_path / "sheet.png"
    options = ["--people", "2", "--columns", "3", "--size", "64", "--show-points", "--captions"]
    assert main(["--output", str(output), *options]) == 0
    assert capsys.readouterr().out.splitlines() == captions(scenes(range(6)))
    with Image.open(output) as sheet:
        assert sheet.size == (192, 128)


def test_the_command_explains_a_size_that_is_too_small(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("INSTANTID_LANGUAGE", "en")
    assert main(["--output", str(tmp_path / "sheet.png"), "--size", "8"]) == 2
    assert "Size 8 cannot be used" in capsys.readouterr().err


def test_the_zip_of_the_notebook_carries_no_training_code():
    with zipfile.ZipFile(io.BytesIO(code_archive())) as archive:
        assert not [name for name in archive.namelist() if "training/" in name]

"""The evaluation as a command: what is asked, the report of the random bundle, going on after a kill."""

import json
import re
import shutil
import sys
from copy import copy
from types import SimpleNamespace

import numpy as np
import pytest
from face_photos import person
from PIL import Image
from test_random_face_pack import SKINS

from instantid.__main__ import build_parser, main
from instantid.evaluation.drawn import drawn_count, drawn_people
from instantid.evaluation.obedience import TRAITS
from instantid.evaluation.people import Person, people_in
from instantid.evaluation.plan import cases_of, plan_from
from instantid.evaluation.prompts import DEFAULT_PROMPTS, Prompt, read_prompts
from instantid.evaluation.variants import Loading, parse_variants
from instantid.images import open_photo
from instantid.messages import LANGUAGES, UserError, say
from instantid.request import GenerationResult
from training.face_world import vocabulary
from training.face_world.captions import WORD
from training.face_world.scene import CHOICES

FACE_HEIGHTS = {"ana": 90, "ben": 100, "cleo": 110}


# What is asked


def test_each_vary_gives_rows_after_the_one_without_changes():
    rows = parse_variants([["steps=4,8"], ["identity-strength=0", "adapter_strength=0,0.5"]])
    assert [row.name for row in rows] == [
        *("", "steps=4", "steps=8"),
        *("identity_strength=0 adapter_strength=0", "identity_strength=0 adapter_strength=0.5"),
    ]
    assert rows[-1].fields == {"identity_strength": 0.0, "adapter_strength": 0.5}


def test_a_row_may_say_how_the_bundle_is_loaded_and_how_many_photos_count():
    _, row = parse_variants(
        [["storage=int8", "heads=20", "references=4", "region_mask=on", "negative_prompt=fog, rain"]]
    )
    assert (row.loading, row.references) == (Loading("int8", 20), 4)
    assert row.fields == {"region_mask": True, "negative_prompt": "fog, rain"}


@pytest.mark.parametrize(
    "word",
    ["steps", "speed=9", "face=me.jpg", "steps=many", "storage=tape", "heads=0", "references=x", "region_mask=2"],
)
def test_a_word_that_varies_nothing_is_named(word):
    with pytest.raises(UserError, match=word.partition("=")[2] or word):
        parse_variants([[word]])


def test_a_prompt_file_has_words_or_objects_on_its_lines(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text('a person\n\n{"prompt": "an ink drawing", "style": "ink"}\n')
    assert read_prompts(file) == (Prompt("a person"), Prompt("an ink drawing", {"style": "ink"}))


@pytest.mark.parametrize(
    "line", ['{"prompt": "x"', '{"style": "ink"}', '{"prompt": "x", "mood": "ink"}', '{"prompt": 1}']
)
def test_a_line_that_is_no_prompt_is_named_with_its_number(tmp_path, line):
    file = tmp_path / "prompts.txt"
    file.write_text(f"a person\n{line}\n")
    with pytest.raises(UserError, match=r"Line 2 of .*prompts\.txt"):
        read_prompts(file)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"], ids=["empty", "blank", "binary"])
def test_a_file_without_prompts_is_named(tmp_path, content):
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(file))):
        read_prompts(file)


def test_the_default_prompts_name_what_the_drawn_world_has_in_its_own_words():
    classes = {trait: CHOICES["hair_dye" if trait == "hair" else trait] for trait in TRAITS}
    for trait, names in classes.items():
        wanted = {prompt.wanted[trait] for prompt in DEFAULT_PROMPTS if trait in prompt.wanted}
        assert wanted == set(names) - {"natural"}
    words = {word for prompt in DEFAULT_PROMPTS for word in WORD.findall(prompt.text)}
    assert words <= set(vocabulary())


def a_plan(**facts):
    return SimpleNamespace(**({"prompts": "abc", "count": 2, "seed": 7, "own_poses": False} | facts))


def test_prompts_poses_and_seeds_go_on_from_one_person_to_the_next():
    people = [Person(name, (), ("x", "y")) for name in "pqr"]
    cases = cases_of(a_plan(), people, poses=5)
    assert [(case.person, case.prompt, case.pose, case.seed) for case in cases] == [
        *((0, 0, 0, 7), (0, 1, 1, 8), (1, 2, 2, 9), (1, 0, 3, 10), (2, 1, 4, 11), (2, 2, 0, 12)),
    ]


def test_without_poses_a_person_takes_those_of_every_other_and_never_their_own():
    cases = cases_of(a_plan(count=4), [Person(name, (), ()) for name in "pqr"], poses=0)
    assert [case.pose for case in cases] == [1, 2, 1, 2, 2, 0, 2, 0, 0, 1, 0, 1]


def test_own_poses_are_the_persons_further_photos_in_turn():
    cases = cases_of(a_plan(own_poses=True), [Person("p", (), "ab"), Person("q", (), "c")], poses=0)
    assert [case.pose for case in cases] == [0, 1, 0, 0]


# People


def write_album(folder):
    """A folder with three people: ana has three photos, the others one each."""
    (folder / "ana").mkdir(parents=True)
    for name, skin in zip("123", SKINS.values()):
        person(FACE_HEIGHTS["ana"], skin=skin).save(folder / "ana" / f"{name}.png")
    for name in ("ben", "cleo"):
        person(FACE_HEIGHTS[name]).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("who is who")
    return folder


@pytest.fixture
def album(tmp_path):
    return write_album(tmp_path / "album")


def test_the_first_photo_of_a_person_is_drawn_from_and_the_others_are_compared_with(album):
    ana, ben, cleo = people_in(album)
    assert [path.name for path in ana.references + ana.others] == ["1.png", "2.png", "3.png"]
    assert (ana.name, ben.name, cleo.name) == ("ana", "ben", "cleo")
    assert ben.references == ben.others == (album / "ben.png",)


def test_a_person_with_too_few_photos_for_the_references_is_named(album):
    (album / "ben.png").unlink()
    (album / "cleo.png").unlink()
    assert len(people_in(album, references=2)[0].references) == 2
    with pytest.raises(UserError, match="Photos of “ana”: 3; 4 are needed"):
        people_in(album, references=3)


def test_drawn_people_are_the_same_each_time_and_each_another():
    (first, second), poses = drawn_people(2, references=2)
    (again, _), _ = drawn_people(2, references=2)
    assert (len(first.references), len(first.others), len(poses)) == (2, 1, 2)
    pictures = [np.asarray(picture) for picture in (*first.references, *first.others, *second.references, *poses)]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    np.testing.assert_array_equal(again.references[0], first.references[0])


def test_a_drawn_person_has_the_same_references_however_many_people_there_are():
    few, many = drawn_people(2)[0], drawn_people(3)[0]
    assert few[1].references == many[1].references


def test_drawn_people_bring_poses_of_others(tmp_path):
    plan = plan_from(build_parser("en").parse_args(asking("bundle", "drawn:2", tmp_path, "--vary", "references=1,2")))
    assert [len(person.references) for person in plan.people] == [2, 2]
    assert len(plan.poses) == 2


@pytest.mark.parametrize(("text", "count"), [("drawn", 16), ("drawn:5", 5), ("album", None), ("drawnings", None)])
def test_drawn_people_are_asked_for_by_their_number(text, count):
    assert drawn_count(text) == count


@pytest.mark.parametrize("text", ["drawn:1", "drawn:many", "drawn:", "drawn:9999"])
def test_a_number_of_drawn_people_that_is_none_is_refused(text):
    with pytest.raises(UserError, match=text):
        drawn_count(text)


def test_where_there_is_no_face_world_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "training.face_world", None)
    with pytest.raises(UserError, match="cloned repository"):
        drawn_people(2)


# The command


def asking(bundle, people, output, *more):
    small = ["--steps", "1", "--size", "64", "80", "--count", "1", "--language", "en"]
    return ["evaluate", "--bundle", str(bundle), "--people", str(people), "--output", str(output), *small, *more]


def refused(capsys, line):
    assert main(line) == 2
    said = capsys.readouterr().err
    assert said.startswith("❌ ")
    return said


def rows_of(output):
    return json.loads((output / "report.json").read_text(encoding="utf-8"))["rows"]


def as_whole(random_bundle, folder):
    """An evaluation in four rows, one of which asks for what the first has."""
    varied = ["--vary", "adapter_strength=0.8,0", "--vary", "heads=8"]
    return asking(random_bundle, folder / "album", folder / "out", *varied)


@pytest.fixture(scope="module")
def whole(random_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    shutil.rmtree(write_album(folder / "album") / "ana")
    assert main(as_whole(random_bundle, folder)) == 0
    return folder / "out"


def test_the_report_has_a_row_for_each_variant_and_a_sheet(whole):
    lines = (whole / "report.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")][2:] == [
        *("| as it is", "| `adapter_strength=0.8`", "| `adapter_strength=0`", "| `heads=8`"),
    ]
    with Image.open(whole / "grid.png") as sheet:
        assert sheet.width > sheet.height > 300


def test_all_rows_have_the_same_people_prompts_and_seeds(whole):
    asked = [[(one["person"], one["prompt"], one["seed"]) for one in row["results"]] for row in rows_of(whole)]
    assert [case[2] for case in asked[0]] == [0, 1]
    assert all(row == asked[0] for row in asked)


def test_every_single_picture_is_there_in_the_size_asked_for(whole):
    files = {one["file"] for row in rows_of(whole) for one in row["results"]}
    assert {Image.open(whole / file).size for file in files} == {(64, 80)}


def test_rows_that_ask_for_the_same_share_their_pictures_and_others_do_not(whole):
    plain, same, without, heads = ([one["file"] for one in row["results"]] for row in rows_of(whole))
    assert plain == same
    assert len({*plain, *without, *heads}) == 6
    contents = {Image.open(whole / file).tobytes() for file in {*plain, *without, *heads}}
    assert len(contents) == 6


def test_the_notes_say_that_the_score_is_kind_and_what_chance_would_give(whole):
    text = (whole / "report.md").read_text(encoding="utf-8")
    assert say("evaluate.note_chance", "en", people=2, chance="50 %") in text
    assert say("evaluate.note_same_recogniser", "en") in text
    assert say("evaluate.note_no_classifier", "en") in text


def test_what_is_there_is_not_made_again(whole, random_bundle, monkeypatch):
    before = rows_of(whole)
    monkeypatch.setattr("instantid.evaluation.run.generate_image", lambda *_: 1 / 0)
    assert main(as_whole(random_bundle, whole.parent)) == 0
    assert rows_of(whole) == before


class Photographer:
    """A stand-in for generation: its pictures are the photo that was given, on the canvas as it is."""

    def __init__(self, fails_after=None):
        self.made, self.fails_after = 0, fails_after

    def __call__(self, models, request):
        if self.made == self.fails_after:
            raise KeyboardInterrupt
        self.made += 1
        photo = open_photo(request.face)
        face = models.faces.analyse(photo)
        return GenerationResult(
            *([photo], request.seeds(), request, *photo.size, face, photo, photo, face.key_points, {"total": 1.5})
        )


@pytest.fixture
def photographer(monkeypatch):
    def hired(**how):
        photographer = Photographer(**how)
        monkeypatch.setattr("instantid.evaluation.run.generate_image", photographer)
        return photographer

    return hired


@pytest.fixture
def loaded(models, monkeypatch):
    """The random bundle, loaded already and never released."""
    kept = copy(models)
    kept.release = lambda: None
    monkeypatch.setattr("instantid.evaluation.command.load_bundle", lambda *_args, **_kwargs: kept)


@pytest.mark.parametrize("language", LANGUAGES)
def test_pictures_that_are_the_photo_are_identified_to_the_last(
    loaded, random_bundle, album, tmp_path, photographer, language
):
    photographer()
    shutil.rmtree(album / "ana")
    assert main([*asking(random_bundle, album, tmp_path / "out"), "--language", language]) == 0
    (row,) = rows_of(tmp_path / "out")
    assert row["likeness"]["mean"] == pytest.approx(1, abs=1e-5)
    assert (row["identified"]["mean"], row["point_error"]["mean"], row["seconds"]) == (1, 0, 1.5)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {say('evaluate.title', language)}")
    assert say("evaluate.note_same_photo", language) in text


def test_after_an_interruption_only_what_is_missing_is_made(
    loaded, random_bundle, album, tmp_path, photographer, capsys
):
    line = [*asking(random_bundle, album, tmp_path / "out"), "--vary", "steps=2,3"]
    photographer(fails_after=4)
    assert main(line) == 130
    assert [row["name"] for row in rows_of(tmp_path / "out")] == [""]  # of the rows that were done there is a report
    assert photographer_makes(photographer, line) == 5
    assert [len(row["results"]) for row in rows_of(tmp_path / "out")] == [3, 3, 3]


def photographer_makes(photographer, line):
    """How many pictures are made for this command line."""
    hired = photographer()
    assert main(line) == 0
    return hired.made


def test_a_photo_that_changed_is_drawn_again(loaded, random_bundle, album, tmp_path, photographer):
    line = [*asking(random_bundle, album, tmp_path / "out"), "--poses", str(album / "ana")]
    assert photographer_makes(photographer, line) == 3
    person(FACE_HEIGHTS["ben"], skin=SKINS["brown"]).save(album / "ben.png")
    assert photographer_makes(photographer, line) == 3  # everybody is compared with him


def test_people_and_poses_without_a_face_are_left_out_and_named(loaded, random_bundle, album, tmp_path, photographer):
    photographer()
    Image.new("RGB", (90, 120)).save(album / "dark.png")
    assert main(asking(random_bundle, album, tmp_path / "out")) == 0
    assert {one["person"] for one in rows_of(tmp_path / "out")[0]["results"]} == {"ana", "ben", "cleo"}
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert say("evaluate.note_left_out", "en", count=1, names="dark.png") in text


def test_more_references_are_averaged_and_never_compared_with(
    loaded, random_bundle, album, tmp_path, photographer, monkeypatch
):
    seen = []
    photographer()
    monkeypatch.setattr(Photographer, "__call__", recorded(seen, Photographer.__call__))
    shutil.copytree(album / "ana", album / "zoe")
    for name in ("ben.png", "cleo.png"):
        (album / name).unlink()
    line = asking(random_bundle, album, tmp_path / "out", "--vary", "references=2", "--poses", "own")
    assert main(line) == 0
    ana = [request for request in seen if "ana" in str(request.face)]
    assert [[path.name for path in request.more_faces] for request in ana] == [[], ["2.png"]]
    assert {request.pose.name for request in ana} == {"3.png"}


def recorded(requests, call):
    def wrapper(self, models, request):
        requests.append(request)
        return call(self, models, request)

    return wrapper


def test_without_people_the_examples_of_the_bundle_are_taken(loaded, random_bundle, album, tmp_path, photographer):
    bundle = shutil.copytree(random_bundle, tmp_path / "bundle")
    shutil.copytree(album, bundle / "examples")
    assert photographer_makes(photographer, drop_people(asking(bundle, "", tmp_path / "out"))) == 3


def drop_people(line):
    where = line.index("--people")
    return line[:where] + line[where + 2 :]


def test_a_bundle_without_examples_asks_for_people(random_bundle, tmp_path, capsys):
    assert "--people" in refused(capsys, drop_people(asking(random_bundle, "", tmp_path)))


def test_one_person_alone_cannot_be_told_from_others(loaded, random_bundle, album, tmp_path, capsys):
    for name in ("ben.png", "cleo.png"):
        (album / name).unlink()
    assert "at least 2 are needed" in refused(capsys, asking(random_bundle, album, tmp_path))


def test_poses_in_which_nobody_is_seen_are_said(loaded, random_bundle, album, tmp_path, capsys):
    (tmp_path / "poses").mkdir()
    Image.new("RGB", (90, 120)).save(tmp_path / "poses" / "dark.png")
    said = refused(capsys, asking(random_bundle, album, tmp_path, "--poses", str(tmp_path / "poses")))
    assert "(photos: 1)" in said


def test_a_photo_that_cannot_be_read_is_named(loaded, random_bundle, album, tmp_path, capsys):
    (album / "letter.jpg").write_text("Dear all")
    assert "letter.jpg" in refused(capsys, asking(random_bundle, album, tmp_path))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--people", "no/such/folder"], "no/such/folder"),
        (["--people", "{empty}"], "no photos"),
        (["--poses", "{empty}"], "no photos"),
        (["--prompts", "{empty}/absent.txt"], "absent.txt"),
        (["--vary", "steps=1000"], "“steps” is 1000"),
        (["--vary", "scheduler=none"], "“scheduler”"),
        (["--count", "0"], "“count” is 0"),
        (["--seed", "-1"], "-1"),
        (["--size", "9"], "9"),
        (["--size", "64", "80", "96"], "64 80 96"),
        (["--vary", "references=9"], "are needed"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    random_bundle, album, tmp_path, monkeypatch, capsys, option, said
):
    monkeypatch.setattr("instantid.evaluation.command.load_bundle", lambda *_: 1 / 0)
    (tmp_path / "empty").mkdir()
    option = [word.replace("{empty}", str(tmp_path / "empty")) for word in option]
    assert said in refused(capsys, [*asking(random_bundle, album, tmp_path / "out"), *option])


def test_a_report_that_cannot_be_written_is_one_line(random_bundle, album, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "cannot be written to" in refused(capsys, asking(random_bundle, album, tmp_path / "file" / "out"))

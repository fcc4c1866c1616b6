"""The evaluation: each metric by cases made by hand, the command on the random bundle, going on after a kill."""

import json
import re
import shutil
import sys
from copy import copy
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from face_photos import person
from onnx import TensorProto, helper
from PIL import Image
from test_random_face_pack import SKINS

from instantid.__main__ import build_parser, main
from instantid.bundle import open_bundle
from instantid.evaluation.drawn import drawn_count, drawn_people
from instantid.evaluation.figures import figures_of
from instantid.evaluation.identification import rank
from instantid.evaluation.intervals import Estimate, estimate
from instantid.evaluation.judge import Judge, Result, read_result, write_result
from instantid.evaluation.key_points import point_error
from instantid.evaluation.likeness import likeness, template, unit
from instantid.evaluation.obedience import TRAITS, TraitClassifier
from instantid.evaluation.people import Person, people_in
from instantid.evaluation.plan import Case, cases_of, plan_from
from instantid.evaluation.prompts import DEFAULT_PROMPTS, Prompt, read_prompts
from instantid.evaluation.run import Row
from instantid.evaluation.variants import Loading, Variant, parse_variants
from instantid.faces import FaceAnalyser
from instantid.images import open_photo
from instantid.messages import LANGUAGES, UserError, say
from instantid.random_face_pack import random_recogniser
from instantid.request import GenerationResult
from training.face_world import vocabulary
from training.face_world.captions import WORD
from training.face_world.scene import CHOICES

FACE_HEIGHTS = {"ana": 90, "ben": 100, "cleo": 110}


def vector(*numbers):
    """An embedding that begins with these numbers."""
    return np.pad(np.array(numbers, dtype=np.float32), (0, 512 - len(numbers)))


def result(**facts):
    """A result of a picture that is as it should be, but for `facts`."""
    usual = {"likeness": 0.5, "rank": 0, "point_error": 0.1, "traits": {}}
    return Result(**(usual | {"seconds": 1.0, "is_first": False, "peak_vram_gib": None} | facts))


# Metrics


def test_likeness_is_the_cosine_whatever_the_lengths():
    assert likeness(vector(3, 4), unit(vector(20, 0))) == pytest.approx(0.6)


def test_a_template_lies_between_the_photos_and_no_photo_counts_more_for_its_length():
    np.testing.assert_allclose(template([vector(9, 0), vector(0, 1)]), vector(0.5**0.5, 0.5**0.5), atol=1e-6)


@pytest.mark.parametrize(("embedding", "better"), [(vector(1, 0.1), 1), (vector(0, 1), 0), (vector(0.1, -1), 2)])
def test_the_rank_is_the_number_of_others_who_are_more_alike(embedding, better):
    gallery = np.stack([vector(1, 0), vector(0, 1), unit(vector(-1, 1))])
    assert rank(embedding, gallery, person=1) == better


def test_whom_another_equals_is_not_identified():
    assert rank(vector(1, 2), np.stack([unit(vector(1, 1))] * 2), person=0) == 1


def test_the_point_error_is_a_share_of_the_eye_distance_that_was_asked_for():
    asked = np.array([(10, 10), (30, 10), (20, 20), (14, 30), (26, 30)], dtype=float)
    found = asked + np.array([(0, 3)] * 4 + [(0, 8)])
    assert point_error(asked, found) == pytest.approx((3 * 5 + 5) / 5 / 20)


def test_a_mean_is_of_all_values_and_lies_in_its_interval():
    found = estimate([[1.0, 0.0], [1.0], [], [0.0, 0.0, 1.0]])
    assert found.mean == pytest.approx(0.5)
    assert 0 <= found.low < found.mean < found.high <= 1


def test_people_who_differ_make_an_interval_and_pictures_of_one_do_not():
    assert estimate([[0.2, 0.8], [0.8, 0.2], [0.5]]) == Estimate(0.5, 0.5, 0.5)


def test_more_people_make_a_narrower_interval():
    few, many = (estimate([[float(i % 2)] for i in range(count)]) for count in (10, 200))
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_nothing_measured_is_no_figure():
    assert estimate([[], []]) is None


ANY_PROMPT = Prompt("a person")


def figures(*results, prompts=(ANY_PROMPT,), classes=None):
    """The figures of a row with one picture of each person; the prompts in turn."""
    cases = [Case(i, i % len(prompts), 0, i) for i in range(len(results))]
    evaluation = SimpleNamespace(
        plan=SimpleNamespace(prompts=prompts), subjects=SimpleNamespace(people=results), classes=classes or {}
    )
    return figures_of(evaluation, Row(Variant(), cases, [], results))


def test_a_picture_without_a_face_is_not_identified_and_has_no_likeness():
    row = figures(
        result(likeness=0.4), result(likeness=None, rank=None, point_error=None), result(likeness=0.6, rank=2)
    )
    assert (row.pictures, row.without_face) == (3, 1)
    assert row.identified.mean == pytest.approx(1 / 3)
    assert (row.likeness.mean, row.point_error.mean) == (pytest.approx(0.5), pytest.approx(0.1))


def test_obedience_counts_where_the_prompt_names_what_the_classifier_knows():
    prompts = [
        Prompt("a", {"style": "ink"}),
        Prompt("b"),
        Prompt("c", {"style": "clay"}),
        Prompt("d", {"style": "ink"}),
    ]
    seen = [result(traits={"style": style}) for style in ("ink", "oil", "clay", "oil")]
    assert figures(*seen, prompts=prompts, classes={"style": ["ink", "oil"]}).obeyed["style"].mean == 0.5


def test_without_a_classifier_there_is_no_obedience():
    assert figures(result(), prompts=[Prompt("a", {"style": "ink"})]).obeyed == {}


def test_the_time_is_the_median_without_the_first():
    times = [result(seconds=seconds, is_first=not i) for i, seconds in enumerate((60.0, 1.0, 2.0, 9.0))]
    assert figures(*times).seconds == 2.0
    assert figures(times[0]).seconds == 60.0


def test_the_peak_of_a_row_is_that_of_its_largest_picture():
    assert figures(result(peak_vram_gib=1.5), result(peak_vram_gib=2.5)).peak_vram_gib == 2.5
    assert figures(result()).peak_vram_gib is None


# The classifier


def brightness_classifier(file, **metadata):
    """A classifier of two traits by the mean colour: style "dark" or "bright", hair "red" or "blue"."""
    weights = {"style": [[-1, 1], [-1, 1], [-1, 1]], "hair": [[1, -1], [0, 0], [-1, 1]]}
    nodes = [helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[2, 3], keepdims=0)]
    nodes += [helper.make_node("MatMul", ["mean", f"{trait}_w"], [trait]) for trait in weights]
    graph = helper.make_graph(
        nodes,
        "traits",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["b", 3, 24, 16])],
        [helper.make_tensor_value_info(trait, TensorProto.FLOAT, ["b", 2]) for trait in weights],
        [
            helper.make_tensor(f"{t}_w", TensorProto.FLOAT, (3, 2), np.ravel(w).astype(float))
            for t, w in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"style": '["dark", "bright"]', "hair": '["red", "blue"]'} | metadata)
    onnx.save(model, str(file))
    return file


@pytest.mark.parametrize(
    ("colour", "traits"),
    [
        ((255, 200, 150), {"style": "bright", "hair": "red"}),
        ((0, 20, 90), {"style": "dark", "hair": "blue"}),
    ],
)
def test_a_classifier_names_each_trait_of_a_picture_of_any_size(tmp_path, colour, traits):
    classifier = TraitClassifier(brightness_classifier(tmp_path / "traits.onnx"))
    assert classifier.traits(Image.new("RGB", (50, 70), colour)) == traits


@pytest.mark.parametrize("content", ["no model", None], ids=["damaged", "no names"])
def test_a_classifier_that_cannot_be_used_is_named(tmp_path, content):
    file = brightness_classifier(tmp_path / "traits.onnx", style="dark or bright")
    if content:
        file.write_text(content)
    with pytest.raises(UserError, match=re.escape(str(file))):
        TraitClassifier(file)


# Judging


@pytest.fixture
def scored(random_bundle, tmp_path):
    """The random bundle with models of its own to judge by."""
    folder = shutil.copytree(random_bundle, tmp_path / "scored")
    (folder / "scoring").mkdir()
    onnx.save(random_recogniser(seed=5), str(folder / "scoring" / "recogniser.onnx"))
    brightness_classifier(folder / "scoring" / "traits.onnx")
    return folder


def judge(folder):
    bundle = open_bundle(folder)
    return Judge(bundle, FaceAnalyser(bundle.face_pack))


def test_the_recogniser_for_scoring_is_asked_where_there_is_one(random_bundle, scored):
    kind, strict = judge(random_bundle), judge(scored)
    face = kind.face(person())
    assert (kind.has_own_recogniser, strict.has_own_recogniser) == (False, True)
    np.testing.assert_array_equal(kind.embedding(person(), face), face.embedding)
    assert abs(likeness(strict.embedding(person(), face), unit(face.embedding))) < 0.5


def test_a_picture_without_a_face_still_shows_what_it_shows(scored):
    measured = judge(scored).measure(Image.new("RGB", (64, 80), "white"), np.zeros((5, 2)), np.eye(2, 512), 0)
    nothing = {"likeness": None, "rank": None, "point_error": None}
    assert measured == nothing | {"traits": {"style": "bright", "hair": "red"}}


def test_a_scoring_recogniser_that_is_none_is_named(scored):
    file = scored / "scoring" / "recogniser.onnx"
    file.write_bytes(b"not a model")
    with pytest.raises(UserError, match=re.escape(str(file))):
        judge(scored)


def test_a_result_is_read_back_from_its_picture(tmp_path):
    made = result(likeness=0.25, traits={"style": "ink"}, notes=[["note.text_cut", {"count": 92}]])
    write_result(tmp_path / "a.png", Image.new("RGB", (8, 8)), made)
    assert read_result(tmp_path / "a.png") == made
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("cut", [0, 20, 200])
def test_a_picture_that_was_cut_off_counts_as_none(tmp_path, cut):
    file = tmp_path / "a.png"
    write_result(file, Image.new("RGB", (8, 8)), result())
    file.write_bytes(file.read_bytes()[:cut])
    assert read_result(file) is None


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

"""What the evaluation measures: each metric by cases made by hand, and the judge of one picture."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from face_photos import person
from onnx import TensorProto, helper
from PIL import Image

from instantid.bundle import open_bundle
from instantid.evaluation.figures import figures_of
from instantid.evaluation.identification import rank
from instantid.evaluation.intervals import Estimate, estimate
from instantid.evaluation.judge import Judge, Result, read_result, write_result
from instantid.evaluation.key_points import point_error
from instantid.evaluation.likeness import likeness, template, unit
from instantid.evaluation.obedience import TraitClassifier
from instantid.evaluation.plan import Case
from instantid.evaluation.prompts import Prompt
from instantid.evaluation.run import Row
from instantid.evaluation.variants import Variant
from instantid.faces import FaceAnalyser
from instantid.messages import UserError
from instantid.random_face_pack import random_recogniser


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

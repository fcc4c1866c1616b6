"""The page without a browser: its wiring, and a served one driven over its API."""

import copy
import inspect
import json
import logging
import warnings
from pathlib import Path

import pytest
from fake_generator import FakeGenerator
from gradio_client import Client, handle_file
from gradio_client import utils as client_utils
from PIL import Image

from instantid.messages import LANGUAGES, say
from instantid.request import GenerationRequest, GenerationResult
from instantid.sentences.interface import SENTENCES
from instantid.settings import read_settings
from instantid.ui import create_demo, launch
from instantid.ui_look import look, mend_schema_reader
from instantid.ui_results import SETTINGS_KEY, save_pictures
from instantid.ui_run import Session, generate_function, read_seed, read_size, summary
from instantid.ui_words import SPOKEN
from ip_adapter.errors import MachineError, UserError

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "interface.png"
SECONDS = 20  # the longest wait for anything the page should do


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A served page that keeps its pictures: (demo, generator, folder of the pictures)."""
    generator = FakeGenerator()
    folder = tmp_path_factory.mktemp("pictures")
    demo = create_demo(generator, language="es", defaults={"steps": 3}, output_folder=folder)
    launch(demo, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield demo, generator, folder
    generator.release.set()
    demo.close()


@pytest.fixture
def generator(server):
    generator = server[1]
    generator.error, generator.held, generator.most_at_once = None, False, 0
    generator.requests.clear()
    generator.release.clear()
    while generator.started.acquire(blocking=False):
        pass
    yield generator
    generator.release.set()


@pytest.fixture
def connect(server, generator):
    """A new visitor of the page. Nothing is downloaded: files can be read where the server has them."""
    return lambda: Client(server[0].local_url, verbose=False, download_files=False)


@pytest.fixture
def client(connect):
    return connect()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "face.png"
    Image.new("RGB", (120, 150), (226, 180, 150)).save(path)
    return handle_file(str(path))


def components(demo):
    """The properties of every component of a page, as the browser receives them."""
    return [component["props"] for component in demo.get_config_file()["components"]]


def test_only_generate_and_cancel_are_in_the_api(server):
    mend_schema_reader()
    assert set(server[0].get_api_info()["named_endpoints"]) == {"/generate", "/cancel"}


def test_a_photo_and_a_prompt_are_enough_for_the_api(client, generator, photo):
    client.predict(photo, "a person", api_name="/generate")
    (request,) = generator.requests
    defaults = GenerationRequest(face=request.face, prompt="a person", seed=request.seed, steps=3).checked()
    assert vars(request) == vars(defaults)


def test_every_control_reaches_the_request(client, generator, photo):
    given = {
        "negative_prompt": "fog",
        "style": "ink",
        "face_index": 2,
        "pose_face_index": 1,
        "few_steps": "lightning-4",
        "steps": 7,
        "guidance_scale": 4.2,
        "guidance_end": 0.6,
        "identity_strength": 0.55,
        "adapter_strength": 0.65,
        "scheduler": "ddim",
        "count": 2,
        "region_mask": True,
    }
    size_and_seed = {"size": "640x960", "seed": "11"}
    photos = {"pose": photo, "more_faces": [photo, photo, photo]}
    client.predict(face=photo, prompt="a person", **given, **size_and_seed, **photos, api_name="/generate")
    (request,) = generator.requests
    assert {name: getattr(request, name) for name in given} == given
    assert (request.width, request.height, request.seed) == (640, 960, 11)
    assert Image.open(request.pose).size == (120, 150)
    assert len(request.more_faces) == 3


def test_the_controls_and_the_request_have_the_same_fields(server):
    named = {p["parameter_name"] for p in server[0].get_api_info()["named_endpoints"]["/generate"]["parameters"]}
    fields = set(vars(GenerationRequest(face=None, prompt="")))
    assert (named - {"size", "language"}) | {"width", "height"} == fields


def test_given_defaults_are_where_the_controls_start():
    demo = create_demo(FakeGenerator(), defaults={"width": 128, "height": 192, "seed": 0, "scheduler": "ddim"})
    values = [props.get("value") for props in components(demo)]
    assert {"128x192", "0", "ddim"} <= {value for value in values if isinstance(value, str)}


SET = {
    "negative_prompt": "fog",
    "style": "ink",
    "face_index": 2,
    "pose_face_index": 1,
    "size": "640x960",
    "few_steps": "lightning-4",
    "steps": 7,
    "guidance_scale": 4.2,
    "guidance_end": 0.6,
    "identity_strength": 0.55,
    "adapter_strength": 0.65,
    "seed": "0",
    "scheduler": "ddim",
    "count": 2,
    "region_mask": True,
}


def shown_by(demo):
    """What the controls of a page show first, by the names of the API."""
    config = demo.get_config_file()
    values = {component["id"]: component["props"].get("value") for component in config["components"]}
    (event,) = [event for event in config["dependencies"] if event["api_name"] == "generate"]
    names = inspect.signature(generate_function(FakeGenerator(), None, Path(), "es")).parameters
    on_the_page = [name for name in names if name != "progress"]
    return {name: values[place] for name, place in zip(on_the_page, event["inputs"], strict=True)}


def test_the_next_session_opens_with_what_was_set_and_in_its_language(tmp_path, photo):
    kept = tmp_path / "settings.json"
    demo = create_demo(FakeGenerator(), language="es", settings_file=kept)
    launch(demo, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        client = Client(demo.local_url, verbose=False, download_files=False)
        client.predict(photo, "a person", **SET, language="en", api_name="/generate")
    finally:
        demo.close()
    following = create_demo(FakeGenerator(), language="es", settings_file=kept)
    shown = shown_by(following)
    assert {name: shown[name] for name in SET} == SET
    assert (shown["prompt"], shown["language"]) == ("a person", "en")
    assert say("ui.generate.value", "en") in [props.get("value") for props in components(following)]


def run(folder, settings_file, **given):
    """One run without a page."""
    generate = generate_function(FakeGenerator(), None, folder / "cache", "en", settings_file)
    return generate(**{"face": "photo", "prompt": "a person", "session": Session()} | given)


def test_a_seed_left_empty_is_empty_in_the_next_session(tmp_path):
    run(tmp_path, tmp_path / "settings.json")
    assert shown_by(create_demo(FakeGenerator(), settings_file=tmp_path / "settings.json"))["seed"] == ""


def test_what_was_set_comes_before_the_given_defaults_and_these_before_the_usual_ones(tmp_path):
    (tmp_path / "settings.json").write_text('{"steps": 7, "style": "of another version"}')
    defaults = {"steps": 20, "style": "ink", "count": 3}
    shown = shown_by(create_demo(FakeGenerator(), defaults=defaults, settings_file=tmp_path / "settings.json"))
    assert (shown["steps"], shown["style"], shown["count"], shown["scheduler"]) == (7, "ink", 3, "euler")


def test_what_is_refused_is_not_remembered(tmp_path):
    run(tmp_path, tmp_path / "settings.json", steps=7)
    with pytest.raises(Exception, match="1000"):
        run(tmp_path, tmp_path / "settings.json", steps=1000, style="ink")
    assert read_settings(tmp_path / "settings.json").fields["steps"] == 7


def test_settings_that_cannot_be_kept_cost_no_picture_and_are_said_once(tmp_path):
    kept = tmp_path / "a Drive that is gone" / "settings.json"
    generate = generate_function(FakeGenerator(), None, tmp_path / "cache", "en", kept)
    with warnings.catch_warnings(record=True) as said:  # gradio warns in Python where there is no page
        warnings.simplefilter("always")
        galleries = [generate(face="photo", prompt="a person", session=Session())[0] for _ in range(2)]
    assert [len(gallery) for gallery in galleries] == [1, 1]
    assert len([warning for warning in said if str(kept) in str(warning.message)]) == 1
    assert not kept.parent.exists()


def test_a_page_that_keeps_nothing_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_pictures_are_not_kept_in_the_place_of_a_drive_that_is_gone(tmp_path):
    gone = tmp_path / "MyDrive" / "InstantID" / "results"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        generate_function(FakeGenerator(), gone, tmp_path / "cache", "en")("photo", "a person", session=Session())
    assert not (tmp_path / "MyDrive").exists()
    assert any(str(gone) in str(warning.message) for warning in said)


def test_what_comes_back_names_seeds_timings_and_settings(client, photo):
    gallery, line, seed, face, _, settings = client.predict(photo, "a person", seed="5", count=2, api_name="/generate")
    assert [picture["caption"] for picture in gallery] == ["semilla 5", "semilla 6"]
    assert "2.0 s en total" in line
    assert seed == "5"
    assert Image.open(face["path"]).size == (48, 56)
    assert settings["seeds"] == [5, 6]


def test_a_downloaded_picture_carries_its_own_settings(client, photo):
    gallery, *_ = client.predict(photo, "a person", seed="5", count=2, api_name="/generate")
    carried = json.loads(Image.open(gallery[1]["image"]["path"]).text[SETTINGS_KEY])
    assert (carried["seed"], carried["count"], carried["prompt"]) == (6, 1, "a person")


def test_every_picture_is_kept_in_the_output_folder_under_its_seed(client, server, photo):
    client.predict(photo, "a person", seed="123456", count=2, api_name="/generate")
    for seed in (123456, 123457):
        (path,) = server[2].glob(f"*-seed{seed}.png")
        assert json.loads(Image.open(path).text[SETTINGS_KEY])["seed"] == seed


def test_a_folder_that_cannot_be_written_does_not_cost_the_picture(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    generate = generate_function(FakeGenerator(), blocked / "pictures", tmp_path / "cache", "en")
    with warnings.catch_warnings(record=True) as said:  # gradio warns in Python where there is no page
        warnings.simplefilter("always")
        gallery, *_ = generate(face="photo", prompt="a person", session=Session())
    assert Image.open(gallery[0][0]).size == (96, 128)
    assert any(str(blocked) in str(warning.message) for warning in said)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_mistake_is_said_in_the_language_of_the_page(client, photo, language):
    with pytest.raises(Exception) as caught:
        client.predict(photo, " ", language=language, api_name="/generate")
    assert say("request.no_prompt", language) in str(caught.value)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_bug_is_said_readably_with_its_kind_and_logged_with_its_traceback(client, generator, photo, language, caplog):
    generator.error = ZeroDivisionError("secret inner detail")
    with caplog.at_level(logging.ERROR), pytest.raises(Exception) as caught:
        client.predict(photo, "a person", language=language, api_name="/generate")
    assert say("ui.unexpected", language, kind="ZeroDivisionError") in str(caught.value)
    assert "secret inner detail" not in str(caught.value)
    assert "secret inner detail" in caplog.text


def test_an_error_of_the_machine_is_said_in_its_own_words(client, generator, photo):
    generator.error = MachineError("a.code", "There are {free} GiB.", free=3)
    with pytest.raises(Exception, match="There are 3 GiB"):
        client.predict(photo, "a person", api_name="/generate")


def test_an_unreadable_photo_reaches_the_generator_as_it_is(client, generator, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"this is no picture")
    client.predict(handle_file(str(broken)), "a person", api_name="/generate")
    with open(generator.requests[0].face, "rb") as received:
        assert received.read() == b"this is no picture"


def test_a_photo_beyond_the_bound_is_refused(client, generator, tmp_path):
    huge = tmp_path / "huge.jpg"
    with open(huge, "wb") as file:
        file.truncate(21_000_000)
    with pytest.raises(Exception, match=r"413|[Ll]arge|exceed"):
        client.predict(handle_file(str(huge)), "a person", api_name="/generate")
    assert generator.requests == []


def test_one_picture_is_made_at_a_time(connect, generator, photo):
    jobs = [connect().submit(photo, "a person", api_name="/generate") for _ in range(3)]
    for job in jobs:
        job.result(timeout=SECONDS)
    assert (len(generator.requests), generator.most_at_once) == (3, 1)


def test_cancel_ends_the_run_of_its_own_session_only(connect, client, generator, photo):
    generator.held = True
    stranger = connect()
    job = client.submit(photo, "a person", api_name="/generate")
    assert generator.started.acquire(timeout=SECONDS)
    stranger.predict(api_name="/cancel")
    assert generator.running == 1
    client.predict(api_name="/cancel")
    assert all("image" not in str(output) for output in job.result(timeout=SECONDS))
    assert generator.running == 0


def test_a_cancel_with_nothing_running_does_not_meet_the_next_run(client, generator, photo):
    client.predict(api_name="/cancel")
    gallery, *_ = client.predict(photo, "a person", api_name="/generate")
    assert len(gallery) == 1


def test_a_run_cancelled_while_it_waits_never_starts(tmp_path, capsys):
    generator, session = FakeGenerator(), Session()
    session.ask()
    session.cancelled.set()
    generate_function(generator, None, tmp_path, "en")(face="photo", prompt="a person", session=session)
    assert generator.requests == []
    assert say("ui.cancelled", "en") in capsys.readouterr().out


def test_asking_again_after_a_cancelled_wait_starts_a_run(tmp_path):
    generator, session = FakeGenerator(), Session()
    session.ask()
    session.cancelled.set()
    session.ask()
    generate_function(generator, None, tmp_path, "en")(face="photo", prompt="a person", session=session)
    assert len(generator.requests) == 1


def test_a_second_press_does_not_take_back_the_cancel_of_a_running_job():
    session = Session()
    session.ask()
    session.begin()
    session.cancelled.set()
    session.ask()
    assert session.cancelled.is_set()


def test_each_session_gets_its_own_cancel():
    first = Session()
    second = copy.deepcopy(first)
    first.cancelled.set()
    assert not second.cancelled.is_set()


@pytest.mark.parametrize(("given", "size"), [("auto", (None, None)), ("", (None, None)), (None, (None, None))])
def test_no_size_leaves_it_to_the_photo(given, size):
    assert read_size(given) == size


@pytest.mark.parametrize("given", ["832x1216", "832×1216", " 832 X 1216 ", "832 * 1216"])
def test_a_size_is_read_as_people_write_it(given):
    assert read_size(given) == (832, 1216)


@pytest.mark.parametrize("given", ["big", "832", "832x", "8.5x9", "-8x8", "832x1216x3"])
def test_a_size_that_cannot_be_read_is_quoted_back(given):
    with pytest.raises(UserError) as caught:
        read_size(given)
    assert f"“{given}”" in str(caught.value)


@pytest.mark.parametrize(("given", "seed"), [("", None), ("  ", None), (None, None), ("0", 0), (" 42 ", 42)])
def test_an_empty_seed_is_random_and_zero_is_a_seed(given, seed):
    assert read_seed(given) == seed


@pytest.mark.parametrize("given", ["one", "1.5", "²"])
def test_a_seed_that_is_no_whole_number_is_quoted_back(given):
    with pytest.raises(UserError, match=f"The seed is {given}"):
        read_seed(given)


def test_two_languages_share_no_label():
    spanish, english = (
        {props["label"] for props in components(create_demo(FakeGenerator(), language=language)) if props.get("label")}
        for language in ("es", "en")
    )
    same_in_both = {es for es, en in SENTENCES.values() if es == en} | {"summary", "Idioma · Language"}
    assert spanish & english <= same_in_both


def test_every_worded_component_of_the_table_is_on_the_page():
    page = components(create_demo(FakeGenerator(), language="en", portraits=[PICTURE]))
    spoken = [props[key] for props in page for key in SPOKEN if key in props]
    worded = [key for key in SENTENCES if key.rsplit(".", 1)[1] in SPOKEN]
    assert worded
    assert [key for key in worded if say(key, "en") not in spoken] == []


def test_every_sentence_of_the_page_has_the_same_places_in_both_languages():
    def places(sentence):
        return sorted(part.split("}")[0] for part in sentence.split("{")[1:])

    assert all(places(spanish) == places(english) for spanish, english in SENTENCES.values())


def test_the_line_on_what_runs_is_said_in_the_language_of_the_page():
    about = {"es": "en la CPU", "en": "on the CPU"}
    texts = [props.get("value") for props in components(create_demo(FakeGenerator(), language="en", about=about))]
    assert "on the CPU" in texts
    assert "en la CPU" not in texts


def test_prompts_of_the_models_take_the_place_of_the_page_s_own():
    prompts = ["an ink drawing of a person", "a photo of a person"]
    values = [props.get("value") for props in components(create_demo(FakeGenerator(), language="en", prompts=prompts))]
    assert set(prompts) <= set(map(str, values))
    assert say("ui.example_1.value", "en") not in values


def test_the_summary_can_be_said_again_in_the_other_language():
    settings = {"width": 832, "height": 1216, "seconds": {"denoising": 3.21, "total": 4.0}, "peak_vram_gib": 10.44}
    assert summary(settings, "en") == "832 × 1216 · 4.0 s in all · steps 3.2 s · 10.4 GiB of GPU"


def test_no_statistics_are_sent_and_no_font_is_fetched():
    assert create_demo(FakeGenerator()).analytics_enabled is False
    assert look()["theme"]._stylesheets == []


def test_saving_twice_in_one_second_overwrites_nothing(tmp_path):
    request = GenerationRequest(face="photo", prompt="a person", seed=3).checked()
    result = FakeGenerator()(request, lambda done: None, lambda: False)
    assert isinstance(result, GenerationResult)
    saved = {path for _ in range(2) for path in save_pictures(result, tmp_path)}
    assert len(saved) == len(list(tmp_path.iterdir())) == 2


def test_file_uploads_can_be_described_beside_a_new_pydantic(monkeypatch):
    """gradio before 5.23 raised TypeError on `additionalProperties: true`, and no page opened."""

    def as_it_was(schema, defs):
        if "additionalProperties" in schema:
            client_utils._json_schema_to_python_type(schema["additionalProperties"], defs)
        return "str"

    monkeypatch.setattr(client_utils, "_json_schema_to_python_type", as_it_was)
    mend_schema_reader()
    assert client_utils.json_schema_to_python_type({"additionalProperties": True}) == "str"

"""The notebook run from top to bottom in a kernel of its own as a person would, and once more in the same kernel."""

import ast
import io
import json
import re
import urllib.error
import urllib.request
from base64 import b64decode

import pytest
from gradio_client import handle_file
from notebook_session import PHOTO, SECONDS, STEPS, error_of, opened, printed, publish
from PIL import Image

from instantid.messages import say
from instantid.ui_results import SETTINGS_KEY

WATCH = """
import sys
asked = set()
sys.addaudithook(lambda event, facts: event == "socket.getaddrinfo" and asked.add(str(facts[0])))
sys.addaudithook(lambda event, facts: event == "socket.connect" and asked.add(str(facts[1])))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with nothing in it."""
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(scope="module")
def session(folder, tmp_path_factory):
    with opened(folder, tmp_path_factory.mktemp("scratch")) as session:
        session.ask(WATCH)
        yield session


@pytest.fixture(scope="module")
def first(session, tmp_path_factory):
    """What the cells put out when all were run once, in Spanish, in a folder where only the notebook was."""
    repository = publish(tmp_path_factory.mktemp("repository"))
    return session.run_all("es", REPOSITORIO=repository.as_uri())


def test_every_cell_runs_without_an_error_or_a_warning(first):
    assert {output.output_type for outputs in first.values() for output in outputs} == {"stream", "display_data"}
    assert {name: printed(outputs, "stderr") for name, outputs in first.items() if printed(outputs, "stderr")} == {}


def test_the_code_comes_from_the_git_address_and_nothing_is_installed_where_all_is_there(first, folder):
    code = say("notebook.code_from", "es", origin="REPOSITORIO", folder=folder / "InstantID")
    assert printed(first["install"]).splitlines() == [code, say("install.nothing", "es")]


def test_without_a_gpu_the_models_are_random_and_say_so(first):
    assert "Pesos aleatorios" in printed(first["models"])


def test_the_picture_is_shown_below_the_last_cell_and_kept_as_a_file(first, folder):
    (shown,) = (output.data["image/png"] for output in first["direct"] if "image/png" in output.get("data", {}))
    (file,) = (line for line in printed(first["direct"]).splitlines() if line.endswith(".png"))
    kept = Image.open(folder / file)
    assert kept.tobytes() == Image.open(io.BytesIO(b64decode(shown))).convert("RGB").tobytes()
    assert json.loads(kept.text[SETTINGS_KEY])["steps"] == STEPS


def test_the_last_cell_tells_how_far_it_got(first):
    lines = [output.data["text/plain"] for output in first["direct"] if output.output_type == "display_data"]
    assert lines[0].startswith(f"{say('cli.stage_done', 'es')} {STEPS}/{STEPS} · ")


def test_the_page_answers_while_the_kernel_lives(first, session):
    gallery, *_ = session.page().predict(
        handle_file(str(PHOTO)), "una persona en la nieve", steps=STEPS, seed="7", api_name="/generate"
    )
    assert [picture["caption"] for picture in gallery] == ["semilla 7"]


def test_the_page_is_shown_in_the_notebook(first, session):
    address = session.address()
    assert [address in output.data["text/html"] for output in first["interface"]] == [True]


def test_a_mistake_is_one_sentence_without_a_traceback(first, session, tmp_path):
    text = tmp_path / "photo.jpg"
    text.write_text("not a picture")
    session.run("install", IDIOMA="es")
    (line,) = error_of(session.run("direct", FOTO=str(text)))
    assert line == f"❌ {say('photo.unreadable', 'es', name=text.name, size=13)}"


def test_a_bug_keeps_its_traceback(first, session):
    shown = "\n".join(error_of(session.ask("portrait = 1\nportrait / 0")))
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert "Traceback" in plain
    assert "----> 2 portrait / 0" in plain


def test_a_mistake_keeps_nothing_in_memory_that_was_half_made(first, session):
    """IPython remembers the last error, and with its frames the models that were on their way to the GPU."""
    code = """
        import gc, weakref
        from instantid.images import open_photo
        def half_made(path):
            part = type("Part", (), {})()
            seen.append(weakref.ref(part))
            open_photo(path)
        seen = []
        half_made("absent.png")
    """
    error_of(session.ask(code))
    assert printed(session.ask("gc.collect()\nprint(seen[0]())")) == "None\n"


# All cells once more


def page_at(address):
    """The identity of the page that is served there; None where nothing answers."""
    try:
        with urllib.request.urlopen(f"{address}config", timeout=SECONDS) as answer:
            return json.load(answer)["app_id"]
    except urllib.error.URLError:
        return None


@pytest.fixture(scope="module")
def first_page(first, session):
    """Address and identity of the first page; the kernel keeps an eye on the first models."""
    session.ask("import gc, weakref\nfirst_unet = weakref.ref(models.pipeline.unet)")
    address = session.address()
    return address, page_at(address)


@pytest.fixture(scope="module")
def second(first_page, session):
    """What the cells put out when all were run again, in English."""
    return session.run_all("en")


def test_all_cells_run_again_without_an_error_or_a_warning(second):
    assert {output.output_type for outputs in second.values() for output in outputs} == {"stream", "display_data"}
    assert "".join(printed(outputs, "stderr") for outputs in second.values()) == ""


def test_the_second_time_the_code_is_beside_the_notebook_and_nothing_is_installed(second, folder):
    code = say("notebook.code_from", "en", origin="CARPETA", folder=folder / "InstantID")
    assert printed(second["install"]).splitlines() == [code, say("install.nothing", "en")]


def test_the_first_page_is_closed_and_another_one_is_there(second, first_page, session):
    address, first_id = first_page
    assert first_id is not None
    assert page_at(address) != first_id
    assert page_at(session.address()) not in (None, first_id)


def test_the_first_models_are_gone_from_memory(second, session):
    assert printed(session.ask("gc.collect()\nprint(first_unet())")) == "None\n"


def test_english_is_spoken_everywhere_once_it_is_chosen(second, session):
    keys = {"check": "check.title", "models": "plan.title", "direct": "notebook.example_photo"}
    assert [name for name, key in keys.items() if say(key, "en") not in printed(second[name])] == []
    (line,) = error_of(session.run("direct", FOTO="absent.jpg"))
    assert line == f"❌ {say('photo.missing', 'en', path='absent.jpg')}"


def test_the_whole_run_asked_nothing_of_other_machines(second, session):
    asked = ast.literal_eval(printed(session.ask("print(sorted(asked))")))
    assert asked
    assert [name for name in asked if not re.match(r"localhost|\('127.0.0.1'|127.0.0.1|/", name)] == []

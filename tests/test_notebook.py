"""The notebook, read as a file, and run from top to bottom in a kernel of its own as a person would."""

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64decode
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import insightface
import nbformat
import pytest
from gradio_client import Client, handle_file
from nbclient import NotebookClient
from PIL import Image

from instantid.memory_plan import OFFLOADS
from instantid.messages import LANGUAGES, say
from instantid.notebook import pick_photo
from instantid.request import BOUNDS, GenerationRequest
from instantid.styles import STYLES
from instantid.ui_look import mend_schema_reader
from instantid.ui_results import SETTINGS_KEY
from instantid.weights import BASE_MODELS

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "InstantID_Gradio.ipynb"
PROJECT = ("instantid", "ip_adapter", "pipeline_stable_diffusion_xl_instantid.py", "requirements.txt")
PHOTO = Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"  # six people
STEPS = 2
SECONDS = 60  # the longest wait for any cell

# Whatever would go out to the network fails at once.
NO_NETWORK = {
    "PIP_NO_INDEX": "1",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}
WATCH = """
import sys
asked = set()
sys.addaudithook(lambda event, facts: event == "socket.getaddrinfo" and asked.add(str(facts[0])))
sys.addaudithook(lambda event, facts: event == "socket.connect" and asked.add(str(facts[1])))
"""


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells():
    return [cell for cell in read().cells if cell.cell_type == "code"]


# As a file


def test_the_file_is_a_valid_notebook():
    nbformat.validate(json.loads(NOTEBOOK.read_text(encoding="utf-8")))


def test_no_output_and_no_count_is_kept():
    assert {(cell.execution_count, len(cell.outputs)) for cell in code_cells()} == {(None, 0)}


def test_every_cell_has_a_name_for_an_id():
    """Ids that an editor draws at random would change with every save."""
    ids = [cell.id for cell in read().cells]
    assert [name for name in ids if not re.fullmatch("[a-z]+(-text)?", name)] == []
    assert len(set(ids)) == len(ids)


def test_the_notebook_defines_nothing():
    defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    nodes = [node for cell in code_cells() for node in ast.walk(ast.parse(cell.source))]
    assert [node for node in nodes if isinstance(node, defining)] == []


def test_every_code_cell_folds_into_a_form_with_a_title_in_both_languages():
    titles = [cell.source.splitlines()[0] for cell in code_cells()]
    form = re.compile(r'# @title \d · .+ · .+ { display-mode: "form" }')
    assert [title for title in titles if not form.fullmatch(title)] == []


def test_only_one_module_knows_of_colab():
    files = [NOTEBOOK, *(file for part in PROJECT for file in [*(ROOT / part).rglob("*.py"), ROOT / part])]
    knowing = [file for file in files if file.is_file() and "google.colab" in file.read_text(encoding="utf-8")]
    assert knowing == [ROOT / "instantid" / "notebook.py"]


def form_fields():
    """Name of each form field -> (its first value, what Colab is told of it)."""
    lines = "\n".join(cell.source for cell in code_cells())
    found = re.findall(r"^(\w+) = (.+?)  # @param (.+)$", lines, re.MULTILINE)
    return {name: (ast.literal_eval(value), told) for name, value, told in found}


def choices(name):
    """What the form offers for a field; its first value is one of them."""
    first, told = form_fields()[name]
    offered = json.loads(told.removesuffix(" {allow-input: true}"))
    assert first in offered
    return offered


def test_the_form_offers_the_languages_that_are_spoken():
    assert choices("IDIOMA") == list(LANGUAGES)


def test_the_form_offers_the_base_models_that_have_a_name():
    assert choices("MODELO_BASE") == ["auto", *BASE_MODELS]


def test_the_form_offers_every_way_of_offloading():
    assert choices("DESCARGA_A_RAM") == ["auto", *OFFLOADS]


def test_the_form_offers_styles_that_exist():
    assert set(choices("ESTILO")) <= set(STYLES)


def test_the_public_link_is_a_tick_that_starts_empty():
    assert form_fields()["ENLACE_PUBLICO"] == (False, '{type: "boolean"}')


@pytest.mark.parametrize(("name", "field"), [("PASOS", "steps"), ("PARECIDO", "adapter_strength")])
def test_a_slider_moves_inside_the_bounds_and_starts_at_the_default(name, field):
    first, told = form_fields()[name]
    limits = {key: float(value) for key, value in re.findall(r"(min|max|step): ([\d.]+)", told)}
    assert BOUNDS[field].least <= limits["min"] < limits["max"] <= BOUNDS[field].most
    assert limits["step"] == BOUNDS[field].step
    assert first == getattr(GenerationRequest(face=None, prompt=""), field)


# In a kernel


class Session:
    """A kernel that the notebook is open in; its forms are filled in by name."""

    def __init__(self, client):
        self.client = client
        self.names = [cell.id for cell in client.nb.cells]

    def run(self, name, **form):
        """Runs a cell with these values in its form; its outputs."""
        index = self.names.index(name)
        cell = self.client.nb.cells[index]
        for field, value in form.items():
            cell.source, count = re.subn(
                rf"^{field} = .+?(?=  # @param)", f"{field} = {value!r}", cell.source, flags=re.M
            )
            assert count == 1, field
        self.client.execute_cell(cell, index)
        return cell.outputs

    def run_all(self, language):
        """Runs every cell, the last one with few steps; name -> outputs."""
        forms = {"install": {"IDIOMA": language}, "direct": {"FOTO": "", "PASOS": STEPS}}
        return {cell.id: self.run(cell.id, **forms.get(cell.id, {})) for cell in code_cells()}

    def ask(self, code):
        """Runs code that is not in the notebook; its outputs."""
        cell = nbformat.v4.new_code_cell(code)
        self.client.nb.cells.append(cell)
        self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        return cell.outputs


@contextmanager
def opened(folder, scratch):
    """The notebook open in `folder`; whatever else it writes goes to `scratch`."""
    client = NotebookClient(
        read(), kernel_name="python3", timeout=SECONDS, allow_errors=True, resources={"metadata": {"path": str(folder)}}
    )
    # ./run puts the project on the path; a person who opens the notebook has not.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    own = {"INSTANTID_HOME": str(scratch / "home"), "IPYTHONDIR": str(scratch / "ipython")}
    with client.setup_kernel(env=env | NO_NETWORK | own):
        yield Session(client)


def printed(outputs, stream="stdout"):
    return "".join(output.text for output in outputs if output.get("name") == stream)


def error_of(outputs):
    """The lines shown for the error that ended a cell."""
    (error,) = (output for output in outputs if output.output_type == "error")
    return error.traceback


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the project and nothing else."""
    folder = tmp_path_factory.mktemp("project")
    for part in PROJECT:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder)
    return folder


@pytest.fixture(scope="module")
def session(folder, tmp_path_factory):
    with opened(folder, tmp_path_factory.mktemp("scratch")) as session:
        session.ask(WATCH)
        yield session


@pytest.fixture(scope="module")
def first(session, folder):
    """What the cells put out when all were run once, in Spanish."""
    return session.run_all("es")


def test_every_cell_runs_without_an_error_or_a_warning(first):
    assert {output.output_type for outputs in first.values() for output in outputs} == {"stream", "display_data"}
    assert {name: printed(outputs, "stderr") for name, outputs in first.items() if printed(outputs, "stderr")} == {}


def test_nothing_is_installed_where_all_is_there(first):
    assert printed(first["install"]).strip() == say("install.nothing", "es")


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
    mend_schema_reader()  # for the client in this process
    address = printed(session.ask("print(demo.local_url)")).strip()
    gallery, *_ = Client(address, verbose=False).predict(
        handle_file(str(PHOTO)), "una persona en la nieve", steps=STEPS, seed="7", api_name="/generate"
    )
    assert [picture["caption"] for picture in gallery] == ["semilla 7"]


def test_the_page_is_shown_in_the_notebook(first, session):
    address = printed(session.ask("print(demo.local_url)")).strip()
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


# All cells once more in the same kernel


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
    address = printed(session.ask("print(demo.local_url)")).strip()
    return address, page_at(address)


@pytest.fixture(scope="module")
def second(first_page, session):
    """What the cells put out when all were run again, in English."""
    return session.run_all("en")


def test_all_cells_run_again_without_an_error_or_a_warning(second):
    assert {output.output_type for outputs in second.values() for output in outputs} == {"stream", "display_data"}
    assert "".join(printed(outputs, "stderr") for outputs in second.values()) == ""


def test_nothing_is_installed_the_second_time(second):
    assert printed(second["install"]).strip() == say("install.nothing", "en")


def test_the_first_page_is_closed_and_another_one_is_there(second, first_page, session):
    address, first_id = first_page
    assert first_id is not None
    assert page_at(address) != first_id
    assert page_at(printed(session.ask("print(demo.local_url)")).strip()) not in (None, first_id)


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


# The project's folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The notebook opened where the project is not."""
    with opened(tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("scratch")) as session:
        yield session


def test_a_missing_project_is_said_in_both_languages_without_a_traceback(elsewhere):
    spanish, english = error_of(elsewhere.run("install", CARPETA="no-such-folder"))
    assert spanish.startswith("❌ Falta la carpeta «instantid» en ")
    assert english.startswith("❌ The folder “instantid” is not in ")
    assert "no-such-folder." in spanish
    assert "CARPETA" in english


def test_the_project_may_lie_in_another_folder(elsewhere, folder):
    assert printed(elsewhere.run("install", CARPETA=str(folder))).strip() == say("install.nothing", "es")


def test_a_project_that_is_missing_is_cloned_from_its_git_address(tmp_path_factory):
    source, empty = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("nothing")
    for part in PROJECT:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, source / part)
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "project"]):
        subprocess.run(["git", *command], cwd=source, check=True)
    with opened(empty, tmp_path_factory.mktemp("clone-scratch")) as session:
        assert printed(session.run("install", REPOSITORIO=source.as_uri())).strip() == say("install.nothing", "es")
    assert (empty / "InstantID" / "instantid" / "generation.py").is_file()


# The photo


def test_a_photo_that_is_named_is_taken():
    assert pick_photo(" me.jpg ", "es") == "me.jpg"


def test_without_a_photo_the_example_is_taken_and_said(capsys):
    assert pick_photo("", "en") == PHOTO
    assert capsys.readouterr().out == say("notebook.example_photo", "en") + "\n"


@pytest.mark.parametrize(("uploaded", "photo"), [({"me.png": b"..."}, "me.png"), ({}, PHOTO)])
def test_colab_asks_for_an_upload_and_does_without_one(monkeypatch, uploaded, photo):
    colab = ModuleType("google.colab")
    colab.files = SimpleNamespace(upload=lambda: uploaded)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert pick_photo("", "es") == photo

"""The notebook, read as a file, and run from top to bottom in a kernel of its own as a person would."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
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

from instantid.few_steps import FEW_STEPS, NO_FEW_STEPS
from instantid.loading import DEMO
from instantid.memory_plan import OFFLOADS
from instantid.messages import LANGUAGES, UserError, say
from instantid.notebook import pick_photo
from instantid.packing import PARTS, TOP, code_archive, pack
from instantid.request import BOUNDS, GenerationRequest
from instantid.styles import STYLES
from instantid.ui_look import mend_schema_reader
from instantid.ui_results import SETTINGS_KEY
from instantid.weights import BASE_MODELS

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "InstantID_Gradio.ipynb"
PROJECT = ("instantid", "ip_adapter", "pipeline_stable_diffusion_xl_instantid.py")
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


def test_only_the_first_cell_and_two_modules_know_of_colab():
    files = [file for part in PROJECT for file in [*(ROOT / part).rglob("*.py"), ROOT / part]]
    knowing = [file for file in files if file.is_file() and "google.colab" in file.read_text(encoding="utf-8")]
    assert {file.name for file in knowing} == {"notebook.py", "cures.py"}  # what Colab asks of us, and its menus
    assert [cell.id for cell in code_cells() if "google.colab" in cell.source] == ["install"]


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


def test_the_form_offers_the_demo_and_the_base_models_that_have_a_name():
    assert choices("MODELO_BASE") == ["auto", DEMO, *BASE_MODELS]


def test_the_form_offers_every_way_of_offloading():
    assert choices("DESCARGA_A_RAM") == ["auto", *OFFLOADS]


def test_the_form_offers_styles_that_exist():
    assert set(choices("ESTILO")) <= set(STYLES)
    assert choices("POCOS_PASOS") == [NO_FEW_STEPS, *FEW_STEPS]


def test_the_public_link_is_a_tick_that_starts_empty():
    assert form_fields()["ENLACE_PUBLICO"] == (False, '{type: "boolean"}')


@pytest.mark.parametrize(("name", "field"), [("PASOS", "steps"), ("PARECIDO", "adapter_strength")])
def test_a_slider_moves_inside_the_bounds_and_starts_at_the_default(name, field):
    first, told = form_fields()[name]
    limits = {key: float(value) for key, value in re.findall(r"(min|max|step): ([\d.]+)", told)}
    assert BOUNDS[field].least <= limits["min"] < limits["max"] <= BOUNDS[field].most
    assert limits["step"] == BOUNDS[field].step
    assert first == getattr(GenerationRequest(face="photo", prompt="a person").checked(), field)


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

    def run_all(self, language, **first):
        """Runs every cell, the first with `first` in its form, the last with few steps; name -> outputs."""
        forms = {"install": {"IDIOMA": language} | first, "direct": {"FOTO": "", "PASOS": STEPS}}
        names = [cell.id for cell in self.client.nb.cells if cell.cell_type == "code" and cell.id in self.names]
        return {name: self.run(name, **forms.get(name, {})) for name in names}

    def ask(self, code):
        """Runs code that is not in the notebook; its outputs."""
        cell = nbformat.v4.new_code_cell(code)
        self.client.nb.cells.append(cell)
        self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        return cell.outputs


@contextmanager
def opened(folder, scratch, notebook=NOTEBOOK, path=""):
    """The notebook open in `folder`; whatever else it writes goes to `scratch`. `path`: a PYTHONPATH."""
    client = NotebookClient(
        nbformat.read(notebook, as_version=4),
        kernel_name="python3",
        timeout=SECONDS,
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    # ./run puts the project on the path; a person who opens the notebook has not.
    own = {"INSTANTID_HOME": str(scratch / "home"), "IPYTHONDIR": str(scratch / "ipython"), "PYTHONPATH": str(path)}
    with client.setup_kernel(env=os.environ | NO_NETWORK | own):
        yield Session(client)


def printed(outputs, stream="stdout"):
    return "".join(output.text for output in outputs if output.get("name") == stream)


def error_of(outputs):
    """The lines shown for the error that ended a cell."""
    (error,) = (output for output in outputs if output.output_type == "error")
    return error.traceback


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The project's own git repository, as one would publish it."""
    folder = tmp_path_factory.mktemp("repository")
    zipfile.ZipFile(io.BytesIO(code_archive())).extractall(folder)
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "project"]):
        subprocess.run(["git", *command], cwd=folder / TOP, check=True)
    return folder / TOP


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
def first(session, repository):
    """What the cells put out when all were run once, in Spanish, in a folder where only the notebook was."""
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
    mend_schema_reader()  # for the client in this process
    address = printed(session.ask("print(demo.local_url)")).strip()
    gallery, *_ = Client(address, verbose=False, download_files=False).predict(
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


def test_the_second_time_the_code_is_beside_the_notebook_and_nothing_is_installed(second, folder):
    code = say("notebook.code_from", "en", origin="CARPETA", folder=folder / "InstantID")
    assert printed(second["install"]).splitlines() == [code, say("install.nothing", "en")]


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


# Where the code comes from

COLAB = """
import sys
import google.colab
google.colab.files.give = {given!r}
"""


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """A stand-in for the module that only Colab has: a person who uploads `files.give`, and a Drive that is mounted."""
    package = tmp_path_factory.mktemp("colab") / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from google.colab import drive, files\n")
    (package / "drive.py").write_text("mounted = []\nmount = mounted.append\n")
    (package / "files.py").write_text("give = ()\nupload = lambda: {name: open(name, 'rb').read() for name in give}\n")
    return package.parent.parent


@pytest.fixture
def elsewhere(tmp_path, colab):
    """The notebook opened where nothing else is."""
    (tmp_path / "empty").mkdir()
    with opened(tmp_path / "empty", tmp_path / "scratch", path=colab) as session:
        yield session


def first_line(outputs):
    return printed(outputs).splitlines()[0]


def code_from(origin, folder):
    return say("notebook.code_from", "es", origin=origin, folder=folder)


def test_a_missing_project_is_said_in_both_languages_without_a_traceback(elsewhere, tmp_path):
    spanish, english = error_of(elsewhere.run("install", CARPETA_DRIVE="no-such-drive"))
    assert spanish.startswith(f"❌ El código del proyecto no está en {tmp_path / 'empty'}, ")
    assert english.startswith(f"❌ The project's code is not in {tmp_path / 'empty'}, ")
    assert "REPOSITORIO" in english


def test_the_code_may_lie_in_a_folder_that_is_named(elsewhere, repository):
    assert first_line(elsewhere.run("install", CARPETA=str(repository))) == code_from("CARPETA", repository)


def test_a_git_address_that_does_not_answer_is_said_and_the_next_place_is_tried(elsewhere, repository, tmp_path):
    absent = (tmp_path / "absent").as_uri()
    outputs = elsewhere.run("install", REPOSITORIO=absent, CARPETA_DRIVE=str(repository.parent))
    assert printed(outputs).startswith("⚠️ git: ")
    assert code_from("CARPETA_DRIVE", repository) in printed(outputs).splitlines()


def test_drive_is_asked_for_only_when_something_is_to_be_kept_there(elsewhere, repository):
    elsewhere.ask(COLAB.format(given=()))
    drive = {"CARPETA_DRIVE": str(repository.parent)}
    assert first_line(elsewhere.run("install", **drive)) == code_from("CARPETA_DRIVE", repository)
    assert printed(elsewhere.ask("print(google.colab.drive.mounted)")) == "[]\n"
    elsewhere.run("install", **drive, GUARDAR_EN_DRIVE=True)
    assert printed(elsewhere.ask("print(google.colab.drive.mounted)")) == "['/content/drive']\n"


@pytest.mark.parametrize("top", [TOP, "InstantID-main"])
def test_colab_asks_for_a_zip_where_there_is_nothing_else(elsewhere, tmp_path, top):
    """`pack` and a git host's download button name the folder inside differently."""
    file, empty = tmp_path / "InstantID (1).zip", tmp_path / "empty"
    with zipfile.ZipFile(io.BytesIO(code_archive())) as packed, zipfile.ZipFile(file, "w") as renamed:
        for name in packed.namelist():
            renamed.writestr(name.replace(TOP, top, 1), packed.read(name))
    elsewhere.ask(COLAB.format(given=[str(file)]))
    said = printed(elsewhere.run("install", CARPETA_DRIVE="no-such-drive")).splitlines()
    assert "Upload InstantID.zip" in said[0]
    assert said[1:] == [code_from("zip", empty / top), say("install.nothing", "es")]


def test_something_else_than_a_zip_is_not_taken_for_the_project(elsewhere, tmp_path):
    (tmp_path / "me.jpg").write_bytes(b"not a zip")
    elsewhere.ask(COLAB.format(given=[str(tmp_path / "me.jpg")]))
    spanish, _ = error_of(elsewhere.run("install", CARPETA_DRIVE="no-such-drive"))
    assert spanish.startswith("❌ El código del proyecto no está en ")


# The notebook that carries the code


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The self-contained notebook and the zip."""
    return pack(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder that outlives the sessions, as Drive does."""
    return tmp_path_factory.mktemp("drive")


ON_THE_PAGE = {"prompt": "una persona en la playa", "style": "watercolor", "steps": STEPS}


@pytest.fixture(scope="module")
def carried(packed, kept, tmp_path_factory):
    """What the self-contained notebook puts out in an empty folder, and the folder; its page was used once."""
    empty = tmp_path_factory.mktemp("alone")
    with opened(empty, tmp_path_factory.mktemp("alone-scratch"), notebook=packed[0]) as session:
        outputs = session.run_all("en", GUARDAR_EN_DRIVE=True, CARPETA_DRIVE=str(kept))
        page = Client(printed(session.ask("print(demo.local_url)")).strip(), verbose=False, download_files=False)
        page.predict(handle_file(str(PHOTO)), **ON_THE_PAGE, api_name="/generate")
    return outputs, empty


def test_the_self_contained_notebook_runs_alone_in_an_empty_folder(carried, kept):
    outputs, empty = carried
    assert {output.output_type for cell in outputs.values() for output in cell} == {"stream", "display_data"}
    assert first_line(outputs["install"]) == say("notebook.code_from", "en", origin="CARPETA", folder=empty / TOP)
    assert first_line(outputs["models"]) == say("keeping.new", "en", folder=kept)


def test_a_second_session_finds_the_pictures_and_opens_with_the_settings_of_the_first(carried, packed, kept, tmp_path):
    with opened(tmp_path, tmp_path / "scratch", notebook=packed[0]) as session:
        session.run("unpack")
        session.run("install", GUARDAR_EN_DRIVE=True, CARPETA_DRIVE=str(kept))
        session.run("imports")
        said = first_line(session.run("models"))
        session.run("interface")
        page = Client(printed(session.ask("print(demo.local_url)")).strip(), verbose=False, download_files=False)
    found = [say("keeping.pictures", "es", count=2), say("keeping.settings", "es")]
    assert said == say("keeping.found", "es", folder=kept, found=" · ".join(found))
    controls = {control["props"].get("elem_id"): control["props"].get("value") for control in page.config["components"]}
    assert {name: controls[name] for name in ON_THE_PAGE} == ON_THE_PAGE
    assert not (tmp_path / "outputs").exists()


def test_the_self_contained_notebook_is_valid_and_small(packed):
    nbformat.validate(json.loads(packed[0].read_text(encoding="utf-8")))
    assert packed[0].stat().st_size < 1_000_000
    assert max(map(len, packed[0].read_text(encoding="utf-8").splitlines())) < 5000


def test_packing_twice_gives_the_same_bytes(packed, tmp_path):
    assert [file.read_bytes() for file in pack(tmp_path)] == [file.read_bytes() for file in packed]


def test_everything_that_the_code_reads_is_packed(packed):
    names = {name.removeprefix(f"{TOP}/") for name in zipfile.ZipFile(packed[1]).namelist()}
    modules = {file.relative_to(ROOT).as_posix() for part in PARTS for file in (ROOT / part).rglob("*.py")}
    assert names == modules | {part for part in PARTS if (ROOT / part).is_file()}


def test_a_folder_that_is_not_the_whole_project_is_not_packed(tmp_path):
    with pytest.raises(UserError, match="“instantid” is missing in"):
        pack(tmp_path / "dist", root=tmp_path)


# The photo


def test_a_photo_that_is_named_is_taken():
    assert pick_photo(" me.jpg ", "es") == "me.jpg"


def test_without_a_photo_the_example_is_taken_and_said(capsys):
    assert pick_photo("", "en") == PHOTO
    assert capsys.readouterr().out == say("notebook.example_photo", "en") + "\n"


def test_a_bundle_that_brings_portraits_gives_the_first_as_the_example(capsys):
    portraits = [Path("examples/a.png"), Path("examples/b.png")]
    assert pick_photo("", "en", portraits) == portraits[0]
    assert capsys.readouterr().out == say("notebook.example_portrait", "en", file=portraits[0]) + "\n"


@pytest.mark.parametrize(("uploaded", "photo"), [({"me.png": b"..."}, "me.png"), ({}, PHOTO)])
def test_colab_asks_for_an_upload_and_does_without_one(monkeypatch, uploaded, photo):
    colab = ModuleType("google.colab")
    colab.files = SimpleNamespace(upload=lambda: uploaded)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert pick_photo("", "es") == photo

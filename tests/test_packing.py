"""The notebook that carries the code, alone in an empty folder, and the zip beside it."""

import json
import zipfile

import nbformat
import pytest
from gradio_client import handle_file
from notebook_session import PHOTO, STEPS, first_line, opened

from instantid.messages import UserError, say
from instantid.packing import PARTS, TOP, pack
from instantid.requirements import ROOT

ON_THE_PAGE = {"prompt": "una persona en la playa", "style": "watercolor", "steps": STEPS}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The self-contained notebook and the zip."""
    return pack(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder that outlives the sessions, as Drive does."""
    return tmp_path_factory.mktemp("drive")


@pytest.fixture(scope="module")
def carried(packed, kept, tmp_path_factory):
    """What the self-contained notebook puts out in an empty folder, and the folder; its page was used once."""
    empty = tmp_path_factory.mktemp("alone")
    with opened(empty, tmp_path_factory.mktemp("alone-scratch"), notebook=packed[0]) as session:
        outputs = session.run_all("en", GUARDAR_EN_DRIVE=True, CARPETA_DRIVE=str(kept))
        session.page().predict(handle_file(str(PHOTO)), **ON_THE_PAGE, api_name="/generate")
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
        page = session.page()
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

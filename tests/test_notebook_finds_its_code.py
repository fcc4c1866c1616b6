"""Where the notebook takes the project's code from: a folder, a git address, Drive, or a zip that Colab asks for."""

import io
import zipfile

import pytest
from notebook_session import error_of, first_line, opened, printed, publish

from instantid.messages import say
from instantid.packing import TOP, code_archive

COLAB = """
import sys
import google.colab
google.colab.files.give = {given!r}
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("repository"))


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

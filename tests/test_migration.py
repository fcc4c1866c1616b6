"""Old notebooks as files: what is written, what stays byte for byte, what is refused, what the report says."""

import ast
import importlib
import json
import re
from pathlib import Path

import pytest
from old_notebooks import FIVE_FAULTS, ONLY_IN_WORDS, PANDAS, PINNED_TORCH, code_of, write

from instantid.__main__ import main
from instantid.messages import LANGUAGES, say
from instantid.migration import Change, migrate
from instantid.migration_cells import Cell
from ip_adapter.errors import MachineError, UserError
from ip_adapter.resampler import Resampler

ROOT = Path(__file__).parent.parent
PICTURE = {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo="}, "metadata": {}}


@pytest.fixture
def five(tmp_path):
    """A notebook with every fault."""
    return write(tmp_path / "old.ipynb", FIVE_FAULTS)


@pytest.fixture
def repaired(five):
    """The code cells of the same notebook, repaired."""
    return code_of(migrate(five).target)


# The five faults


def test_every_cell_of_the_repaired_notebook_is_python(repaired):
    assert [Cell(0, source).tree is not None for source in repaired] == [True] * len(repaired)


def test_the_repaired_notebook_installs_no_pytorch_and_no_fixed_version_that_the_project_knows(repaired):
    commands = re.findall(r"^!pip(?:.*\\\n)*.*", "\n".join(repaired), re.MULTILINE)
    assert re.findall(r"\btorch\w*", " ".join(commands)) == []
    assert re.findall(r"(\S+)==", " ".join(commands)) == ["controlnet_aux"]


def test_the_repaired_notebook_has_the_new_check_and_no_old_one(repaired):
    assert sum("check_environment().text()" in source for source in repaired) == 1
    assert not any("esperadas" in source for source in repaired)


def test_the_repaired_notebook_has_one_generate_image_the_last(repaired):
    definitions = [
        node
        for source in repaired
        for node in ast.walk(Cell(0, source).tree)
        if isinstance(node, ast.FunctionDef) and node.name == "generate_image"
    ]
    assert [ast.get_docstring(node) for node in definitions] == ["Versión con pasos: la buena."]


def test_the_resampler_of_the_repaired_notebook_can_be_made(repaired):
    (call,) = re.findall(r"Resampler\(dim.*\)", "\n".join(repaired))
    resampler = eval(call.replace("depth=4", "depth=1"), {"Resampler": Resampler})
    assert (resampler.heads, resampler.dim_head) == (16, 128)


def test_every_import_of_the_repaired_notebook_works(repaired):
    for node in [node for source in repaired for node in ast.walk(Cell(0, source).tree)]:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)


def test_a_repaired_notebook_needs_no_repair(five):
    assert migrate(migrate(five).target).target is None


def test_the_notebook_of_this_project_needs_no_repair():
    report = migrate(ROOT / "InstantID_Gradio.ipynb")
    assert (report.ours, report.changes, report.target) == (True, (), None)


# The file


def test_the_original_is_never_changed(five):
    before = five.read_bytes()
    migrate(five)
    assert five.read_bytes() == before


@pytest.mark.parametrize(
    "layout", [{"indent": 1}, {"indent": 2, "ending": ""}, {"indent": None}, {"indent": "\t"}], ids=str
)
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("as_lines", [True, False])
def test_the_file_is_laid_out_as_it_was(tmp_path, layout, ascii_only, as_lines):
    options = {"ascii_only": ascii_only, "as_lines": as_lines, "colab": {"provenance": []}, **layout}
    path = write(tmp_path / "old.ipynb", FIVE_FAULTS, **options)
    repaired = migrate(path).target
    titled = [FIVE_FAULTS[0], *code_of(repaired)]
    expected = write(tmp_path / "expected.ipynb", titled, **options)
    assert repaired.read_bytes() == expected.read_bytes()


def test_what_is_not_repaired_stays_byte_for_byte_however_odd_it_is(tmp_path):
    cells = [
        r'{"source": ["# caf\u00e9\n"],   "cell_type":"markdown", "metadata": {"x": 1.50e3}}',
        r'{"cell_type": "code", "source": "draw_kps \u003c 1", "outputs": [ {"a":1} ], "b": 1, "b": 2}',
        r'{"cell_type": "code", "outputs": [1], "execution_count": 8, "m":{ }, "source": "pipe.enable_vae_tiling()"}',
    ]
    text = '\ufeff{"nbformat":4,\r\n "cells" : [' + ",\r\n".join(cells) + ' ] , "metadata":{"ñ":"é"}}\r\n\r\n'
    path = tmp_path / "odd.ipynb"
    path.write_bytes(text.encode())
    new = cells[2].replace("pipe.enable_vae_tiling", "pipe.vae.enable_tiling").replace("[1]", "[]").replace("8", "null")
    assert migrate(path).target.read_bytes().decode() == text.replace(cells[2], new)


def test_outputs_go_where_the_code_changed_and_stay_elsewhere(tmp_path):
    path = write(tmp_path / "old.ipynb", ["x = draw_kps", "pipe.enable_vae_tiling()"], outputs=[PICTURE])
    same, changed = json.loads(migrate(path).target.read_text("utf-8"))["cells"]
    assert (same["outputs"], same["execution_count"]) == ([PICTURE], 0)
    assert (changed["outputs"], changed["execution_count"]) == ([], None)


def test_the_repaired_notebook_goes_where_it_is_told(five, tmp_path):
    target = tmp_path / "new.ipynb"
    report = migrate(five, output=str(target))
    assert (report.target, report.written) == (target, True)
    assert code_of(target)


def test_without_a_name_it_goes_beside_the_old_one(five):
    assert migrate(five).target == five.with_name("old.migrated.ipynb")


def test_a_dry_run_says_the_same_and_writes_nothing(five):
    dry = migrate(five, dry_run=True)
    assert not dry.written
    assert not dry.target.exists()
    assert dry.changes == migrate(five).changes


@pytest.mark.parametrize("sources", [PANDAS, PINNED_TORCH, ONLY_IN_WORDS], ids=["pandas", "pytorch", "only words"])
def test_a_notebook_of_something_else_is_left_alone(tmp_path, sources):
    path = write(tmp_path / "other.ipynb", sources)
    before = path.read_bytes()
    report = migrate(path)
    assert (report.ours, report.changes, report.left_alone, report.target) == (False, (), (), None)
    assert [file.name for file in tmp_path.iterdir()] == ["other.ipynb"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "source", ["import instantid", 'repo = "InstantX/x"', "IPAdapter(pipe)", "draw_kps(x)", "name='antelopev2'"]
)
def test_code_that_names_any_part_of_instantid_makes_it_ours(tmp_path, source):
    assert migrate(write(tmp_path / "old.ipynb", [source])).ours


# What cannot be read or written


def refused(kind, *arguments):
    with pytest.raises(kind) as error:
        migrate(*arguments)
    return error.value


BAD_FILES = {
    "migration.no_json": [b"", b"import torch", b"\x89PNG\r\n\x1a\n\xff", b'{"cells": [', b"[" * 100_000],
    "migration.no_notebook": [
        b"[]",
        b"{}",
        b'{"nbformat": 4}',
        b'{"nbformat": "4", "cells": []}',
        b'{"nbformat": 4, "cells": [1]}',
        b'{"nbformat": 4, "cells": [{"cell_type": "code"}]}',
        b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": [1]}]}',
    ],
    "migration.old_format": [b'{"nbformat": 3, "worksheets": [{"cells": []}]}'],
}


@pytest.mark.parametrize(("key", "content"), [(key, content) for key, files in BAD_FILES.items() for content in files])
def test_a_file_that_is_no_notebook_is_named(tmp_path, key, content):
    path = tmp_path / "bad.ipynb"
    path.write_bytes(content)
    error = refused(UserError, path)
    assert error.code == key
    assert str(path) in str(error)


def test_a_file_that_is_not_there_and_a_folder_are_named(tmp_path):
    assert refused(UserError, tmp_path / "none.ipynb").code == "migration.no_file"
    assert refused(UserError, tmp_path).code == "migration.folder"


def test_a_file_of_hundreds_of_megabytes_is_not_even_read(tmp_path):
    path = tmp_path / "large.ipynb"
    with path.open("wb") as file:
        file.truncate(200 * 10**6)
    assert "200 MB" in str(refused(UserError, path))


def test_a_disk_that_refuses_is_said(five, tmp_path):
    error = refused(MachineError, five, tmp_path / "no" / "such" / "folder.ipynb")
    assert error.code == "migration.not_written"


@pytest.mark.parametrize(
    ("name", "key"), [("old.ipynb", "migration.target_is_source"), ("there.ipynb", "migration.target_exists")]
)
def test_nothing_is_ever_written_over(five, tmp_path, name, key):
    (tmp_path / "there.ipynb").write_text("mine", "utf-8")
    before = (tmp_path / name).read_bytes()
    assert refused(UserError, five, tmp_path / name).code == key
    assert (tmp_path / name).read_bytes() == before


# The report


def test_a_change_says_what_was_what_is_and_why():
    change = Change(3, "# Modelos", "heads=12", "heads=16", "migration.heads")
    assert change.text("en") == f"heads=12 → heads=16  ({say('migration.heads', 'en')})"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_report_has_a_line_for_each_change_below_its_cell(five, language):
    report = migrate(five)
    lines = report.text(language).splitlines()
    assert all(f"      {item.text(language)}" in lines for item in (*report.changes, *report.left_alone))
    assert say("migration.cell", language, number=2, title="🔧 Instalación de dependencias") in lines
    assert max(map(len, lines)) < 250


def test_every_number_of_a_cell_counts_all_cells(five):
    assert {change.cell for change in migrate(five).changes} == {2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("sources", "key"), [(["draw_kps"], "migration.nothing"), (["x"], "migration.not_ours")], ids=["fine", "other"]
)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_notebook_that_is_not_written_gets_one_line(tmp_path, language, sources, key):
    report = migrate(write(tmp_path / "a.ipynb", sources))
    assert report.text(language) == say(key, language, file="a.ipynb")


# The command


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_command_writes_the_notebook_and_prints_the_report(five, capsys, language):
    assert main(["migrate", str(five), "--language", language]) == 0
    target = five.with_name("old.migrated.ipynb")
    assert capsys.readouterr().out.splitlines()[-1] == say("migration.written", language, file=target)
    assert target.exists()


def test_the_options_of_the_command_reach_the_repair(five, tmp_path, capsys):
    target = tmp_path / "new.ipynb"
    assert main(["migrate", str(five), "--dry-run", "--output", str(target), "--language", "en"]) == 0
    assert str(target) in capsys.readouterr().out
    assert not target.exists()


def test_the_command_ends_with_2_and_one_line_where_there_is_no_notebook(tmp_path, capsys):
    assert main(["migrate", str(tmp_path / "none.ipynb"), "--language", "en"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("❌ ")
    assert said.count("\n") == 1


def test_the_command_leaves_a_notebook_of_something_else_with_0(tmp_path, capsys):
    assert main(["migrate", str(write(tmp_path / "a.ipynb", PANDAS)), "--language", "en"]) == 0
    assert capsys.readouterr().out.count("\n") == 1

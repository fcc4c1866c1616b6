"""The notebook as a file: its form, and nothing in it that belongs elsewhere."""

import ast
import json
import re

import nbformat
import pytest
from notebook_session import NOTEBOOK

from instantid.few_steps import FEW_STEPS, NO_FEW_STEPS
from instantid.loading import DEMO
from instantid.memory_plan import OFFLOADS
from instantid.messages import LANGUAGES
from instantid.request import BOUNDS, GenerationRequest
from instantid.requirements import ROOT
from instantid.styles import STYLES
from instantid.weights import BASE_MODELS

PROJECT = ("instantid", "ip_adapter", "pipeline_stable_diffusion_xl_instantid.py")


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells():
    return [cell for cell in read().cells if cell.cell_type == "code"]


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


# The form


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

"""What is said while a bundle is loaded, and the line that the page has for it."""

from dataclasses import replace

import pytest
from loaded_bundles import REQUEST, loaded

from instantid.generation import generate_image
from instantid.loading import load_models
from instantid.messages import LANGUAGES, say
from instantid.random_bundle import DESCRIPTION

STAGES = ("start", "faces", "base", "identitynet", "adapter", "ready")


@pytest.fixture(scope="module", params=LANGUAGES)
def told(request, random_bundle):
    """A language, and the lines of a loading in it."""
    lines = []
    load_models(random_bundle, language=request.param, write=lines.append)
    return request.param, lines


def test_the_first_lines_say_what_is_loaded_and_how_memory_is_used(told):
    language, lines = told
    assert lines[0] == say("loading.description", language, description=DESCRIPTION[language])
    assert lines[1].startswith(say("plan.title", language))


def test_every_stage_has_its_memory_line_in_order(told):
    language, lines = told
    named = [stage for line in lines for stage in STAGES if line.startswith(f"📊 {say(f'stage.{stage}', language)}: ")]
    assert named == list(STAGES)


def test_it_is_said_where_faces_are_analysed_and_that_all_is_ready(told):
    language, lines = told
    assert say("loading.faces_on", language, provider="CPUExecutionProvider") in lines
    assert lines[-1].startswith(say("loading.ready", language, seconds="|").split("|")[0])


def test_libraries_add_nothing_to_the_lines(random_bundle, capfd, caplog):
    models = loaded(random_bundle)
    generate_image(models, replace(REQUEST, prompt="person " * 90))
    assert "".join(capfd.readouterr()) == ""
    assert caplog.messages == []


def test_the_line_for_the_page_names_bundle_device_and_precision_in_each_language(models):
    about = models.about()
    assert set(about) == set(LANGUAGES)
    for language, line in about.items():
        assert line == f"{DESCRIPTION[language]} · {models.hardware.name} · float32"

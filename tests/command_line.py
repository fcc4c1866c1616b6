"""The command line in this process: what it asks of models and a page that do nothing, and how it refuses."""

import sys
from pathlib import Path
from types import SimpleNamespace

from fake_generator import FakeGenerator

from instantid.__main__ import main


def watched(monkeypatch):
    """What will reach the loader, the generator, the page and its launch, none of which does anything; name -> what."""
    calls = {}

    def load(*args, **kwargs):
        calls["load"] = (args, kwargs)
        bundle = SimpleNamespace(examples=lambda: [Path("ana.png")], prompts=lambda: ["a face"])
        return SimpleNamespace(about=lambda: {"es": "", "en": ""}, bundle=bundle)

    def generate(models, request, on_progress):
        calls["request"] = request
        return FakeGenerator()(request, lambda progress: None, lambda: False)

    monkeypatch.setattr("instantid.loading.load_models", load)
    monkeypatch.setattr("instantid.generation.generate_image", generate)
    page = SimpleNamespace(  # of its own, as importing gradio takes seconds
        create_demo=lambda generator, **kwargs: calls.setdefault("demo", kwargs),
        launch=lambda demo, **kwargs: calls.setdefault("launch", kwargs),
    )
    monkeypatch.setitem(sys.modules, "instantid.ui", page)
    return calls


def refused(capsys, *arguments):
    """The line that a command which cannot be done says, after its exit code 2."""
    assert main([*arguments, "--language", "en"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("❌ ")
    assert said.count("\n") == 1
    return said

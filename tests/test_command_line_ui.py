"""`ui` on the command line: what reaches the page and its launch."""

import sys
from pathlib import Path

import pytest
from command_line import refused, watched

from instantid.__main__ import main
from instantid.messages import say


@pytest.fixture
def received(monkeypatch):
    return watched(monkeypatch)


def test_the_options_of_the_page_reach_its_launch(received, tmp_path):
    line = ["--host", "0.0.0.0", "--port", "7999", "--share", "--no-browser"]
    assert main(["ui", *line, "--output", str(tmp_path), "--language", "en"]) == 0
    expected = {"share": True, "server_name": "0.0.0.0", "server_port": 7999, "inbrowser": False}
    assert received["launch"] == expected
    page = {"language": "en", "about": {"es": "", "en": ""}, "output_folder": tmp_path, "settings_file": None}
    to_try = {"portraits": [Path("ana.png")], "prompts": ["a face"]}  # what the models bring
    assert received["demo"] == page | to_try


def test_one_folder_keeps_weights_pictures_and_settings(received, tmp_path, capsys):
    assert main(["ui", "--keep", str(tmp_path / "kept"), "--language", "en"]) == 0
    assert received["load"][1]["folder"] == tmp_path / "kept" / "weights"
    assert received["demo"]["output_folder"] == tmp_path / "kept" / "results"
    assert received["demo"]["settings_file"] == tmp_path / "kept" / "settings.json"
    assert capsys.readouterr().out == say("keeping.new", "en", folder=tmp_path / "kept") + "\n"


def test_what_is_given_a_place_of_its_own_is_not_kept_with_the_rest(received, tmp_path):
    line = ["--keep", str(tmp_path / "kept"), "--folder", "weights", "--output", str(tmp_path / "pictures")]
    assert main(["ui", *line]) == 0
    assert received["load"][1]["folder"] == Path("weights")
    assert received["demo"]["output_folder"] == tmp_path / "pictures"


def test_a_page_is_for_this_machine_alone_unless_asked_otherwise(received):
    main(["ui"])
    assert received["launch"] == {"share": False, "server_name": "127.0.0.1", "server_port": None, "inbrowser": True}


def test_a_port_that_is_taken_is_one_line(received, monkeypatch, capsys):
    def launch(demo, **_kwargs):
        raise OSError("Cannot find empty port in range: 7999-7999.")

    monkeypatch.setattr(sys.modules["instantid.ui"], "launch", launch)
    assert "port 7999" in refused(capsys, "ui", "--port", "7999")

"""The page's line of memory, and the peaks of stages below its pictures."""

import pytest
from fake_generator import FakeGenerator

from instantid import hardware
from instantid.hardware import MemoryUse
from instantid.messages import LANGUAGES, say
from instantid.ui import MEMORY_SECONDS, create_demo
from instantid.ui_run import memory_now, summary

ROOMY = MemoryUse(12.75, 7.5, 14.5, 4.5, 3.0, 1.0)
LOW = MemoryUse(12.75, 1.0, 14.5, 4.5, 3.0, 1.0)


@pytest.fixture(scope="module")
def page():
    return create_demo(FakeGenerator(), language="en").get_config_file()


def memory_event(page):
    (line,) = (c["id"] for c in page["components"] if c["props"].get("elem_id") == "memory")
    (event,) = (event for event in page["dependencies"] if event["outputs"] == [line])
    return event


def test_the_line_is_asked_for_when_the_page_opens_at_each_tick_and_when_the_language_changes(page):
    names = {name for _, name in memory_event(page)["targets"]}
    assert names == {"load", "tick", "input"}
    (timer,) = (component for component in page["components"] if component["type"] == "timer")
    assert timer["props"]["value"] == MEMORY_SECONDS


def test_looking_at_the_memory_never_waits_behind_a_picture(page):
    assert memory_event(page)["queue"] is False


def test_a_look_that_is_not_answered_yet_is_not_asked_for_again(page):
    assert memory_event(page)["trigger_mode"] == "once"


def test_looking_shows_no_spinner_and_is_not_in_the_api(page):
    event = memory_event(page)
    assert event["show_progress"] == "hidden"
    assert event["api_name"] is False or event.get("api_visibility") == "private"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_line_says_what_is_used_and_warns_in_the_language_of_the_page(monkeypatch, language):
    monkeypatch.setattr(hardware, "memory_in_use", lambda: ROOMY)
    assert memory_now(language) == "RAM 5.2 / 12.8 GiB · VRAM 10.0 / 14.5 GiB"
    monkeypatch.setattr(hardware, "memory_in_use", lambda: LOW)
    assert memory_now(language).startswith(say("memory.low", language))


def test_the_summary_names_the_peak_of_each_stage():
    settings = {"width": 832, "height": 1216, "seconds": {}, "peak_vram_gib": 10.91}
    stages = {"faces": 9.9, "denoising": 10.91, "decoding": 10.2, "unknown": 1.0}
    assert summary(settings | {"stage_peaks": stages}, "en") == (
        "832 × 1216 · 10.9 GiB of GPU (face 9.9, steps 10.9, decoding 10.2)"
    )


def test_without_peaks_of_stages_the_summary_has_the_highest_alone():
    settings = {"width": 832, "height": 1216, "seconds": {}, "peak_vram_gib": 10.91, "stage_peaks": {}}
    assert summary(settings, "es") == "832 × 1216 · 10.9 GiB de GPU"

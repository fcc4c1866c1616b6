"""Memory as lines, peaks of stages, warnings from the thread that watches, and the line that is written anew."""

import io
import sys
import threading
import types
from dataclasses import replace

import pytest

from instantid import live_line as live
from instantid import monitor as watching
from instantid.hardware import MemoryUse
from instantid.messages import say
from instantid.monitor import LOW_RAM_GIB, LOW_VRAM_GIB, MemoryMonitor, StagePeak, is_low, memory_line, stage_line

SECONDS = 10  # the longest wait for the thread
OFTEN = 0.001  # seconds between two looks

FREE_COLAB = MemoryUse(12.75, 10.0, 14.75, 14.25, anonymous_gib=0.5, mapped_gib=0.25)
PROCESSOR = MemoryUse(8.0, 5.5, None, None, anonymous_gib=1.0, mapped_gib=0.0)
LOW_RAM, LOW_VRAM = replace(FREE_COLAB, ram_free_gib=1.0), replace(FREE_COLAB, vram_free_gib=0.25)


class Machine:
    """Says what the test sets; a look at it can be waited for."""

    def __init__(self):
        self.use = FREE_COLAB
        self.peak_vram_gib = None
        self._looked = threading.Semaphore(0)

    def look(self):
        self._looked.release()
        return self.use

    def is_looked_at(self):
        """Waits until a look has begun after now, and has ended."""
        while self._looked.acquire(blocking=False):
            pass
        return all(self._looked.acquire(timeout=SECONDS) for _ in range(3))


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(watching, "memory_in_use", machine.look)
    monkeypatch.setattr(watching, "peak_vram_gib", lambda: machine.peak_vram_gib)
    return machine


def watchers():
    return [thread for thread in threading.enumerate() if thread.name == "memory monitor"]


# Lines


def test_a_stage_says_what_is_used_and_free():
    assert stage_line("start", FREE_COLAB, "es") == (
        "📊 Al empezar: RAM 2.8 GiB usada, 10.0 libre · VRAM 0.5 GiB usada, 14.2 libre"
    )


def test_without_a_gpu_a_stage_says_nothing_of_vram():
    assert stage_line("ready", PROCESSOR, "en") == "📊 Ready: RAM 2.5 GiB used, 5.5 free"


def test_the_current_line_says_how_much_of_how_much():
    assert memory_line(FREE_COLAB, "en") == "RAM 2.8 / 12.8 GiB · VRAM 0.5 / 14.8 GiB"
    assert memory_line(PROCESSOR, "en") == "RAM 2.5 / 8.0 GiB"


@pytest.mark.parametrize("language", ["es", "en"])
@pytest.mark.parametrize("use", [LOW_RAM, LOW_VRAM], ids=["RAM", "VRAM"])
def test_the_current_line_warns_of_low_memory(use, language):
    assert memory_line(use, language).startswith(f"{say('memory.low', language)} RAM ")


def test_memory_is_low_just_below_the_limits_and_not_on_them():
    uses = [
        replace(FREE_COLAB, ram_free_gib=ram, vram_free_gib=vram)
        for ram, vram in [
            (LOW_RAM_GIB, LOW_VRAM_GIB),
            (LOW_RAM_GIB - 0.01, LOW_VRAM_GIB),
            (LOW_RAM_GIB, LOW_VRAM_GIB - 0.01),
        ]
    ]
    assert [is_low(use) for use in uses] == [False, True, True]


# Stages


def test_each_stage_is_one_line_of_the_machine_as_it_is_then(machine):
    lines = []
    monitor = MemoryMonitor(lines.append, "en")
    monitor.stage("start")
    machine.use = replace(FREE_COLAB, ram_free_gib=4.0)
    monitor.stage("ready")
    assert lines == [stage_line("start", FREE_COLAB, "en"), stage_line("ready", machine.use, "en")]


def test_low_memory_is_warned_of_after_the_line_of_its_stage(machine):
    machine.use, lines = LOW_RAM, []
    MemoryMonitor(lines.append, "es").stage("base")
    assert lines[1:] == ["⚠️ Memoria baja. Considera reiniciar el runtime.", "💡 Runtime → Restart runtime"]


def test_low_memory_is_warned_of_in_english(machine):
    machine.use, lines = LOW_RAM, []
    MemoryMonitor(lines.append, "en").stage("base")
    assert lines[1:] == ["⚠️ Memory is low. Consider restarting the runtime.", "💡 Runtime → Restart runtime"]


def test_each_stage_keeps_its_own_peaks(machine):
    monitor = MemoryMonitor(None)
    machine.use, machine.peak_vram_gib = replace(FREE_COLAB, anonymous_gib=3.0), 9.0
    monitor.stage("denoising")
    machine.use, machine.peak_vram_gib = replace(FREE_COLAB, anonymous_gib=2.0), 7.0
    monitor.stage("decoding")
    assert monitor.stages == {"denoising": StagePeak(3.0, 9.0), "decoding": StagePeak(2.0, 7.0)}
    assert monitor.peak_vram_gib == 9.0


def test_a_stage_that_comes_again_keeps_the_higher_peak(machine):
    monitor = MemoryMonitor(None)
    for machine.peak_vram_gib in (5.0, 8.0, 6.0):
        monitor.stage("denoising")
    assert monitor.stages == {"denoising": StagePeak(0.5, 8.0)}


def test_without_a_gpu_there_are_peaks_of_ram_only(machine):
    machine.use = PROCESSOR
    monitor = MemoryMonitor(None)
    monitor.stage("denoising")
    assert monitor.stages == {"denoising": StagePeak(1.0, None)}
    assert monitor.peak_vram_gib is None


def test_the_vram_of_a_stage_is_measured_from_its_beginning(machine, monkeypatch):
    resets = []
    monkeypatch.setattr(watching, "reset_peak_vram", lambda: resets.append(1))
    monitor = MemoryMonitor(None)
    monitor.stage("faces")
    monitor.stage("denoising")
    assert len(resets) == 3


# The thread


def test_a_peak_between_two_stages_is_seen(machine):
    with MemoryMonitor(None, interval=OFTEN) as monitor:
        machine.use = replace(FREE_COLAB, anonymous_gib=6.0)
        assert machine.is_looked_at()
        machine.use = FREE_COLAB
        monitor.stage("base")
    assert monitor.stages["base"].ram_gib == 6.0


def test_low_memory_is_warned_of_while_a_stage_runs_and_once_only(machine):
    lines = []
    with MemoryMonitor(lines.append, "en", interval=OFTEN) as monitor:
        machine.use = LOW_VRAM
        assert machine.is_looked_at()
        warning = [
            "📊 RAM 2.8 / 12.8 GiB · VRAM 14.5 / 14.8 GiB",
            say("memory.low", "en"),
            say("memory.low_advice", "en"),
        ]
        assert lines == warning
        monitor.stage("base")
    assert lines[:4] == [*warning, stage_line("base", LOW_VRAM, "en")]
    assert monitor.was_low


def test_the_next_stage_is_warned_of_anew(machine):
    machine.use, lines = LOW_RAM, []
    monitor = MemoryMonitor(lines.append, "en")
    monitor.stage("start")
    monitor.stage("base")
    assert lines.count(say("memory.low", "en")) == 2


def test_a_monitor_without_a_voice_remembers_that_memory_was_low(machine):
    monitor = MemoryMonitor(None)
    monitor.stage("faces")
    assert not monitor.was_low
    machine.use = LOW_RAM
    monitor.stage("denoising")
    assert monitor.was_low


def test_no_thread_is_left_after_the_end(machine):
    with MemoryMonitor(None):
        assert len(watchers()) == 1
    assert watchers() == []


def test_no_thread_is_left_after_an_error(machine):
    with pytest.raises(MemoryError), MemoryMonitor(None):
        raise MemoryError
    assert watchers() == []


def test_the_end_does_not_wait_for_the_next_look(machine):
    with MemoryMonitor(None, interval=1e6):
        pass
    assert watchers() == []


def test_a_monitor_can_watch_again(machine):
    monitor = MemoryMonitor(None, interval=OFTEN)
    for _ in range(2):
        with monitor:
            assert machine.is_looked_at()


def test_the_current_line_is_shown_at_each_look_and_makes_room_in_the_end(machine):
    shown = []
    with MemoryMonitor(None, "en", shown.append, OFTEN):
        assert machine.is_looked_at()
    assert shown[-1] == ""
    assert set(shown[:-1]) == {memory_line(FREE_COLAB, "en")}


def test_the_shown_line_makes_room_for_every_line_that_is_written(machine):
    both = []
    machine.use = LOW_RAM
    monitor = MemoryMonitor(both.append, "en", lambda text: both.append(f"shown {text}"))
    monitor.stage("base")
    monitor.write("another's")
    assert both[::2] == ["shown "] * 4
    assert both[-1] == "another's"


# The line that is written anew


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_is_written_over_in_place(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(live.sys, "stderr", terminal)
    show = live.live_line()
    show("RAM 5.1 / 12.7 GiB")
    show("")
    assert terminal.getvalue() == "\r\033[KRAM 5.1 / 12.7 GiB\r\033[K"


def test_where_the_output_is_no_terminal_nothing_rewrites_itself(monkeypatch):
    monkeypatch.setattr(live.sys, "stderr", io.StringIO())
    assert live.live_line() is None


def test_in_a_notebook_one_output_of_the_cell_changes_and_its_last_text_stays(monkeypatch):
    updates = []
    handle = types.SimpleNamespace(update=lambda data, raw: updates.append(data))
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=lambda *args, **named: handle))
    show = live.live_line()
    show("RAM 5.1 / 12.7 GiB")
    show("")
    assert updates == [{"text/plain": "RAM 5.1 / 12.7 GiB"}]


def test_ipython_in_a_terminal_is_a_terminal(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: object()))
    monkeypatch.setattr(live.sys, "stderr", io.StringIO())
    assert live.live_line() is None

"""The memory lines of each stage."""

import pytest

from instantid.hardware import Hardware
from instantid.monitor import LOW_RAM_GIB, LOW_VRAM_GIB, MemoryMonitor, is_low, memory_lines


def gpu(vram, ram, *, vram_free=None, ram_free=None):
    """A machine with an NVIDIA GPU; GiB. As much is free as usually is."""
    vram_free = vram - 0.2 if vram_free is None else vram_free
    ram_free = ram - 1.4 if ram_free is None else ram_free
    return Hardware("cuda", "A card", (7, 5), vram, vram_free, ram, ram_free, 100.0)


def without_gpu(ram, device="cpu"):
    return Hardware(device, "A processor", None, None, None, ram, ram / 2, 100.0)


def test_a_stage_says_what_is_used_and_free():
    (line,) = memory_lines("start", gpu(15.0, 12.5, vram_free=14.5, ram_free=10.0), "es")
    assert line == "📊 Al empezar: RAM 2.5 GiB usada, 10.0 libre · VRAM 0.5 GiB usada, 14.5 libre"


def test_without_a_gpu_a_stage_says_nothing_of_vram():
    (line,) = memory_lines("ready", without_gpu(8.0), "en")
    assert line == "📊 Ready: RAM 4.0 GiB used, 4.0 free"


LOW_RAM, LOW_VRAM = gpu(14.6, 12.7, ram_free=1.0), gpu(14.6, 12.7, vram_free=0.3)


@pytest.mark.parametrize("machine", [LOW_RAM, LOW_VRAM], ids=["RAM", "VRAM"])
def test_low_memory_is_warned_of_with_what_to_do(machine):
    _, *warning = memory_lines("base", machine, "es")
    assert warning == ["⚠️ Memoria baja. Considera reiniciar el runtime.", "💡 Runtime → Restart runtime"]


def test_low_memory_is_warned_of_in_english():
    _, warning, advice = memory_lines("base", LOW_RAM, "en")
    assert warning.startswith("⚠️ Memory is low.")
    assert advice == "💡 Runtime → Restart runtime"


def test_memory_is_low_just_below_the_limits_and_not_on_them():
    machines = [
        gpu(14.6, 12.7, ram_free=ram, vram_free=vram)
        for ram, vram in [
            (LOW_RAM_GIB, LOW_VRAM_GIB),
            (LOW_RAM_GIB - 0.01, LOW_VRAM_GIB),
            (LOW_RAM_GIB, LOW_VRAM_GIB - 0.01),
        ]
    ]
    assert [is_low(machine) for machine in machines] == [False, True, True]


def test_a_monitor_writes_the_lines_of_the_machine_as_it_is_then(monkeypatch):
    machines = iter([gpu(14.6, 12.7), LOW_RAM])
    monkeypatch.setattr("instantid.monitor.detect_hardware", lambda: next(machines))
    written = []
    monitor = MemoryMonitor(written.append, "en")
    monitor.stage("start")
    monitor.stage("ready")
    assert written == memory_lines("start", gpu(14.6, 12.7), "en") + memory_lines("ready", LOW_RAM, "en")

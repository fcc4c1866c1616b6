"""What a machine has, the memory plan made from it, and the memory lines of each stage."""

import itertools
import os
import subprocess
import sys
from collections import namedtuple
from dataclasses import fields

import pytest

from instantid import hardware as asked_machine
from instantid.hardware import GIB, Hardware, detect_hardware, peak_vram_gib, prepare_allocator
from instantid.memory_plan import OFFLOADS, PRECISIONS, MemoryPlan, PlanOptions, choose_plan
from instantid.messages import LANGUAGES, say
from instantid.monitor import LOW_RAM_GIB, LOW_VRAM_GIB, MemoryMonitor, is_low, memory_lines
from ip_adapter.errors import UserError


def gpu(vram, ram, *, vram_free=None, ram_free=None):
    """A machine with an NVIDIA GPU; GiB. As much is free as usually is."""
    vram_free = vram - 0.2 if vram_free is None else vram_free
    ram_free = ram - 1.4 if ram_free is None else ram_free
    return Hardware("cuda", "A card", (7, 5), vram, vram_free, ram, ram_free, 100.0)


def without_gpu(ram, device="cpu"):
    return Hardware(device, "A processor", None, None, None, ram, ram / 2, 100.0)


T4 = gpu(14.6, 51.0)

# machine -> offload, precision, tiles
MACHINES = {
    "T4 of free Colab": (gpu(14.6, 12.7), "none", "float16", True),
    "T4 with much RAM": (T4, "none", "float16", True),
    "L4": (gpu(22.5, 53.0), "none", "float16", False),
    "A100": (gpu(40.0, 83.5), "none", "float16", False),
    "RTX 3060": (gpu(12.0, 32.0), "model", "float16", True),
    "RTX 3060 with 16 GiB of RAM": (gpu(12.0, 16.0), "model", "float16", True),
    "laptop with 8 GiB": (gpu(8.0, 16.0), "sequential", "float16", True),
    "laptop with 8 GiB and RAM in use": (gpu(8.0, 16.0, ram_free=9.0), "none", "float16", True),
    "old card with 6 GiB": (gpu(6.0, 16.0), "sequential", "float16", True),
    "A100 that another process fills": (gpu(40.0, 83.5, vram_free=10.0), "model", "float16", False),
    "small processor": (without_gpu(8.0), "none", "float32", False),
    "Apple": (without_gpu(16.0, "mps"), "none", "float32", False),
}
SWEEP = [gpu(vram, ram, ram_free=ram) for vram, ram in itertools.product(range(2, 49), (4, 8, 11, 11.5, 12, 21, 64))]


@pytest.mark.parametrize("name", MACHINES)
def test_the_plan_for_a_machine(name):
    machine, offload, precision, tiles = MACHINES[name]
    plan = choose_plan(machine)
    assert (plan.device, plan.offload, plan.precision, plan.vae_tiling) == (machine.device, offload, precision, tiles)


def test_nothing_is_offloaded_to_ram_that_is_too_small():
    """It would trade a full GPU for a process that the system kills without a word."""
    assert {choose_plan(machine).offload for machine in SWEEP if machine.ram_free_gib < 11.2} == {"none"}


def test_more_vram_never_gives_a_slower_plan():
    plans = [choose_plan(machine).offload for machine in SWEEP if machine.ram_free_gib == 64]
    assert plans == sorted(plans, key=OFFLOADS.index, reverse=True)
    assert set(plans) == set(OFFLOADS)


def test_the_numbers_of_a_reason_bear_it_out():
    for machine in SWEEP:
        plan = choose_plan(machine)
        key, facts = plan.reasons["offload"]
        if key == "plan.why_no_room_in_ram":
            assert facts["ram"] < facts["needed"]
        else:
            assert (facts["vram"] >= facts["needed"]) == (plan.offload == "none")


def test_only_apple_slices_attention_by_itself():
    slicing = {name for name, (machine, *_) in MACHINES.items() if choose_plan(machine).attention_slicing}
    assert slicing == {"Apple"}


def test_a_part_of_the_gpu_is_left_to_others():
    assert choose_plan(T4).memory_fraction == 0.8
    assert choose_plan(without_gpu(8.0)).memory_fraction is None


# What a person decides

FORCED = [
    ("device", "cpu"),
    ("device", "cuda"),
    *(("precision", precision) for precision in PRECISIONS),
    *(("offload", offload) for offload in OFFLOADS),
    *itertools.product(("vae_slicing", "vae_tiling", "attention_slicing"), (True, False)),
    ("memory_fraction", 0.1),
    ("memory_fraction", 1),
]


@pytest.mark.parametrize(("option", "value"), FORCED)
def test_what_is_asked_for_is_done_and_the_reason_says_so(option, value):
    plan = choose_plan(T4, PlanOptions(**{option: value}))
    assert getattr(plan, option) == value
    assert plan.reasons[option] == ("plan.why_asked", {})
    assert f"{say(f'plan.{option}', 'en')}: " in plan.text("en")


def test_every_option_is_tried_here():
    assert {option for option, _ in FORCED} == {field.name for field in fields(PlanOptions)}


def test_what_is_not_asked_for_stays_as_planned():
    plan, asked = choose_plan(T4), choose_plan(T4, PlanOptions(vae_tiling=False))
    assert (asked.device, asked.precision, asked.offload) == (plan.device, plan.precision, plan.offload)
    assert (plan.vae_tiling, asked.vae_tiling) == (True, False)


def test_the_processor_of_a_machine_with_a_gpu_is_planned_as_one():
    plan = choose_plan(T4, PlanOptions(device="cpu"))
    assert (plan.precision, plan.offload, plan.memory_fraction) == ("float32", "none", None)


def test_a_small_part_of_the_gpu_is_planned_for_as_a_small_gpu():
    offloads = [choose_plan(T4, PlanOptions(memory_fraction=part)).offload for part in (0.5, 0.7, 1.0)]
    assert offloads == ["sequential", "model", "none"]


def test_float32_is_planned_for_at_twice_the_size():
    offloads = [choose_plan(gpu(vram, 64.0), PlanOptions(precision="float32")).offload for vram in (14.6, 24, 40)]
    assert offloads == ["sequential", "model", "none"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("device", "tpu"),
        ("device", 0),
        ("precision", "fp8"),
        ("precision", True),
        ("offload", "yes"),
        ("offload", True),
        ("vae_slicing", "no"),
        ("vae_tiling", 2),
        ("attention_slicing", "auto"),
        ("memory_fraction", 0),
        ("memory_fraction", 1.01),
        ("memory_fraction", float("nan")),
        ("memory_fraction", float("inf")),
        ("memory_fraction", "half"),
    ],
)
def test_an_option_that_does_not_exist_is_named_with_what_was_given(option, value):
    with pytest.raises(UserError) as caught:
        choose_plan(T4, PlanOptions(**{option: value}))
    assert caught.value.facts["field"] == option
    assert f"“{option}” is" in str(caught.value)
    assert str(value) in str(caught.value)


@pytest.mark.parametrize(("machine", "device"), [(without_gpu(8.0), "cuda"), (T4, "mps"), (without_gpu(8.0), "mps")])
def test_a_device_that_is_not_there_is_named_with_what_is(machine, device):
    with pytest.raises(UserError) as caught:
        choose_plan(machine, PlanOptions(device=device))
    assert caught.value.code == "plan.no_such_device"
    assert caught.value.facts == {"asked": device, "found": machine.device}


@pytest.mark.parametrize(
    ("machine", "options"),
    [
        (without_gpu(8.0), PlanOptions(offload="model")),
        (without_gpu(16.0, "mps"), PlanOptions(offload="sequential")),
        (T4, PlanOptions(offload="model", device="cpu")),
    ],
)
def test_an_offload_without_a_gpu_to_offload_from_is_refused(machine, options):
    with pytest.raises(UserError) as caught:
        choose_plan(machine, options)
    assert caught.value.code == "plan.offload_needs_gpu"


def test_no_offload_may_be_asked_for_anywhere():
    assert choose_plan(without_gpu(8.0), PlanOptions(offload="none")).offload == "none"


# What is said about it


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", MACHINES)
def test_the_text_names_every_choice_with_its_value_and_reason(name, language):
    plan = choose_plan(MACHINES[name][0])
    title, *lines = plan.text(language).splitlines()
    assert title == say("plan.title", language)
    choices = [field.name for field in fields(MemoryPlan) if field.name != "reasons"]
    if plan.memory_fraction is None:
        choices.remove("memory_fraction")
    assert len(lines) == len(choices)
    for choice in choices:
        (line,) = (line for line in lines if line.strip().startswith(f"{say(f'plan.{choice}', language)}: "))
        value, _, reason = line.partition(": ")[2].partition(" — ")
        given = getattr(plan, choice)
        assert value == (say("plan.on" if given else "plan.off", language) if isinstance(given, bool) else str(given))
        assert reason


def test_the_text_of_free_colab_in_spanish():
    text = choose_plan(gpu(14.6, 12.7)).text("es")
    assert "descarga a la RAM: none — todo cabe en la GPU: 11.7 GiB de VRAM, hacen falta 11.5" in text


def test_the_plan_knows_no_torch():
    code = "import sys, instantid.memory_plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Memory lines


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


# Asking the machine

Memory = namedtuple("Memory", "total available")
Disk = namedtuple("Disk", "free")


@pytest.fixture
def machine(monkeypatch):
    """A machine of known size; the test adds a GPU. Keeps which folder's disk was measured."""
    torch, measured = asked_machine.torch, []
    monkeypatch.setattr(asked_machine.psutil, "virtual_memory", lambda: Memory(16 * GIB, 9 * GIB))
    monkeypatch.setattr(asked_machine.shutil, "disk_usage", lambda p: measured.append(p) or Disk(70 * GIB))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return measured


def test_a_processor_is_told_with_its_memory(machine):
    found = detect_hardware()
    assert (found.device, found.capability, found.vram_total_gib, found.vram_free_gib) == ("cpu", None, None, None)
    assert (found.ram_total_gib, found.ram_free_gib, found.disk_free_gib) == (16, 9, 70)


def test_an_nvidia_gpu_is_told_with_its_memory(machine, monkeypatch):
    cuda = asked_machine.torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(cuda, "mem_get_info", lambda: (14 * GIB, 15 * GIB))
    found = detect_hardware()
    assert (found.device, found.name, found.capability) == ("cuda", "Tesla T4", (7, 5))
    assert (found.vram_total_gib, found.vram_free_gib) == (15, 14)


def test_an_apple_gpu_has_no_memory_of_its_own(machine, monkeypatch):
    monkeypatch.setattr(asked_machine.torch.backends.mps, "is_available", lambda: True)
    found = detect_hardware()
    assert (found.device, found.vram_total_gib) == ("mps", None)


def test_the_disk_of_a_folder_that_does_not_exist_yet_is_that_of_the_nearest_that_does(machine, tmp_path):
    detect_hardware(tmp_path / "weights" / "base")
    assert machine == [tmp_path]


def test_this_machine_has_what_it_says():
    found = detect_hardware()
    assert found.device == ("cuda" if asked_machine.torch.cuda.is_available() else found.device)
    assert 0 < found.ram_free_gib <= found.ram_total_gib
    assert found.disk_free_gib > 0


@pytest.mark.skipif(asked_machine.torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_there_is_no_peak():
    assert peak_vram_gib() is None


OLD_NAME, NEW_NAME = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"


@pytest.fixture
def environment(monkeypatch):
    """The environment without allocator settings; what is set in it is gone after the test."""
    others = {name: value for name, value in os.environ.items() if name not in (OLD_NAME, NEW_NAME)}
    monkeypatch.setattr(asked_machine.os, "environ", others)
    monkeypatch.setattr(asked_machine.torch.cuda, "is_initialized", lambda: False)
    return others


def allocator_settings(environment):
    return {name: environment[name] for name in (OLD_NAME, NEW_NAME) if name in environment}


@pytest.mark.parametrize(
    ("version", "name"),
    [("2.6.0", OLD_NAME), ("2.8.1+cu128", OLD_NAME), ("2.9.0+cpu", NEW_NAME), ("2.13.0", NEW_NAME), ("3.0", NEW_NAME)],
)
def test_the_allocator_is_set_under_the_name_that_this_torch_reads(environment, monkeypatch, version, name):
    monkeypatch.setattr(asked_machine.torch, "__version__", version)
    assert prepare_allocator("max_split_size_mb:64") is True
    assert allocator_settings(environment) == {name: "max_split_size_mb:64"}


@pytest.mark.parametrize("name", [OLD_NAME, NEW_NAME])
def test_an_allocator_setting_of_the_persons_own_stays(environment, name):
    environment[name] = "expandable_segments:True"
    prepare_allocator()
    assert allocator_settings(environment) == {name: "expandable_segments:True"}


def test_an_allocator_that_runs_already_is_told(environment, monkeypatch):
    monkeypatch.setattr(asked_machine.torch.cuda, "is_initialized", lambda: True)
    assert prepare_allocator() is False

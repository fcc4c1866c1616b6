"""The memory plan made from what a machine has."""

import itertools
import subprocess
import sys
from dataclasses import fields

import pytest

from instantid.hardware import Hardware
from instantid.memory_plan import OFFLOADS, PRECISIONS, MemoryPlan, PlanOptions, choose_plan
from instantid.messages import LANGUAGES, say
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

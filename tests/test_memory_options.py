"""The memory plan with options that a person decides themselves."""

import itertools
from dataclasses import fields, replace

import pytest
from machines import T4, gpu, without_gpu
from published_sizes import PUBLISHED

from instantid.expected_memory import GRAPHS_GIB, TILES_GIB, Rung
from instantid.memory_plan import (
    GRAPHED,
    IN_PLACE,
    LADDERS,
    OFFLOADS,
    PRECISIONS,
    SPEEDS,
    STORAGES,
    VAE_PRECISIONS,
    PlanOptions,
    choose_plan,
)
from instantid.messages import LANGUAGES, say
from ip_adapter.errors import UserError

FORCED = [
    ("device", "cpu"),
    ("device", "cuda"),
    *(("precision", precision) for precision in PRECISIONS),
    *(("offload", offload) for offload in OFFLOADS),
    *(("storage", storage) for storage in STORAGES),
    *(("speed", speed) for speed in SPEEDS),
    *(("vae_precision", precision) for precision in VAE_PRECISIONS),
    *itertools.product(("vae_slicing", "vae_tiling", "attention_slicing"), (True, False)),
    ("memory_fraction", 0.1),
    ("memory_fraction", 1),
]


@pytest.mark.parametrize(("option", "value"), FORCED)
def test_what_is_asked_for_is_done_and_the_reason_says_so(option, value):
    plan = choose_plan(gpu(14.6, 51.0, capability=(9, 0)), PUBLISHED, PlanOptions(**{option: value}))
    assert getattr(plan, option) == value
    assert plan.reasons[option] == ("plan.why_asked", {})
    assert f"{say(f'plan.{option}', 'en')}: " in plan.text("en")


def test_every_option_is_tried_here():
    assert {option for option, _ in FORCED} == {field.name for field in fields(PlanOptions)}


def test_what_is_not_asked_for_stays_as_planned():
    plan = choose_plan(T4, PUBLISHED)
    asked = choose_plan(T4, PUBLISHED, PlanOptions(attention_slicing=True))
    assert (asked.rung, asked.vae_tile, asked.memory_fraction) == (plan.rung, plan.vae_tile, plan.memory_fraction)


def test_the_rest_is_fitted_around_what_is_asked_for():
    assert choose_plan(gpu(7.8, 16.0), PUBLISHED, PlanOptions(offload="none")).storage == "int8"
    assert choose_plan(gpu(7.8, 16.0), PUBLISHED, PlanOptions(storage="full")).offload == "sequential"
    assert choose_plan(gpu(11.8, 32.0), PUBLISHED, PlanOptions(vae_tiling=False)).storage == "int8-unet"


def test_the_smallest_tiles_are_for_whoever_wants_everything_on_the_gpu_all_the_same():
    """By themselves they are slower than an offload, and further from the whole picture."""
    card = gpu(12.0, 32.0)
    left_alone, asked = (
        choose_plan(card, PUBLISHED, PlanOptions(memory_fraction=11 / 12, offload=way)) for way in (None, "none")
    )
    assert (left_alone.rung, left_alone.vae_tile) == (Rung("idle", "full", "float16"), 512)
    assert (asked.offload, asked.storage, asked.vae_tile) == ("none", "int8-unet", 512)
    options = PlanOptions(memory_fraction=11 / 12, offload="none", storage="full")
    assert choose_plan(card, PUBLISHED, options).vae_tile == min(TILES_GIB)


def test_a_vae_that_does_not_overflow_decodes_in_half_precision():
    fixed = replace(PUBLISHED, vae_overflows=False)
    plain, half = (choose_plan(gpu(22.2, 53.0), sizes) for sizes in (PUBLISHED, fixed))
    assert (plain.vae_precision, half.vae_precision) == ("float32", "float16")
    assert half.vram_gib["decoding"] < plain.vram_gib["decoding"] - 2
    assert choose_plan(without_gpu(64.0), fixed).vae_precision == "float32"


@pytest.mark.parametrize("speed", GRAPHED)
def test_graphs_are_planned_for_with_what_they_hold(speed):
    without, asked = (choose_plan(gpu(22.2, 53.0), PUBLISHED, PlanOptions(speed=s)) for s in ("plain", speed))
    assert (without.speed, asked.speed) == ("plain", speed)
    gained = [asked.vram_gib[phase] - gib for phase, gib in without.vram_gib.items()]
    assert gained == pytest.approx([GRAPHS_GIB] * 3)


def test_graphs_are_used_where_they_fit_and_never_cost_an_offload():
    speeds = {}
    for vram in range(4, 49):
        plan, plain = (choose_plan(gpu(vram, 64.0), PUBLISHED, PlanOptions(speed=speed)) for speed in (None, "plain"))
        assert plan.rung == plain.rung
        speeds.setdefault(plan.offload, set()).add(plan.speed)
    assert speeds == {"none": {"instant", "plain"}, "idle": {"instant", "plain"}, "sequential": {"plain"}}


@pytest.mark.parametrize("speed", GRAPHED)
def test_whoever_wants_graphs_gets_an_offload_that_leaves_the_networks_in_place(speed):
    for vram in (14.6, 7.8, 3.8):
        plan = choose_plan(gpu(vram, 32.0), PUBLISHED, PlanOptions(speed=speed))
        assert (plan.speed, plan.offload in IN_PLACE) == (speed, True)


@pytest.mark.parametrize(
    ("machine", "offload", "code"),
    [(T4, "model", "plan.graphs_need_place"), (without_gpu(64.0), None, "plan.graphs_need_gpu")],
)
def test_graphs_where_they_cannot_be_are_refused(machine, offload, code):
    with pytest.raises(UserError) as caught:
        choose_plan(machine, PUBLISHED, PlanOptions(speed="instant", offload=offload))
    assert caught.value.code == code


def test_a_plan_without_its_graphs_is_the_same_plan_otherwise():
    plan = choose_plan(gpu(22.2, 32.0), PUBLISHED, PlanOptions(speed="instant"))
    slower = plan.slower()
    assert (plan.speed, slower.speed, slower.rung) == ("instant", "plain", plan.rung)
    assert say("plan.why_plain", "en") in slower.text("en")
    plain = choose_plan(gpu(22.2, 32.0), PUBLISHED, PlanOptions(speed="plain"))
    assert (slower.vae_tiling, slower.pool_gib) == (plain.vae_tiling, plain.pool_gib)
    assert slower.vram_gib == pytest.approx(plain.vram_gib)


def test_tiles_on_a_processor_have_the_largest_side():
    plan = choose_plan(without_gpu(64.0), PUBLISHED, PlanOptions(vae_tiling=True))
    assert (plan.vae_tiling, plan.vae_tile) == (True, max(TILES_GIB))


def test_the_processor_of_a_machine_with_a_gpu_is_planned_as_one():
    plan = choose_plan(T4, PUBLISHED, PlanOptions(device="cpu"))
    assert (plan.precision, plan.offload, plan.memory_fraction) == ("float32", "none", None)
    assert plan.peak_vram_gib is None


def test_a_small_part_of_the_gpu_is_planned_for_as_a_small_gpu():
    rungs = [choose_plan(T4, PUBLISHED, PlanOptions(memory_fraction=part)).rung for part in (0.25, 0.4, 0.5, 0.7, 1.0)]
    assert rungs == list(reversed(LADDERS["cuda"]))


def test_float32_is_planned_for_at_its_size():
    options = PlanOptions(precision="float32", storage="full")
    offloads = [choose_plan(gpu(vram, 64.0), PUBLISHED, options).offload for vram in (14.6, 24, 40)]
    assert offloads == ["sequential", "idle", "none"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_asked_for_and_cannot_fit_is_done_with_a_warning(language):
    small = gpu(5.8, 8.0)
    vram = choose_plan(small, PUBLISHED, PlanOptions(offload="none", storage="full"))
    ram = choose_plan(small, PUBLISHED, PlanOptions(offload="sequential", storage="full"))
    assert [key for key, _ in vram.warnings] == ["plan.too_little_vram"]
    assert [key for key, _ in ram.warnings] == ["plan.too_little_ram"]
    for plan in (vram, ram):
        ((key, facts),) = plan.warnings
        assert plan.text(language).splitlines()[-1] == say(key, language, **facts)
        assert facts["needed"] > facts.get("vram", facts.get("free"))


def test_of_ways_that_ram_is_too_small_for_the_one_that_asks_for_least_is_taken():
    """The fastest would be in float32 and twice as large."""
    plan = choose_plan(without_gpu(5.0), PUBLISHED, PlanOptions(storage="full"))
    assert plan.precision == "bfloat16"
    assert [key for key, _ in plan.warnings] == ["plan.too_little_ram"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("device", "tpu"),
        ("device", 0),
        ("precision", "fp8"),
        ("precision", True),
        ("offload", "yes"),
        ("offload", True),
        ("storage", "int4"),
        ("storage", 8),
        ("speed", "fast"),
        ("vae_precision", "bfloat16"),
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
        choose_plan(T4, PUBLISHED, PlanOptions(**{option: value}))
    assert caught.value.facts["field"] == option
    assert f"“{option}” is" in str(caught.value)
    assert str(value) in str(caught.value)


@pytest.mark.parametrize(("machine", "device"), [(without_gpu(30), "cuda"), (T4, "mps"), (without_gpu(30), "mps")])
def test_a_device_that_is_not_there_is_named_with_what_is(machine, device):
    with pytest.raises(UserError) as caught:
        choose_plan(machine, PUBLISHED, PlanOptions(device=device))
    assert caught.value.code == "plan.no_such_device"
    assert caught.value.facts == {"asked": device, "found": machine.device}


@pytest.mark.parametrize(
    ("machine", "options"),
    [
        (without_gpu(30.0), PlanOptions(offload="idle")),
        (without_gpu(30.0, "mps"), PlanOptions(offload="sequential")),
        (T4, PlanOptions(offload="model", device="cpu")),
    ],
)
def test_an_offload_without_a_gpu_to_offload_from_is_refused(machine, options):
    with pytest.raises(UserError) as caught:
        choose_plan(machine, PUBLISHED, options)
    assert caught.value.code == "plan.offload_needs_gpu"


def test_no_offload_may_be_asked_for_anywhere():
    assert choose_plan(without_gpu(30.0), PUBLISHED, PlanOptions(offload="none")).offload == "none"

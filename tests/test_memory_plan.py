"""The memory plan made from what a machine has and how large the models are."""

import itertools
import subprocess
import sys
from dataclasses import fields

import pytest
from machines import T4, gpu, without_gpu
from published_sizes import PUBLISHED, TOY

from instantid.expected_memory import TILES_GIB, Picture, Rung, expected_vram, weights_gib
from instantid.memory_plan import (
    LADDERS,
    RAM_MARGIN_GIB,
    SLACK,
    STORAGES,
    PlanOptions,
    choose_plan,
)
from instantid.messages import LANGUAGES, say
from ip_adapter.errors import MachineError


def budget(machine, part):
    return min(machine.vram_total_gib * part, machine.vram_free_gib)


# machine -> offload, storage, precision, side of a VAE tile
MACHINES = {
    "T4 of free Colab": (gpu(14.6, 12.7), "none", "full", "float16", 512),
    "T4 with much RAM": (T4, "none", "full", "float16", 512),
    "L4": (gpu(22.2, 53.0), "none", "full", "float16", None),
    "A100": (gpu(39.4, 83.5), "none", "full", "float16", None),
    "RTX 3060": (gpu(11.8, 32.0), "idle", "full", "float16", 512),
    "RTX 3060 with 8 GiB of RAM": (gpu(11.8, 8.0), "idle", "full", "float16", 512),
    "laptop with 8 GiB": (gpu(7.8, 16.0), "idle", "int8-unet", "float16", 512),
    "laptop with 8 GiB and RAM in use": (gpu(7.8, 16.0, ram_free=5.0), "idle", "int8-unet", "float16", 512),
    "old card with 6 GiB": (gpu(5.8, 16.0), "idle", "int8", "float16", 384),
    "old card with 4 GiB": (gpu(3.8, 16.0), "sequential", "full", "float16", 512),
    "A100 that another process fills": (gpu(39.4, 83.5, vram_free=10.0), "idle", "full", "float16", 512),
    "processor with 12 GiB of RAM": (without_gpu(9.5), "none", "int8", "bfloat16", 512),
    "processor with 16 GiB of RAM": (without_gpu(13.0), "none", "full", "bfloat16", 512),
    "processor with 32 GiB of RAM": (without_gpu(28.0), "none", "full", "float32", None),
    "Apple with 16 GiB": (without_gpu(10.0, "mps"), "none", "int8", "bfloat16", 512),
    "Apple with 64 GiB": (without_gpu(50.0, "mps"), "none", "full", "float32", None),
}
CARDS = [gpu(vram, ram, ram_free=ram) for vram, ram in itertools.product((2, 3.8, *range(4, 49)), (4.2, 8, 12, 64))]
NO_CARDS = [without_gpu(ram, device) for ram in (8.5, 10, 14, 20, 22, 30, 64) for device in ("cpu", "mps")]
SWEEP = CARDS + NO_CARDS


@pytest.mark.parametrize("name", MACHINES)
def test_the_plan_for_a_machine(name):
    machine, *expected = MACHINES[name]
    plan = choose_plan(machine, PUBLISHED)
    assert [plan.device, *expected] == [machine.device, plan.offload, plan.storage, plan.precision, plan.vae_tile]


@pytest.mark.parametrize("machine", [without_gpu(5.0), without_gpu(8.3, "mps"), gpu(14.6, 4.0, ram_free=1.2)])
def test_too_little_ram_for_every_way_is_told_in_numbers_that_bear_it_out(machine):
    with pytest.raises(MachineError) as caught:
        choose_plan(machine, PUBLISHED)
    assert caught.value.code == "plan.no_ram"
    assert caught.value.facts["free"] == machine.ram_free_gib < caught.value.facts["needed"]


def test_more_vram_never_gives_a_later_rung():
    for ram in (4.2, 8, 12, 64):
        plans = [choose_plan(machine, PUBLISHED) for machine in CARDS if machine.ram_free_gib == ram]
        places = [LADDERS["cuda"].index(plan.rung) for plan in plans]
        assert places == sorted(places, reverse=True)


def test_more_ram_never_gives_a_later_rung_where_nothing_is_computed_on_a_card():
    for device in ("cpu", "mps"):
        plans = [choose_plan(machine, PUBLISHED) for machine in NO_CARDS if machine.device == device]
        places = [LADDERS[device].index(plan.rung) for plan in plans]
        assert places == sorted(places, reverse=True)
        assert set(places) == {0, 1, 2}


def test_every_rung_of_the_ladder_is_some_cards_plan():
    assert {choose_plan(machine, PUBLISHED).rung for machine in CARDS} == set(LADDERS["cuda"])


def test_whole_models_in_turn_are_only_used_where_asked_for():
    assert "model" not in {choose_plan(machine, PUBLISHED).offload for machine in SWEEP}


def test_no_plan_needs_more_ram_than_there_is():
    """It would trade a full GPU for a process that the system kills without a word."""
    for machine in SWEEP:
        assert choose_plan(machine, PUBLISHED).ram_gib + RAM_MARGIN_GIB <= machine.ram_free_gib


def test_every_plan_fits_its_card_or_warns():
    for machine in CARDS:
        plan = choose_plan(machine, PUBLISHED)
        fits = plan.peak_vram_gib * (1 + SLACK) <= budget(machine, plan.memory_fraction)
        assert fits != ("plan.too_little_vram" in dict(plan.warnings))
        assert fits != (plan.reasons["offload"][0] == "plan.why_least")


def test_the_numbers_of_a_reason_bear_it_out():
    for machine in CARDS:
        key, facts = choose_plan(machine, PUBLISHED).reasons["offload"]
        if key != "plan.why_least":
            assert (facts["vram"] >= facts["needed"]) == (key == "plan.why_none")


def test_a_larger_card_never_gives_less():
    """Of large cards a fifth is left to others, of small ones a tenth: between them nothing may be lost."""
    budgets = []
    for vram in range(40, 240):
        machine = gpu(vram / 10, 64.0)
        budgets.append(round(budget(machine, choose_plan(machine, PUBLISHED).memory_fraction), 6))
    assert budgets == sorted(budgets)


def test_a_part_of_the_gpu_is_left_to_others():
    assert choose_plan(T4, PUBLISHED).memory_fraction == 0.8
    assert choose_plan(gpu(5.8, 16.0), PUBLISHED).memory_fraction == 0.9
    assert choose_plan(without_gpu(30.0), PUBLISHED).memory_fraction is None


def test_only_apple_slices_attention_by_itself():
    slicing = {name for name, (machine, *_) in MACHINES.items() if choose_plan(machine, PUBLISHED).attention_slicing}
    assert slicing == {"Apple with 16 GiB", "Apple with 64 GiB"}


def test_what_waits_is_pinned_only_where_ram_is_left_over():
    assert choose_plan(gpu(11.8, 32.0), PUBLISHED).pinned
    assert not choose_plan(gpu(11.8, 8.0), PUBLISHED).pinned
    assert not choose_plan(T4, PUBLISHED).pinned  # nothing waits


@pytest.mark.parametrize("machine", [gpu(1.0, 3.5), without_gpu(2.5), without_gpu(2.5, "mps")], ids=lambda m: m.device)
def test_toy_models_run_whole_on_any_machine(machine):
    """What work takes follows from how large the models are, not from SDXL."""
    plan = choose_plan(machine, TOY)
    assert (plan.rung, plan.vae_tile, plan.warnings) == (LADDERS[machine.device][0], None, ())


# What is expected

WHOLE = Rung("none", "full", "float16")
EVERYTHING_GIB = 9.73
# Measured on an H100 beside the weights: picture -> denoising, decoding at once.
MEASURED_GIB = {
    (512, 512): (0.19, 1.4),
    (768, 768): (0.33, 2.9),
    (1024, 1024): (0.58, 5.05),
    (832, 1216): (0.56, 4.9),
    (1280, 1280): (0.89, 7.8),
    (1536, 1536): (1.28, 11.1),
}
MEASURED_TILES_GIB = {512: 1.2, 384: 0.7, 256: 0.3}


def close(expected, measured):
    """Within a tenth, and not below by more than 3 %."""
    return 0.97 * measured <= expected <= 1.1 * measured


def test_the_weights_are_those_that_were_measured():
    assert sum(weights_gib(PUBLISHED, WHOLE).values()) == pytest.approx(EVERYTHING_GIB, abs=0.005)


@pytest.mark.parametrize("size", MEASURED_GIB, ids=str)
def test_the_peaks_of_a_picture_are_expected_as_they_were_measured(size):
    denoising, decoding = MEASURED_GIB[size]
    expected = expected_vram(WHOLE, PUBLISHED, Picture(*size), None)
    assert close(expected["text"], EVERYTHING_GIB + 0.02)
    assert close(expected["denoising"], EVERYTHING_GIB + denoising)
    assert close(expected["decoding"], EVERYTHING_GIB + decoding)


@pytest.mark.parametrize("tile", TILES_GIB)
def test_decoding_in_tiles_is_expected_as_it_was_measured(tile):
    expected = expected_vram(WHOLE, PUBLISHED, Picture(), tile)
    assert close(expected["decoding"], EVERYTHING_GIB + MEASURED_TILES_GIB[tile])


# Measured on an H100 with the plan of each card: rung, tile -> peak
@pytest.mark.parametrize(
    ("rung", "tile", "peak"),
    [
        (WHOLE, 512, 11.10),
        (Rung("idle", "full", "float16"), 512, 8.93),
        (Rung("idle", "int8-unet", "float16"), 512, 6.35),
        (Rung("idle", "int8", "float16"), 384, 5.02),
        (Rung("sequential", "full", "float16"), 512, 1.36),
        (Rung("model", "full", "float16"), 512, 8.52),
    ],
    ids=str,
)
def test_the_peak_of_a_rung_is_expected_as_it_was_measured(rung, tile, peak):
    assert close(max(expected_vram(rung, PUBLISHED, Picture(), tile).values()), peak)


def test_a_larger_picture_is_expected_to_take_more():
    pictures = [Picture(side, side) for side in (512, 768, 1024, 1536, 2048)]
    for rung, tile in itertools.product(LADDERS["cuda"], (None, 512)):
        peaks = [expected_vram(rung, PUBLISHED, picture, tile) for picture in pictures]
        denoising, decoding = ([peak[phase] for peak in peaks] for phase in ("denoising", "decoding"))
        assert denoising == sorted(set(denoising))
        assert decoding == (sorted(set(decoding)) if tile is None else decoding[:1] * len(pictures))


def test_fewer_bits_are_expected_to_take_less():
    for offload, tile in itertools.product(("none", "idle"), (None, 256)):
        peaks = [
            max(expected_vram(Rung(offload, storage, "float16"), PUBLISHED, Picture(), tile).values())
            for storage in ("full", "fp8", "int8-unet", "int8")
        ]
        full, fp8, int8_unet, int8 = peaks
        assert full > int8_unet > int8
        assert full > fp8 > int8


def test_identity_layers_and_resampler_are_never_kept_in_fewer_bits():
    found = [weights_gib(PUBLISHED, Rung("idle", storage, "float16")) for storage in STORAGES]
    assert len({weights["identity_layers"] for weights in found}) == 1
    assert len({weights["resampler"] for weights in found}) == 1
    assert found[0]["resampler"] == 4 * PUBLISHED.resampler.parameters / 2**30


def test_a_larger_picture_is_planned_for():
    small, large = (choose_plan(T4, PUBLISHED, picture=Picture(side, side)) for side in (512, 2048))
    assert (small.offload, small.vae_tile) == ("none", None)
    assert (large.offload, large.vae_tile) == ("idle", 512)


def test_work_on_a_processor_is_counted_in_its_ram():
    small, large = (choose_plan(without_gpu(64.0), PUBLISHED, picture=Picture(side, side)) for side in (512, 1024))
    assert large.ram_gib - small.ram_gib == pytest.approx(0.75 * 4.9)
    tiled = choose_plan(without_gpu(64.0), PUBLISHED, PlanOptions(vae_tiling=True))
    assert large.ram_gib - tiled.ram_gib == pytest.approx(4.9 - TILES_GIB[512])


# After it turned out too large


@pytest.mark.parametrize("machine", [T4, without_gpu(64.0), without_gpu(64.0, "mps")], ids=lambda m: m.device)
def test_below_a_rung_comes_the_next_until_nothing_is_left(machine):
    first, *others = LADDERS[machine.device]
    walked = [choose_plan(machine, PUBLISHED).rung]
    while len(walked) <= len(others):
        walked.append(choose_plan(machine, PUBLISHED, below=walked[-1]).rung)
    assert walked == [first, *others]
    with pytest.raises(MachineError) as caught:
        choose_plan(machine, PUBLISHED, below=walked[-1])
    assert caught.value.code == "plan.nothing_below"


def test_a_step_down_never_goes_to_ram_that_is_not_there():
    machine = gpu(5.8, 8.0)
    with pytest.raises(MachineError) as caught:
        choose_plan(machine, PUBLISHED, below=choose_plan(machine, PUBLISHED).rung)
    assert caught.value.code == "plan.no_ram"


def test_a_step_down_passes_over_what_cannot_fit_either():
    plan = choose_plan(gpu(5.8, 16.0), PUBLISHED, below=WHOLE)
    assert (plan.offload, plan.storage) == ("idle", "int8")


def test_after_a_step_down_the_reason_is_that_and_no_number_of_before():
    plan = choose_plan(T4, PUBLISHED, below=WHOLE)
    assert plan.reasons["offload"] == ("plan.why_stepped_down", {})


def test_a_step_down_keeps_to_what_was_asked_for():
    options = PlanOptions(offload="none")
    plan = choose_plan(T4, PUBLISHED, options)
    walked = []
    while plan.storage != "int8":
        plan = choose_plan(T4, PUBLISHED, options, below=plan.rung)
        walked.append(plan.rung)
    assert walked == [Rung("none", storage, "float16") for storage in ("int8-unet", "int8")]


# What is said about it


def shown(plan, choice, language):
    """The value of a choice as a person reads it."""
    value = getattr(plan, choice)
    if choice == "vae_tiling" and value:
        return f"{plan.vae_tile} px"
    return say("plan.on" if value else "plan.off", language) if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", MACHINES)
def test_the_text_names_every_choice_with_its_value_and_reason(name, language):
    plan = choose_plan(MACHINES[name][0], PUBLISHED)
    title, *lines, expected = plan.text(language).splitlines()
    assert title == say("plan.title", language)
    choices = [field.name for field in fields(PlanOptions)]
    if plan.memory_fraction is None:
        choices.remove("memory_fraction")
    if plan.offload == "idle":
        choices.append("pinned")
    assert len(lines) == len(choices)
    for choice in choices:
        (line,) = (line for line in lines if line.strip().startswith(f"{say(f'plan.{choice}', language)}: "))
        value, _, reason = line.partition(": ")[2].partition(" — ")
        assert value == shown(plan, choice, language)
        assert reason
    assert f"{plan.ram_gib:.1f}" in expected
    for phase, gib in plan.vram_gib.items():
        assert f"{say(f'plan.phase.{phase}', language)} {gib:.1f}" in expected


def test_the_text_of_free_colab_in_spanish():
    text = choose_plan(gpu(14.6, 12.7), PUBLISHED).text("es")
    assert "descarga a la RAM: none — todo cabe en la GPU: 11.7 GiB de VRAM, hacen falta 11.6" in text
    assert "previsto, en GiB: VRAM texto 9.8 · dibujo 10.4 · decodificación 11.2 · RAM 1.0" in text


def test_the_text_of_a_4_gib_card_tells_what_the_ways_before_needed():
    text = choose_plan(gpu(3.8, 16.0), PUBLISHED).text("en")
    assert "3.4 GiB of VRAM are too few otherwise (5.2): layer by layer" in text


def test_the_plan_knows_no_torch():
    code = "import sys, instantid.memory_plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""How to load and run on a machine: pure arithmetic, numbers in, plan with reasons out. Knows no torch.

Memory in GiB. The ladders in `LADDERS` hold the ways to use memory, the fastest first; a plan is the first rung whose
expected peaks fit the VRAM that this process may take and the RAM that is free. Without an NVIDIA card there is only
RAM, and everything has to fit that. What a peak is expected to be stands in `expected_memory`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from instantid.expected_memory import (
    GRAPHS_GIB,
    GRAPHS_POOL_GIB,
    TILES_GIB,
    Picture,
    Rung,
    expected_vram,
    graphs_pool,
    waiting_gib,
    weights_gib,
)
from instantid.messages import machine_error, say, user_error

if TYPE_CHECKING:
    from instantid.component_sizes import ComponentSizes
    from instantid.hardware import Hardware

OFFLOADS = ("none", "idle", "model", "sequential")
PRECISIONS = ("float16", "bfloat16", "float32")
FP8_CAPABILITY = (8, 9)  # of an NVIDIA card that multiplies in 8 bits
VAE_PRECISIONS = ("float16", "float32")
# plain: every step is Python's. instant: UNet and IdentityNet are replayed as CUDA graphs, with the same numbers.
# compiled: so are their compiled blocks, with numbers that differ a little.
SPEEDS = ("plain", "instant", "compiled")
GRAPHED = ("instant", "compiled")
IN_PLACE = ("none", "idle")  # offloads that leave UNet and IdentityNet where they are, as graphs need it
WHY_STORAGE = {
    "full": "plan.why_storage_full",
    "int8-unet": "plan.why_storage_int8_unet",
    "int8": "plan.why_storage_int8",
    "fp8": "plan.why_storage_fp8",
}
STORAGES = tuple(WHY_STORAGE)

LADDERS = {
    "cuda": (
        Rung("none", "full", "float16"),
        Rung("idle", "full", "float16"),
        Rung("idle", "int8-unet", "float16"),
        Rung("idle", "int8", "float16"),
        Rung("sequential", "full", "float16"),
    ),
    "mps": (Rung("none", "full", "float32"), Rung("none", "full", "bfloat16"), Rung("none", "int8", "bfloat16")),
    "cpu": (Rung("none", "full", "float32"), Rung("none", "full", "bfloat16"), Rung("none", "int8", "bfloat16")),
}

SMALLEST_TILE = min(TILES_GIB)  # slow and furthest from the whole picture: only where no rung but the slowest is left
SLACK = 0.035  # of a peak: what the allocator reserves beyond what is in use, and what is expected too low
PROCESS_GIB = 1.0  # RAM that this process takes still, once the libraries are there: pictures, faces, buffers
RAM_MARGIN_GIB = 0.5  # of free RAM, for everyone else
LARGE_CARD_FRACTION = 0.8  # of its memory; the rest is for other processes and for what torch does not count
SMALL_CARD_FRACTION = 0.9  # there every GiB counts
SMALL_CARD_GIB = 12.0  # a larger card gives no less than this one
PINNING_MARGIN_GIB = 4.0  # free RAM beside what is pinned: pinned pages can never be moved out


@dataclass(frozen=True)
class PlanOptions:
    """What a person decides themselves; None leaves it to the plan."""

    device: str | None = None  # "cuda", "mps", "cpu"
    precision: str | None = None  # one of PRECISIONS
    offload: str | None = None  # one of OFFLOADS
    storage: str | None = None  # one of STORAGES
    speed: str | None = None  # one of SPEEDS
    vae_precision: str | None = None  # one of VAE_PRECISIONS, where the models are in float16
    vae_slicing: bool | None = None
    vae_tiling: bool | None = None
    attention_slicing: bool | None = None
    memory_fraction: float | None = None  # of the GPU's memory, 0.1 … 1


@dataclass(frozen=True)
class MemoryPlan:
    """How the models are loaded and run, what that is expected to take, and why."""

    device: str
    precision: str
    offload: str
    storage: str
    speed: str
    vae_precision: str  # that pictures are decoded in
    vae_slicing: bool
    vae_tiling: bool
    attention_slicing: bool
    memory_fraction: float | None  # None: no limit is set
    vae_tile: int | None  # pixels; the side of a tile where vae_tiling is on
    pinned: bool  # what waits in RAM does so in pages that the GPU can fetch by itself
    vram_gib: dict[str, float]  # phase -> expected peak in use; empty without a GPU of its own memory
    pool_gib: float  # what CUDA graphs keep beside that
    ram_gib: float  # expected peak of this process, beside what it has when it plans
    reasons: dict[str, tuple[str, dict]] = field(default_factory=dict)  # choice -> (sentence key, facts)
    warnings: tuple[tuple[str, dict], ...] = ()  # (sentence key, facts) of what may go wrong

    @property
    def rung(self) -> Rung:
        return Rung(self.offload, self.storage, self.precision)

    def slower(self) -> MemoryPlan:
        """The same without graphs: the memory that they held is free."""
        reasons = self.reasons | {"speed": ("plan.why_plain", {})}
        freed = self.pool_gib * GRAPHS_GIB / GRAPHS_POOL_GIB
        peaks = {phase: gib - freed for phase, gib in self.vram_gib.items()}
        return replace(self, speed="plain", pool_gib=0.0, vram_gib=peaks, reasons=reasons)

    @property
    def peak_vram_gib(self) -> float | None:
        return max(self.vram_gib.values(), default=None)

    def text(self, language: str) -> str:
        """One line per choice, with its reason, then what is expected and what may go wrong."""
        lines = [say("plan.title", language)]
        for choice, (key, facts) in self.reasons.items():
            lines.append(
                f"  {say(f'plan.{choice}', language)}: {self._value(choice, language)} — {say(key, language, **facts)}"
            )
        if self.vram_gib:
            phases = " · ".join(
                f"{say(f'plan.phase.{phase}', language)} {gib:.1f}" for phase, gib in self.vram_gib.items()
            )
            lines.append(say("plan.expected", language, phases=phases, ram=f"{self.ram_gib:.1f}"))
        else:
            lines.append(say("plan.expected_ram", language, ram=f"{self.ram_gib:.1f}"))
        lines += [say(key, language, **facts) for key, facts in self.warnings]
        return "\n".join(lines)

    def _value(self, choice: str, language: str) -> str:
        value = getattr(self, choice)
        if choice == "vae_tiling" and value:
            return f"{self.vae_tile} px"
        if isinstance(value, bool):
            return say("plan.on" if value else "plan.off", language)
        return f"{value:.2g}" if isinstance(value, float) else str(value)


def choose_plan(
    hardware: Hardware,
    sizes: ComponentSizes,
    options: PlanOptions | None = None,
    picture: Picture | None = None,
    below: Rung | None = None,
) -> MemoryPlan:
    """The fastest way that fits; what `options` says is done, and the rest fitted around it.

    Args:
        picture: the size to plan for; default the square that the base was made for.
        below: a rung that turned out too large: only those after it are looked at.

    Raises: UserError if an option is impossible: an unknown word, or a GPU that is not there. MachineError if RAM is
        too small for every way, or nothing is left below `below`.
    """
    options, picture = options or PlanOptions(), picture or Picture(sizes.native_size, sizes.native_size)
    _check(options, hardware)
    device = options.device or hardware.device
    rungs = _rungs(device, options)
    if below is not None:
        rungs = rungs[rungs.index(below) + 1 :] if below in rungs else ()
        if not rungs:
            raise machine_error("plan.nothing_below")
    budget = _budget(device, hardware, options)
    plans = []
    for rung, following in zip(rungs, (*rungs[1:], None)):
        is_last = following is None or following.offload == "sequential"
        tiles = tuple(TILES_GIB) if is_last else tuple(tile for tile in TILES_GIB if tile != SMALLEST_TILE)
        plans.append(_plan(rung, tiles, device, hardware, sizes, options, picture, budget))
    room = hardware.ram_free_gib - RAM_MARGIN_GIB
    in_ram = [plan for plan in plans if plan.ram_gib <= room]
    if not in_ram:
        least = min(plans, key=lambda plan: plan.ram_gib)
        if not _asked(options) & {"offload", "storage", "precision", "vae_tiling"}:
            raise machine_error("plan.no_ram", **_lacking(least.ram_gib + RAM_MARGIN_GIB, free=hardware.ram_free_gib))
        in_ram = [least]
    fitting = [plan for plan in in_ram if not plan.vram_gib or _needed(plan) <= budget]
    plan = fitting[0] if fitting else min(in_ram, key=lambda plan: plan.peak_vram_gib)
    offload = _why_offload(plan, plans, budget, bool(fitting), stepped_down=below is not None)
    return replace(plan, reasons=_reasons(plan, offload, hardware, options), warnings=_warnings(plan, hardware, budget))


def _rungs(device: str, options: PlanOptions) -> tuple[Rung, ...]:
    """The ladder, with what a person decided put in its place."""
    asked = {name: getattr(options, name) for name in _asked(options) & {"offload", "storage", "precision"}}
    rungs = dict.fromkeys(replace(rung, **asked) for rung in LADDERS[device])
    return tuple(rung for rung in rungs if options.speed not in GRAPHED or rung.offload in IN_PLACE)


def _asked(options: PlanOptions) -> set[str]:
    """What a person decided."""
    return {name for name, value in vars(options).items() if value is not None}


def _budget(device: str, hardware: Hardware, options: PlanOptions) -> float:
    """What weights and work may take together where they are computed with: VRAM, or RAM without a GPU of its own."""
    if device != "cuda":
        return hardware.ram_free_gib - RAM_MARGIN_GIB - PROCESS_GIB
    return min(hardware.vram_total_gib * _fraction(hardware, options), hardware.vram_free_gib)


def _fraction(hardware: Hardware, options: PlanOptions) -> float:
    total = hardware.vram_total_gib
    return options.memory_fraction or max(LARGE_CARD_FRACTION, SMALL_CARD_FRACTION * min(SMALL_CARD_GIB / total, 1.0))


def _needed(plan: MemoryPlan) -> float:
    return _reserved(plan.peak_vram_gib, plan.pool_gib)


def _reserved(peak: float, pool: float) -> float:
    """What the allocator takes of the GPU for a peak in use."""
    return peak * (1 + SLACK) + pool


def _plan(
    rung: Rung,
    tiles: tuple[int, ...],
    device: str,
    hardware: Hardware,
    sizes: ComponentSizes,
    options: PlanOptions,
    picture: Picture,
    budget: float,
) -> MemoryPlan:
    vae_precision = _vae_precision(rung, sizes, options)
    has_vram = device == "cuda"
    pool = dict.fromkeys(SPEEDS, 0.0) | dict.fromkeys(GRAPHED, graphs_pool(rung, sizes, picture))
    wanted = {None: (None, *tiles), True: tiles, False: (None,)}[options.vae_tiling]

    def decoding(speed: str, sides: tuple[int | None, ...]) -> tuple[str, int | None, dict[str, float]]:
        """The largest side of a tile that fits, None for the whole picture, and the peaks with it."""
        for tile in sides:
            peaks = expected_vram(rung, sizes, picture, tile, vae_precision, speed in GRAPHED)
            if _reserved(peaks["decoding"], pool[speed]) <= budget:
                break
        return speed, tile, peaks

    speed, tile, peaks = decoding(options.speed or "plain", wanted)
    if options.speed is None and has_vram and rung.offload in IN_PLACE:
        # Tiles change the picture and graphs do not: for them it is never cut where it could be decoded whole.
        sides = (None,) if tile is None else tuple(side for side in wanted if side != SMALLEST_TILE)
        graphed = decoding("instant", sides)
        if _reserved(max(graphed[-1].values()), pool["instant"]) <= budget:
            speed, tile, peaks = graphed
    ram = PROCESS_GIB + (waiting_gib(rung, weights_gib(sizes, rung)) if has_vram else max(peaks.values()))
    return MemoryPlan(
        device=device,
        precision=rung.precision,
        offload=rung.offload,
        storage=rung.storage,
        speed=speed,
        vae_precision=vae_precision,
        vae_slicing=True if options.vae_slicing is None else options.vae_slicing,
        vae_tiling=tile is not None,
        attention_slicing=device == "mps" if options.attention_slicing is None else options.attention_slicing,
        memory_fraction=_fraction(hardware, options) if has_vram else options.memory_fraction,
        vae_tile=tile,
        pinned=rung.offload == "idle" and hardware.ram_free_gib >= ram + PINNING_MARGIN_GIB,
        vram_gib=peaks if has_vram else {},
        pool_gib=pool[speed],
        ram_gib=ram,
    )


def _vae_precision(rung: Rung, sizes: ComponentSizes, options: PlanOptions) -> str:
    """What pictures are decoded in: in the precision of the models, unless the VAE overflows in it."""
    if rung.precision != "float16":
        return rung.precision
    return options.vae_precision or ("float32" if sizes.vae_overflows else "float16")


def _reasons(
    plan: MemoryPlan, offload: tuple[str, dict[str, Any]], hardware: Hardware, options: PlanOptions
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Why each choice: key of a sentence and its facts."""
    name = hardware.name if plan.device == hardware.device else plan.device
    reasons = {
        "device": ("plan.why_device", {"name": name}),
        "precision": (f"plan.why_{plan.precision}_{plan.device}", {}),
        "offload": offload,
        "storage": (WHY_STORAGE[plan.storage], {}),
        "speed": (_why_speed(plan), {}),
        "vae_precision": (_why_vae_precision(plan), {}),
        "vae_slicing": ("plan.why_vae_slicing", {}),
        "vae_tiling": ("plan.why_vae_tiling" if plan.vae_tiling else "plan.why_no_vae_tiling", {}),
        "attention_slicing": (f"plan.why_attention_slicing_{'mps' if plan.attention_slicing else 'off'}", {}),
    }
    if plan.offload == "idle":
        reasons["pinned"] = ("plan.why_pinned" if plan.pinned else "plan.why_not_pinned", {})
    if plan.memory_fraction is not None:
        reasons["memory_fraction"] = ("plan.why_memory_fraction", {})
    return reasons | {choice: ("plan.why_asked", {}) for choice in _asked(options)}


def _why_speed(plan: MemoryPlan) -> str:
    if plan.speed in GRAPHED:
        return "plan.why_graphs"
    if not plan.vram_gib:
        return "plan.why_plain_without_cuda"
    return "plan.why_plain" if plan.offload in IN_PLACE else "plan.why_plain_in_turn"


def _why_vae_precision(plan: MemoryPlan) -> str:
    return "plan.why_vae_precision_same" if plan.vae_precision == plan.precision else "plan.why_vae_precision_wider"


def _why_offload(
    plan: MemoryPlan, plans: list[MemoryPlan], budget: float, fits: bool, stepped_down: bool
) -> tuple[str, dict[str, Any]]:
    if not plan.vram_gib:
        return "plan.why_no_gpu_no_offload", {}
    if not fits:
        return "plan.why_least", {}
    if stepped_down:
        return "plan.why_stepped_down", {}
    faster = [other for other in plans if OFFLOADS.index(other.offload) < OFFLOADS.index(plan.offload)]
    if not faster:
        return f"plan.why_{plan.offload}", {"vram": round(budget, 1), "needed": round(_needed(plan), 1)}
    least = min(_needed(other) for other in faster)
    return f"plan.why_{plan.offload}", _lacking(least, vram=budget)


def _warnings(plan: MemoryPlan, hardware: Hardware, budget: float) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Where a plan was asked for, or is the least of all, and still does not fit."""
    found = []
    if plan.vram_gib and _needed(plan) > budget:
        found.append(("plan.too_little_vram", _lacking(_needed(plan), vram=budget)))
    if plan.ram_gib + RAM_MARGIN_GIB > hardware.ram_free_gib:
        found.append(("plan.too_little_ram", _lacking(plan.ram_gib + RAM_MARGIN_GIB, free=hardware.ram_free_gib)))
    return tuple(found)


def _lacking(needed: float, **there: float) -> dict[str, float]:
    """Facts of a sentence about too little, rounded so that it reads as too little."""
    down = {name: math.floor(gib * 10) / 10 for name, gib in there.items()}
    return {"needed": math.ceil(needed * 10) / 10, **down}


def _check(options: PlanOptions, hardware: Hardware) -> None:
    words = {
        "device": ("cuda", "mps", "cpu"),
        "precision": PRECISIONS,
        "offload": OFFLOADS,
        "storage": STORAGES,
        "speed": SPEEDS,
        "vae_precision": VAE_PRECISIONS,
    }
    for name, allowed in words.items():
        value = getattr(options, name)
        if value is not None and value not in allowed:
            raise user_error("request.unknown_choice", field=name, value=value, allowed=", ".join(allowed))
    for name in ("vae_slicing", "vae_tiling", "attention_slicing"):
        if getattr(options, name) not in (None, True, False):
            raise user_error(
                "request.unknown_choice", field=name, value=getattr(options, name), allowed="True, False, None"
            )
    if options.device in ("cuda", "mps") and options.device != hardware.device:
        raise user_error("plan.no_such_device", asked=options.device, found=hardware.device)
    fraction = options.memory_fraction
    if fraction is not None and not (isinstance(fraction, int | float) and 0.1 <= fraction <= 1):
        raise user_error("request.out_of_range", field="memory_fraction", value=fraction, least=0.1, most=1.0)
    if options.storage == "fp8" and not (
        (options.device or hardware.device) == "cuda" and (hardware.capability or (0, 0)) >= FP8_CAPABILITY
    ):
        raise user_error("plan.fp8_needs_card", name=hardware.name, least=".".join(map(str, FP8_CAPABILITY)))
    if options.speed in GRAPHED:
        if (options.device or hardware.device) != "cuda":
            raise user_error("plan.graphs_need_gpu", asked=options.speed, device=options.device or hardware.device)
        if options.offload not in (None, *IN_PLACE):
            raise user_error(
                "plan.graphs_need_place", asked=options.speed, offload=options.offload, allowed=", ".join(IN_PLACE)
            )
    if options.offload not in (None, "none") and (options.device or hardware.device) != "cuda":
        raise user_error("plan.offload_needs_gpu", asked=options.offload, device=options.device or hardware.device)

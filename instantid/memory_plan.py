"""How to load and run on a machine: pure arithmetic, numbers in, plan with reasons out. Knows no torch.

Memory in GiB. The first, simple rule: keep everything on the GPU if it fits; else move whole models in turn; else layer
by layer, which is slow and needs the least. Moving models needs room for all of them in RAM.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from instantid.messages import say, user_error

if TYPE_CHECKING:
    from instantid.hardware import Hardware

WEIGHTS_GIB = 9.7  # everything resident in half precision, measured
WORK_GIB = 1.8  # on top, for one picture of SDXL's size with guidance, decoding included
LARGEST_MODEL_GIB = 7.2  # UNet with identity layers + IdentityNet, which run together
LAYER_BY_LAYER_GIB = 2.5
RAM_MARGIN_GIB = 1.5  # for Python, libraries and the notebook
TILING_BELOW_GIB = 16.0

OFFLOADS = ("none", "model", "sequential")
PRECISIONS = ("float16", "bfloat16", "float32")


@dataclass(frozen=True)
class PlanOptions:
    """What a person decides themselves; None leaves it to the plan."""

    device: str | None = None  # "cuda", "mps", "cpu"
    precision: str | None = None  # one of PRECISIONS
    offload: str | None = None  # one of OFFLOADS
    vae_slicing: bool | None = None
    vae_tiling: bool | None = None
    attention_slicing: bool | None = None
    memory_fraction: float | None = None  # of the GPU's memory, 0.1 … 1


@dataclass(frozen=True)
class MemoryPlan:
    """How the models are loaded and run, and the key of the sentence that says why."""

    device: str
    precision: str
    offload: str
    vae_slicing: bool
    vae_tiling: bool
    attention_slicing: bool
    memory_fraction: float | None  # None: no limit is set
    reasons: dict[str, tuple[str, dict]] = field(default_factory=dict)  # choice -> (sentence key, facts)

    def text(self, language: str) -> str:
        """One line per choice, with its reason."""
        lines = [say("plan.title", language)]
        for choice, (key, facts) in self.reasons.items():
            lines.append(
                f"  {say(f'plan.{choice}', language)}: {self._value(choice, language)} — {say(key, language, **facts)}"
            )
        return "\n".join(lines)

    def _value(self, choice: str, language: str) -> str:
        value = getattr(self, choice)
        if isinstance(value, bool):
            return say("plan.on" if value else "plan.off", language)
        return str(value)


def choose_plan(hardware: Hardware, options: PlanOptions | None = None) -> MemoryPlan:
    """The fastest way that fits, by the simple rule above; what `options` says is done.

    Raises: UserError if an option is impossible: an unknown word, or a GPU that is not there.
    """
    options = options or PlanOptions()
    _check(options, hardware)
    device = options.device or hardware.device
    reasons = {"device": ("plan.why_device", {"name": hardware.name if device == hardware.device else device})}
    precision, reasons["precision"] = _precision(device)
    offload, reasons["offload"] = _offload(device, hardware)
    small = device == "cuda" and hardware.vram_total_gib < TILING_BELOW_GIB
    plan = MemoryPlan(
        device=device,
        precision=precision,
        offload=offload,
        vae_slicing=True,
        vae_tiling=small,
        attention_slicing=device == "mps",
        memory_fraction=0.8 if device == "cuda" else None,
        reasons=reasons
        | {
            "vae_slicing": ("plan.why_vae_slicing", {}),
            "vae_tiling": ("plan.why_vae_tiling" if small else "plan.why_no_vae_tiling", {}),
            "attention_slicing": (f"plan.why_attention_slicing_{'mps' if device == 'mps' else 'off'}", {}),
        },
    )
    asked = {name: value for name, value in vars(options).items() if value is not None}
    return replace(plan, **asked, reasons=plan.reasons | {name: ("plan.why_asked", {}) for name in asked})


def _precision(device: str) -> tuple[str, tuple[str, dict]]:
    if device == "cuda":
        return "float16", ("plan.why_float16", {})
    return "float32", (f"plan.why_float32_{device}", {})


def _offload(device: str, hardware: Hardware) -> tuple[str, tuple[str, dict]]:
    if device != "cuda":
        return "none", ("plan.why_no_gpu_no_offload", {})
    facts = {"vram": round(hardware.vram_total_gib, 1), "ram": round(hardware.ram_free_gib, 1)}
    vram = min(hardware.vram_total_gib * 0.8, hardware.vram_free_gib)
    room_in_ram = hardware.ram_free_gib >= WEIGHTS_GIB + RAM_MARGIN_GIB
    if vram >= WEIGHTS_GIB + WORK_GIB:
        return "none", ("plan.why_resident", facts | {"needed": round(WEIGHTS_GIB + WORK_GIB, 1)})
    if not room_in_ram:
        return "none", ("plan.why_no_room_in_ram", facts | {"needed": WEIGHTS_GIB + RAM_MARGIN_GIB})
    if vram >= LARGEST_MODEL_GIB + WORK_GIB:
        return "model", ("plan.why_model_offload", facts | {"needed": round(WEIGHTS_GIB + WORK_GIB, 1)})
    return "sequential", ("plan.why_sequential_offload", facts | {"needed": round(LARGEST_MODEL_GIB + WORK_GIB, 1)})


def _check(options: PlanOptions, hardware: Hardware) -> None:
    for name, allowed in (("device", ("cuda", "mps", "cpu")), ("precision", PRECISIONS), ("offload", OFFLOADS)):
        value = getattr(options, name)
        if value is not None and value not in allowed:
            raise user_error("request.unknown_choice", field=name, value=value, allowed=", ".join(allowed))
    if options.device in ("cuda", "mps") and options.device != hardware.device:
        raise user_error("plan.no_such_device", asked=options.device, found=hardware.device)
    if options.memory_fraction is not None and not 0.1 <= options.memory_fraction <= 1:
        raise user_error(
            "request.out_of_range", field="memory_fraction", value=options.memory_fraction, least=0.1, most=1.0
        )
    if options.offload not in (None, "none") and (options.device or hardware.device) != "cuda":
        raise user_error("plan.offload_needs_gpu", asked=options.offload, device=options.device or hardware.device)

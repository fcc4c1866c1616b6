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

WEIGHTS_GIB = 9.7  # everything resident in half precision
RESIDENT_GIB = 11.5  # the same and a picture of SDXL's size with guidance: 10.9 in tensors, the rest lies between them
IN_TURN_GIB = 9.0  # the largest that run together, UNet and IdentityNet, and the same picture: 8.5 in tensors
RAM_MARGIN_GIB = 1.5  # for Python, libraries and the notebook
TILING_BELOW_GIB = 20.0  # decoding a whole picture, in float32 as SDXL's VAE needs it, takes 5 GiB; in tiles 1
MEMORY_FRACTION = 0.8  # of the GPU; the rest is for other processes and for what torch does not count

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
    offload, reasons["offload"] = _offload(device, hardware, options)
    small = device == "cuda" and hardware.vram_total_gib < TILING_BELOW_GIB
    plan = MemoryPlan(
        device=device,
        precision=precision,
        offload=offload,
        vae_slicing=True,
        vae_tiling=small,
        attention_slicing=device == "mps",
        memory_fraction=MEMORY_FRACTION if device == "cuda" else None,
        reasons=reasons
        | {
            "vae_slicing": ("plan.why_vae_slicing", {}),
            "vae_tiling": ("plan.why_vae_tiling" if small else "plan.why_no_vae_tiling", {}),
            "attention_slicing": (f"plan.why_attention_slicing_{'mps' if device == 'mps' else 'off'}", {}),
        }
        | ({"memory_fraction": ("plan.why_memory_fraction", {})} if device == "cuda" else {}),
    )
    asked = {name: value for name, value in vars(options).items() if value is not None}
    return replace(plan, **asked, reasons=plan.reasons | {name: ("plan.why_asked", {}) for name in asked})


def _precision(device: str) -> tuple[str, tuple[str, dict]]:
    if device == "cuda":
        return "float16", ("plan.why_float16", {})
    return "float32", (f"plan.why_float32_{device}", {})


def _offload(device: str, hardware: Hardware, options: PlanOptions) -> tuple[str, tuple[str, dict]]:
    if device != "cuda":
        return "none", ("plan.why_no_gpu_no_offload", {})
    vram = min(hardware.vram_total_gib * (options.memory_fraction or MEMORY_FRACTION), hardware.vram_free_gib)
    size = 2 if options.precision == "float32" else 1
    everything, largest = size * RESIDENT_GIB, size * IN_TURN_GIB
    in_ram = round(size * WEIGHTS_GIB + RAM_MARGIN_GIB, 1)
    facts = {"vram": round(vram, 1), "ram": round(hardware.ram_free_gib, 1)}
    if vram >= everything:
        return "none", ("plan.why_resident", facts | {"needed": everything})
    if hardware.ram_free_gib < in_ram:
        return "none", ("plan.why_no_room_in_ram", facts | {"needed": in_ram})
    if vram >= largest:
        return "model", ("plan.why_model_offload", facts | {"needed": everything})
    return "sequential", ("plan.why_sequential_offload", facts | {"needed": largest})


def _check(options: PlanOptions, hardware: Hardware) -> None:
    for name, allowed in (("device", ("cuda", "mps", "cpu")), ("precision", PRECISIONS), ("offload", OFFLOADS)):
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
    if options.offload not in (None, "none") and (options.device or hardware.device) != "cuda":
        raise user_error("plan.offload_needs_gpu", asked=options.offload, device=options.device or hardware.device)

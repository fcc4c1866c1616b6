"""Pictures in a few steps: LoRAs that were distilled for it, each with the steps, guidance and scheduler that it needs.

How the likeness bears it, in one published comparison at equal faces: 30 steps 0.78, Lightning 4 steps 0.80, Hyper 4
steps 0.80, LCM 8 steps 0.55.
"""

from dataclasses import dataclass
from typing import Any

NO_FEW_STEPS = "none"
USUAL = {"steps": 30, "guidance_scale": 5.0, "scheduler": "euler"}  # of a base model without such a LoRA


@dataclass(frozen=True)
class FewSteps:
    """A LoRA for few steps: its name in Spanish and English, where it is, and what it was made for."""

    spanish: str
    english: str
    repo_id: str
    file: str  # in the repository
    steps: int
    scheduler: str  # a key of `request.SCHEDULERS`
    guidance_scale: float = 1.0
    most_guidance: float = 1.0  # beyond it colours burn

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of a request that it decides."""
        return {name: getattr(self, name) for name in USUAL}

    def suits(self, steps: int, guidance_scale: float, scheduler: str) -> bool:
        """Whether a request with these asks for what it can do."""
        in_reach = self.steps <= steps <= 2 * self.steps
        return in_reach and guidance_scale <= self.most_guidance and scheduler == self.scheduler


_LIGHTNING, _HYPER = "ByteDance/SDXL-Lightning", "ByteDance/Hyper-SD"
FEW_STEPS: dict[str, FewSteps] = {
    "lightning-4": FewSteps(
        "Lightning: 4 pasos",
        "Lightning: 4 steps",
        _LIGHTNING,
        "sdxl_lightning_4step_lora.safetensors",
        4,
        "euler_trailing",
    ),
    "lightning-8": FewSteps(
        "Lightning: 8 pasos",
        "Lightning: 8 steps",
        _LIGHTNING,
        "sdxl_lightning_8step_lora.safetensors",
        8,
        "euler_trailing",
    ),
    "hyper-4": FewSteps(
        "Hyper-SD: 4 pasos", "Hyper-SD: 4 steps", _HYPER, "Hyper-SDXL-4steps-lora.safetensors", 4, "ddim_trailing"
    ),
    "hyper-8": FewSteps(
        "Hyper-SD: 8 pasos", "Hyper-SD: 8 steps", _HYPER, "Hyper-SDXL-8steps-lora.safetensors", 8, "ddim_trailing"
    ),
    "lcm-8": FewSteps(
        "LCM: 8 pasos (se parece menos)",
        "LCM: 8 steps (less alike)",
        "latent-consistency/lcm-lora-sdxl",
        "pytorch_lora_weights.safetensors",
        8,
        "lcm",
        guidance_scale=1.5,
        most_guidance=2.0,
    ),
}


def usual_settings(few_steps: str) -> dict[str, Any]:
    """Steps, guidance and scheduler of a key of `FEW_STEPS`, or of `NO_FEW_STEPS`."""
    return FEW_STEPS[few_steps].settings if few_steps in FEW_STEPS else dict(USUAL)

"""A LoRA for the UNet of the random bundle, as a file of the kind that a few-step LoRA comes in."""

from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict


def write_lora(bundle: Path, file: Path, seed: int = 0) -> Path:
    """Random weights, large enough to be seen; returns `file`."""
    unet = UNet2DConditionModel.from_pretrained(bundle / "base" / "unet")
    torch.manual_seed(seed)
    unet.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_v"], init_lora_weights=False))
    file.parent.mkdir(parents=True, exist_ok=True)
    layers = get_peft_model_state_dict(unet)
    StableDiffusionXLPipeline.save_lora_weights(file.parent, unet_lora_layers=layers, weight_name=file.name)
    return file

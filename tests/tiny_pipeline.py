"""Tiny InstantID pipelines, and calls on them whose every input is fixed by a tag."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_components import (
    POOLED_DIM,
    TEXT_DIM,
    adapter_tensors,
    standard_normal,
    tiny_controlnet,
    tiny_scheduler,
    tiny_unet,
    tiny_vae,
)

from ip_adapter.checkpoint import write_checkpoint
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline, draw_kps

SIZE = 128
KEY_POINTS = {
    "frontal": [[48.2, 50.7], [80.4, 49.9], [64.1, 68.3], [52.6, 84.2], [77.0, 83.5]],
    "turned": [[30.5, 44.1], [52.9, 40.2], [36.7, 60.8], [35.2, 77.9], [52.3, 74.4]],
    "large": [[310.3, 402.8], [520.9, 388.1], [402.4, 540.6], [335.5, 655.2], [498.7, 640.9]],
}


def key_points_picture(name: str = "frontal", size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    return draw_kps(Image.new("RGB", size), np.array(KEY_POINTS[name]))


def write_adapter(folder: Path, seed: str = "", name: str = "ip-adapter.bin") -> Path:
    tensors = adapter_tensors(tiny_unet(), seed)
    return write_checkpoint(folder / name, tensors["image_proj"], tensors["ip_adapter"])


def bare_pipeline(cls=StableDiffusionXLInstantIDPipeline, controlnets=("identity",)):
    """A pipeline without adapter and without text encoders."""
    nets = [tiny_controlnet(which) for which in controlnets]
    pipe = cls(
        vae=tiny_vae(),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=tiny_unet(),
        controlnet=nets if len(nets) > 1 else nets[0],
        scheduler=tiny_scheduler(),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_pipeline(adapter: Path, **kwargs):
    pipe = bare_pipeline(**kwargs)
    pipe.load_ip_adapter_instantid(adapter)
    return pipe


def call_arguments(tag: str, prompts: int = 1, guidance_scale: float = 5.0) -> dict:
    """Inputs of the reference case `tag`."""
    arguments = {
        "prompt_embeds": standard_normal(f"{tag}.prompt", (prompts, 77, TEXT_DIM)),
        "pooled_prompt_embeds": standard_normal(f"{tag}.pooled", (prompts, POOLED_DIM)),
        "image_embeds": face(tag),
        "num_inference_steps": 3,
        "guidance_scale": guidance_scale,
        "output_type": "latent",
    }
    if guidance_scale > 1:
        arguments["negative_prompt_embeds"] = standard_normal(f"{tag}.negative", (prompts, 77, TEXT_DIM))
        arguments["negative_pooled_prompt_embeds"] = standard_normal(f"{tag}.negative_pooled", (prompts, POOLED_DIM))
    return arguments


def face(tag: str) -> np.ndarray:
    return standard_normal(f"{tag}.face", (512,)).numpy()


def run(
    pipe, tag: str = "a", latents: tuple[int, ...] | torch.Tensor | None = (1, 4, 16, 16), **changes
) -> torch.Tensor:
    """Latents of reference case `tag` with some arguments changed; `latents`: to begin with, or their shape."""
    arguments = call_arguments(tag, guidance_scale=changes.pop("guidance_scale", 5.0))
    arguments |= {"image": key_points_picture(), "controlnet_conditioning_scale": 0.8, "ip_adapter_scale": 0.8}
    if latents is not None:
        given = isinstance(latents, torch.Tensor)
        arguments["latents"] = latents if given else standard_normal(f"{tag}.latents", latents)
    return pipe(**(arguments | changes)).images


def largest_difference(a, b) -> float:
    return (torch.as_tensor(a).float() - torch.as_tensor(b).float()).abs().max().item()

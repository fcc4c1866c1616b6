"""Models that wait in RAM and are on the GPU only while they work.

For what a picture needs once, before or after the denoising loop: text encoders, Resampler, identity layers, VAE. What
waits keeps its place in RAM while it works, so leaving the GPU copies nothing back.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from accelerate.utils import send_to_device
from torch import nn

from ip_adapter.attention_processor import IdentityAttnProcessor

if TYPE_CHECKING:
    from pipeline_stable_diffusion_xl_instantid import InstantIDMixin


class Visit(ModelHook):
    """accelerate's hook of a module that lives in RAM: before its forward it comes to `execution_device`, then leaves.

    diffusers reads `execution_device` to know where a pipeline computes, and calls `pre_forward` around the methods of
    a VAE, which are no forward; after those `leave` has to be called.
    """

    def __init__(self, device: torch.device, pinned: bool) -> None:
        self.execution_device = device
        self.pinned = pinned
        self.waiting: list[tuple[torch.Tensor, torch.Tensor]] = []  # tensor, its memory in RAM while it is away

    def init_hook(self, module: nn.Module) -> nn.Module:
        for tensor in _tensors(module):
            tensor.data = tensor.data.to("cpu")
            if self.pinned:
                tensor.data = tensor.data.pin_memory()
        return module

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple, dict]:
        if not self.waiting:
            self.waiting = [(tensor, tensor.data) for tensor in _tensors(module)]
            for tensor, in_ram in self.waiting:
                tensor.data = in_ram.to(self.execution_device, non_blocking=True)
        return send_to_device(args, self.execution_device), send_to_device(kwargs, self.execution_device)

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        self.leave()
        return output

    def leave(self) -> None:
        for tensor, in_ram in self.waiting:
            tensor.data = in_ram.to(tensor.dtype)  # a VAE comes in float32 and leaves in half precision
        self.waiting = []


class Stay(ModelHook):
    """Of a module that stays on the GPU, so that diffusers finds the same answer wherever it looks for the device."""

    def __init__(self, device: torch.device) -> None:
        self.execution_device = device


def wait_in_ram(pipeline: InstantIDMixin, device: str | torch.device, pinned: bool) -> None:
    """Everything that the denoising loop does not need waits in RAM from now on."""
    device = torch.device(device)
    for module in _idle(pipeline):
        add_hook_to_module(module, Visit(device, pinned))
    for module in (pipeline.unet, pipeline.controlnet):
        add_hook_to_module(module, Stay(device))


def resampler_visits(pipeline: InstantIDMixin, device: str | torch.device) -> None:
    """Under diffusers' own offload, which does not know the Resampler: its tokens are the GPU's, to the last bit."""
    add_hook_to_module(pipeline.image_proj_model, Visit(torch.device(device), pinned=False))


def leave_gpu(pipeline: InstantIDMixin) -> None:
    """Back to RAM with whoever still visits: the VAE after decoding, and everyone after an error."""
    for module in _idle(pipeline):
        hook = getattr(module, "_hf_hook", None)
        if isinstance(hook, Visit):
            hook.leave()


def _idle(pipeline: InstantIDMixin) -> Iterator[nn.Module]:
    yield from (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.vae, pipeline.image_proj_model)
    for layer in pipeline.unet.modules():
        if isinstance(layer, IdentityAttnProcessor):
            yield from layer.children()  # they project the tokens once per picture


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    return chain(module.parameters(), module.buffers())

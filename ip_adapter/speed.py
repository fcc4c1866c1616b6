"""The switches of a pipeline that make its steps faster. None is on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from ip_adapter.compilation import CompiledBlocks
from ip_adapter.cuda_graphs import CudaGraphs
from ip_adapter.errors import StateError
from ip_adapter.identity import Identity
from ip_adapter.layers import Layers


class SpeedSwitches:
    """For a diffusers pipeline with a `unet`.

    Attributes:
        cuda_graphs: None while they are off.
        compiled_blocks: None while they are off.
    """

    cuda_graphs: CudaGraphs | None = None
    compiled_blocks: CompiledBlocks | None = None

    def enable_cuda_graphs(self) -> CudaGraphs:
        """From now on replay UNet and IdentityNet as CUDA graphs: the same numbers without the time of Python.

        The first step of a size captures it. Both networks have to stay on the GPU.

        Raises: StateError without an NVIDIA GPU.
        """
        if self.unet.device.type != "cuda":
            raise StateError(
                "graphs.no_cuda",
                "CUDA graphs need UNet and IdentityNet on an NVIDIA GPU, but the UNet is on {device}. Call "
                "pipe.to('cuda') first, or leave this out.",
                device=self.unet.device,
            )
        self.cuda_graphs = self.cuda_graphs or CudaGraphs()
        return self.cuda_graphs

    def disable_cuda_graphs(self) -> None:
        """Compute every step plainly again; the graphs' memory is given back."""
        self.cuda_graphs = None

    def enable_compilation(self) -> CompiledBlocks:
        """From now on run the blocks of UNet and IdentityNet as compiled code; made for use with CUDA graphs.

        The first step of a size compiles, which takes up to a minute. Numbers differ a little from plain ones. Where
        nothing can be compiled all runs plainly, and `failure` of what is returned says why.
        """
        self.compiled_blocks = self.compiled_blocks or CompiledBlocks()
        return self.compiled_blocks

    def disable_compilation(self) -> None:
        """Run the blocks plainly again."""
        if self.compiled_blocks is not None:
            self.compiled_blocks.release()
        self.compiled_blocks = None

    @property
    def _execution_device(self) -> torch.device:
        """Where diffusers puts what the steps read; to tell, it looks through all modules, several times a picture.

        Graphs have both networks stay on the GPU: where one weight is, they compute.
        """
        device = self.unet.conv_in.weight.device
        if self.cuda_graphs is None or device.type in ("cpu", "meta"):  # offloaded after all
            return super()._execution_device
        return device

    @contextmanager
    def _faster(self, identity_net: torch.nn.Module, layers: Layers, identity: Identity) -> Iterator[None]:
        """Inside, the networks of a call that draws `identity` run as the switches say."""
        with ExitStack() as ended:
            if self.compiled_blocks is not None:
                ended.enter_context(self.compiled_blocks.running(self.unet, identity_net))
            if self.cuda_graphs is not None:
                ended.enter_context(self.cuda_graphs.running(self.unet, identity_net, layers, identity))
            yield


def precision_of(unet: torch.nn.Module) -> torch.dtype:
    """What `unet.dtype` says; diffusers looks through all modules for hooks that cast weights before it looks at one.

    Where any weight is cast, those of the first layer are: what the UNet is given goes there as it is.
    """
    is_cast = hasattr(unet.conv_in, "_diffusers_hook")
    return unet.dtype if is_cast else unet.conv_in.weight.dtype

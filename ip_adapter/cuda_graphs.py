"""UNet and IdentityNet as CUDA graphs: each launched whole, not kernel by kernel from Python.

A graph replays kernels on fixed addresses, so everything that changes from step to step or from picture to picture
lies in buffers of the graph, written before it is replayed. The kernels are those of the plain way, and so are the
numbers, to the last bit. What is the same in all steps of a picture is computed once, outside the graph: keys and
values of text and identity, and IdentityNet's embedding of the key-point picture.

Shapes decide which graph serves; other shapes (a size, a number of pictures, guidance on or off, a region or none)
are captured when they first come. Prompt, face, seed, strengths, steps and scheduler change nothing about a graph.
"""

from __future__ import annotations

import dataclasses
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ip_adapter.attention_processor import IdentityAttnProcessor, LayerCall, Projection, version_of
from ip_adapter.forwards import replaced_forward
from ip_adapter.identity import Identity
from ip_adapter.layers import Layers

MOST = 4  # graphs kept of each network; the one not used for longest makes room

# Arguments that may change, as tensors or nested in lists and dicts. With any other a call runs plainly.
CHANGING = {
    "sample",
    "timestep",
    "encoder_hidden_states",
    "added_cond_kwargs",
    "timestep_cond",
    "controlnet_cond",
    "down_block_additional_residuals",
    "mid_block_additional_residual",
}
FIXED = {"return_dict": False, "guess_mode": False}  # and with other values of these

# Attributes of a module that are settings: numbers, words and switches, also in collections. Its own affairs are not.
SETTINGS = (int, float, str)
COLLECTIONS = (list, tuple, dict)
ADAPTER_SWITCHES = ("_disable_adapters", "_active_adapter")
INTERNALS = frozenset(vars(torch.nn.Module())) - {"training"}

Tensors = dict[str, torch.Tensor]
# Runs a function once in a way that can be repeated on the same buffers -> how to repeat it, and what it returned.
Capture = Callable[[Callable[[], Any]], tuple[Callable[[], object], Any]]


class CudaGraphs:
    """The captured graphs of one pipeline.

    Attributes:
        captures: how many graphs were captured so far.
        failure: why nothing can be captured here, or None; then all runs plainly.
    """

    def __init__(self, capture: Capture | None = None) -> None:
        self.captures = 0
        self.failure: str | None = None
        self._capture = capture or _Cuda()
        self._graphs: dict[str, OrderedDict[tuple, _Graph]] = {"unet": OrderedDict(), "identitynet": OrderedDict()}
        self._state: tuple | None = None  # of the networks that the graphs were captured of

    @contextmanager
    def running(
        self, unet: torch.nn.Module, identity_net: torch.nn.Module, layers: Layers, identity: Identity
    ) -> Iterator[None]:
        """Inside, the networks of a pipeline that draws `identity` answer by their graphs."""
        state = (network_state(unet), network_state(identity_net))
        if state != self._state:  # a LoRA came, went or changed; weights moved; another network
            self.release()
            self._state, self.failure = state, None
        drawn_by = {
            "unet": lambda arguments: _UNetGraph(arguments, unet, layers, identity),
            "identitynet": lambda arguments: _IdentityNetGraph(arguments, identity_net),
        }
        with ExitStack() as ended:
            for name, net in (("unet", unet), ("identitynet", identity_net)):
                ended.enter_context(replaced_forward(net, self._instead(name, drawn_by[name], identity)))
            ended.callback(self._forget)
            yield

    def release(self) -> None:
        """Give the memory of all graphs back; they are captured again when they are needed."""
        for graphs in self._graphs.values():
            graphs.clear()

    def _forget(self) -> None:
        for graphs in self._graphs.values():
            for graph in graphs.values():
                graph.forget()

    def _instead(self, name: str, begin: Callable[[dict], _Graph], identity: Identity) -> Callable:
        def answer(plain: Callable, arguments: dict[str, Any]) -> Any:
            arguments, finish = _without_weight(arguments)
            if self.failure or not _is_capturable(arguments):
                return finish(plain(**arguments))
            tensors = dict(_tensors(arguments))
            has_region = name == "unet" and identity.region is not None
            key = (has_region, *((path, t.shape, t.dtype) for path, t in tensors.items()))
            graphs = self._graphs[name]
            if key in graphs:
                graphs.move_to_end(key)
                return finish(graphs[key].replay(tensors, identity))
            graph = begin(arguments)
            out = graph.run(plain)  # this step, and whatever libraries do when they first see a size
            try:
                graph.capture(plain, self._capture)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # a kernel that cannot be captured, whoever brought it
                self.release()
                self.failure = " ".join(str(error).split())
                return finish(out)
            self.captures += 1
            graphs[key] = graph
            if len(graphs) > MOST:
                graphs.popitem(last=False)
            return finish(out)

        return answer


class _Graph(ABC):
    """One network at one signature: buffers, and how to compute its outputs from them again."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.buffers: Tensors = {path: tensor.clone() for path, tensor in _tensors(arguments)}
        self.arguments = _with(arguments, self.buffers)
        self._written: dict[str, tuple[torch.Tensor, int | None]] = {}  # what each buffer holds, and its version then
        self._identity: Identity | None = None

    def run(self, plain: Callable) -> Any:
        """The outputs for what is in the buffers, computed plainly."""
        with self._on_buffers():
            return plain(**self.arguments)

    def capture(self, plain: Callable, capture: Capture) -> None:
        self._replay, self._outputs = capture(lambda: self.run(plain))

    def replay(self, tensors: Tensors, identity: Identity) -> Any:
        """The outputs for these inputs; they are overwritten by the next replay."""
        changed = {path for path, tensor in tensors.items() if self._write(path, tensor)}
        if identity is not self._identity:
            self._identity = identity
            self._write_identity(identity)
        self._write_constants(changed, tensors, identity)
        self._replay()
        return self._outputs

    def forget(self) -> None:
        """Hold nothing of the call that ended."""
        self._written.clear()
        self._identity = None

    def _write(self, path: str, tensor: torch.Tensor) -> bool:
        """Whether there was something to write: most inputs are the same tensor in all steps."""
        version = version_of(tensor)
        source, written = self._written.get(path, (None, None))
        if source is tensor and version is not None and version == written:
            return False
        self.buffers[path].copy_(tensor)
        self._written[path] = (tensor, version)
        return True

    @abstractmethod
    def _on_buffers(self) -> Any:
        """While the network is captured: everything that is no argument comes from buffers too."""

    @abstractmethod
    def _write_identity(self, identity: Identity) -> None:
        """A new call began."""

    @abstractmethod
    def _write_constants(self, changed: set[str], tensors: Tensors, identity: Identity) -> None:
        """Compute again what is made of inputs that changed and is the same in all steps."""


class _UNetGraph(_Graph):
    """Keys and values of text and identity lie in buffers, strength and region too."""

    def __init__(self, arguments: dict[str, Any], unet: torch.nn.Module, layers: Layers, identity: Identity) -> None:
        super().__init__(arguments)
        self._layers = {
            name: (layer, unet.get_submodule(name.removesuffix(".processor"))) for name, layer in layers.items()
        }
        batch, self._dtype = self.buffers["sample"].shape[0], self.buffers["sample"].dtype
        self._static = dataclasses.replace(
            identity,
            conditional=identity.tokens(batch).clone(),
            unconditional=None,
            scale=1.0,  # any but zero, which would leave the identity out
            strength=identity.strength.clone(),
            region=None if identity.region is None else identity.region.clone(),
        )
        text = self.buffers["encoder_hidden_states"]
        self._calls = {
            name: LayerCall(
                self._static,
                {
                    "text": _copied(layer.project_text(attn, text)),
                    "identity": _copied(layer.project_identity(attn, self._static.tokens(batch), self._dtype)),
                },
                is_written_elsewhere=True,
            )
            for name, (layer, attn) in self._layers.items()
        }

    @contextmanager
    def _on_buffers(self) -> Iterator[None]:
        before = {name: layer.call for name, (layer, _) in self._layers.items()}
        for name, (layer, _) in self._layers.items():
            layer.call = self._calls[name]
        try:
            yield
        finally:
            for name, (layer, _) in self._layers.items():
                layer.call = before[name]

    def _write_identity(self, identity: Identity) -> None:
        tokens = self._static.conditional
        tokens.copy_(identity.tokens(tokens.shape[0]))
        self._static.strength.copy_(identity.strength)
        if identity.region is not None:
            self._static.region.copy_(identity.region)
        for name, (layer, attn) in self._layers.items():
            _overwrite(self._calls[name], "identity", layer.project_identity(attn, tokens, self._dtype))

    def _write_constants(self, changed: set[str], tensors: Tensors, identity: Identity) -> None:
        if "encoder_hidden_states" in changed:
            text = self.buffers["encoder_hidden_states"]
            for name, (layer, attn) in self._layers.items():
                _overwrite(self._calls[name], "text", layer.project_text(attn, text))

    def replay(self, tensors: Tensors, identity: Identity) -> Any:
        """As of any graph, but the caller's own: schedulers keep what they are given."""
        return tuple(output.clone() for output in super().replay(tensors, identity))


class _IdentityNetGraph(_Graph):
    """The embedding of the key-point picture lies in a buffer."""

    def __init__(self, arguments: dict[str, Any], identity_net: torch.nn.Module) -> None:
        super().__init__(arguments)
        self._embed = identity_net.controlnet_cond_embedding
        self._embedding = self._embed(self.buffers["controlnet_cond"]).clone()

    def _write_identity(self, identity: Identity) -> None:
        """Its tokens are an argument."""

    def _on_buffers(self) -> Any:
        return replaced_forward(self._embed, lambda plain, arguments: self._embedding)

    def _write_constants(self, changed: set[str], tensors: Tensors, identity: Identity) -> None:
        if "controlnet_cond" in changed:
            self._embedding.copy_(self._embed(self.buffers["controlnet_cond"]))


class _Cuda:
    """Captures on the GPU; all graphs work in one pool of memory, since they never run at the same time."""

    def __init__(self) -> None:
        self._graphs: weakref.WeakSet[torch.cuda.CUDAGraph] = weakref.WeakSet()

    def __call__(self, run: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
        pool = next((graph.pool() for graph in self._graphs), None)  # gone with the last graph in it, then a new one
        graph = torch.cuda.CUDAGraph()
        # Other threads of the process may go on with the GPU: one watches its memory.
        with random_numbers_survive(), torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            outputs = run()
        self._graphs.add(graph)
        return graph.replay, outputs


@contextmanager
def random_numbers_survive() -> Iterator[None]:
    """Inside, a capture may break off: that would leave the GPU's generator waiting for its end, and useless."""
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    before = generator.clone_state()
    try:
        yield
    except RuntimeError:
        generator.graphsafe_set_state(before)
        raise


def network_state(net: torch.nn.Module) -> tuple:
    """What the kernels of a network depend on besides its arguments: its modules, their settings, where weights lie.

    The identity layers' own weights are left out: their projections are computed outside the graphs.
    """
    state: list[object] = [id(net)]  # not the network itself: whoever keeps a state must not keep weights
    found = [net]
    for module in found:  # torch's own `modules()` takes longer than all the rest of this
        if isinstance(module, IdentityAttnProcessor):
            continue
        attributes = vars(module)
        state.append(type(module))
        for name in attributes:
            if name not in INTERNALS and (name[0] != "_" or name in ADAPTER_SWITCHES):
                value = attributes[name]
                if isinstance(value, SETTINGS):
                    state += (name, value)
                elif value and isinstance(value, COLLECTIONS):  # as LoRA layers keep theirs
                    state += (name, repr(value))
        for tensors in (module._parameters, module._buffers):
            for tensor in tensors.values():
                if tensor is not None:
                    state += (tensor.data_ptr(), tensor.dtype)
        found += (child for child in module._modules.values() if child is not None)
    return tuple(state)


def _without_weight(arguments: dict[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """IdentityNet's arguments with a weight of one, and what puts the weight on: it is a number, not a tensor."""
    weight = arguments.get("conditioning_scale")
    if not isinstance(weight, int | float) or not _is_capturable(arguments | {"conditioning_scale": None}):
        return arguments, lambda out: out

    def finish(out: tuple) -> tuple:
        down, mid = out
        return [residual * weight for residual in down], mid * weight

    return arguments | {"conditioning_scale": 1.0}, finish


def _is_capturable(arguments: dict[str, Any]) -> bool:
    for name, value in arguments.items():
        if name in CHANGING:
            if value is not None and not any(True for _ in _tensors({name: value})):
                return False  # a timestep as a Python number would be captured
        elif name == "conditioning_scale":
            if value not in (None, 1.0):
                return False
        elif value is not None and FIXED.get(name) != value:
            return False
    devices = {tensor.device for _, tensor in _tensors(arguments)}
    return arguments.get("return_dict", True) is False and len(devices) == 1


def _tensors(value: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of nested arguments with its path: "added_cond_kwargs.time_ids"."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _tensors(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _tensors(part, f"{path}.{index}")


def _with(value: Any, tensors: Tensors, path: str = "") -> Any:
    """The same nested arguments with other tensors."""
    if isinstance(value, torch.Tensor):
        return tensors[path]
    if isinstance(value, Mapping):
        return {name: _with(part, tensors, f"{path}.{name}" if path else str(name)) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with(part, tensors, f"{path}.{index}") for index, part in enumerate(value))
    return value


def _copied(projection: Projection) -> Projection:
    """In memory of its own."""
    return dataclasses.replace(projection, key=projection.key.clone(), value=projection.value.clone())


def _overwrite(call: LayerCall, name: str, projection: Projection) -> None:
    """Put new keys and values where the graph reads them."""
    kept = call.projections[name]
    kept.key.copy_(projection.key)
    kept.value.copy_(projection.value)

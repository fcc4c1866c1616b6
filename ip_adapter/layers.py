"""Identity attention on a UNet: build the layers from a checkpoint, put them in, see who took them out.

Works on any UNet with diffusers' attention interface (`attn_processors`, `set_processor`); imports none of it.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from ip_adapter.attention_processor import IdentityAttnProcessor
from ip_adapter.checkpoint import AdapterCheckpoint
from ip_adapter.errors import StateError, UserError

# Class of a processor found in the identity's place -> the calls that put it there.
WHO_REPLACES = {
    "SlicedAttnProcessor": "UNet.set_attention_slice()",
    "XFormersAttnProcessor": "UNet.enable_xformers_memory_efficient_attention()",
    "FusedAttnProcessor2_0": "UNet.fuse_qkv_projections()",
    "IPAdapterAttnProcessor": "load_ip_adapter()",
    "IPAdapterAttnProcessor2_0": "load_ip_adapter()",
    "AttnProcessor": "UNet.set_attn_processor() or set_default_attn_processor()",
    "AttnProcessor2_0": "UNet.set_attn_processor() or set_default_attn_processor()",
}

Layers = dict[str, IdentityAttnProcessor]


def cross_attention(unet: nn.Module) -> dict[str, tuple[int, nn.Module]]:
    """Processor name -> (its place among all processors, its attention layer), for every cross-attention of `unet`.

    Checkpoints number their layers by that place, self-attention included.
    """
    return {
        name: (index, unet.get_submodule(name.removesuffix(".processor")))
        for index, name in enumerate(unet.attn_processors)
        if name.endswith("attn2.processor")
    }


def build_layers(unet: nn.Module, checkpoint: AdapterCheckpoint, token_dim: int) -> Layers:
    """Identity attention for every cross-attention of `unet`, on the device and in the precision of its layer.

    Raises: UserError naming missing or unexpected keys, or widths that do not fit the base model.
    """
    weights = checkpoint.ip_adapter
    places = cross_attention(unet)
    _check_keys(checkpoint, [f"{i}.{part}.weight" for i, _ in places.values() for part in ("to_k_ip", "to_v_ip")])
    layers: Layers = {}
    for name, (index, attn) in places.items():
        hidden_size, text_dim = attn.to_q.out_features, attn.to_k.in_features
        state = {f"{part}.weight": weights[f"{index}.{part}.weight"] for part in ("to_k_ip", "to_v_ip")}
        for key, tensor in state.items():
            if tuple(tensor.shape) != (hidden_size, text_dim) or token_dim != text_dim:
                raise UserError(
                    "adapter.wrong_width",
                    "Layer {index}.{key} of {path} is {received}, tokens are {tokens} wide, but this base model needs "
                    "{needed}: the adapter was made for another kind of model. InstantID needs an SDXL base.",
                    index=index,
                    key=key,
                    path=checkpoint.path,
                    received=tuple(tensor.shape),
                    tokens=token_dim,
                    needed=(hidden_size, text_dim),
                )
        with torch.device("meta"):
            layer = IdentityAttnProcessor(hidden_size, text_dim)
        like = attn.to_k.weight
        device = "cpu" if like.device.type == "meta" else like.device  # meta: offloaded layer by layer
        # Two steps: the device casts, and RAM holds no copy.
        layer.load_state_dict({k: v.to(device).to(like.dtype) for k, v in state.items()}, assign=True)
        layers[name] = layer.requires_grad_(False).eval()
    return layers


def install(unet: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, object]:
    """Put each processor in its place; returns the processors that stood there.

    An identity layer takes over the slice size of sliced attention that it replaces.
    """
    replaced = {}
    for name, layer in layers.items():
        attn = unet.get_submodule(name.removesuffix(".processor"))
        replaced[name] = attn.processor
        if isinstance(layer, IdentityAttnProcessor):
            layer.slice_size = getattr(attn.processor, "slice_size", None)
        attn.set_processor(layer)
    return replaced


def check_installed(unet: nn.Module, layers: Layers) -> None:
    """Raises: StateError when an identity layer is no longer in its place, naming the call that replaces it."""
    found = [processor for name, processor in _cross_attention_processors(unet) if processor is not layers.get(name)]
    if found:
        kind = type(found[0]).__name__
        raise StateError(
            "identity.removed",
            "The identity was removed from {count} of {total} cross-attention layers: {kind} stands in its place, put "
            "there by {call}. Call restore_identity() to bring the face back.",
            count=len(found),
            total=len(layers),
            kind=kind,
            call=WHO_REPLACES.get(kind, "UNet.set_attn_processor()"),
        )


def _cross_attention_processors(unet: nn.Module) -> Iterator[tuple[str, object]]:
    """The names of `cross_attention` and what stands there now, in a tenth of its time: each picture asks."""
    found: list[tuple[str, nn.Module]] = [("", unet)]
    for path, module in found:
        for name, child in module._modules.items():
            if name.endswith("attn2") and hasattr(child, "get_processor"):
                yield f"{path}{name}.processor", child.get_processor()
            elif child is not None:
                found.append((f"{path}{name}.", child))


def _check_keys(checkpoint: AdapterCheckpoint, expected: list[str]) -> None:
    missing = sorted(set(expected) - set(checkpoint.ip_adapter))
    unexpected = sorted(set(checkpoint.ip_adapter) - set(expected))
    if missing or unexpected:
        raise UserError(
            "adapter.wrong_layers",
            "{path} does not fit this base model: {missing_count} identity layers missing ({missing}), "
            "{unexpected_count} too many ({unexpected}). InstantID needs an SDXL base and its own ip-adapter.bin.",
            path=checkpoint.path,
            missing_count=len(missing),
            missing=", ".join(missing[:3]) or "-",
            unexpected_count=len(unexpected),
            unexpected=", ".join(unexpected[:3]) or "-",
        )

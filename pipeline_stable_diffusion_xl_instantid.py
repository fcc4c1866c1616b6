"""InstantID pipelines on SDXL: text-to-image, image-to-image, inpaint. Drop-in for scripts written for the original.

Each class is diffusers' own SDXL ControlNet pipeline of that mode. `InstantIDMixin` takes the identity arguments, puts
the identity on the attention processors and on IdentityNet (ControlNet number 0) for the length of the call, and leaves
the denoising to diffusers. No loop is copied, so a new diffusers brings its changes by itself.

Source: Wang et al. 2024, "InstantID: Zero-shot Identity-Preserving Generation in Seconds".
"""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import accelerate
import cv2
import numpy as np
import PIL.Image
import torch
from diffusers import (
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
)

from ip_adapter.attention_processor import version_of
from ip_adapter.checkpoint import preferred_file, read_checkpoint, write_checkpoint
from ip_adapter.errors import StateError, UserError
from ip_adapter.forwards import replaced_forward
from ip_adapter.geometry import read_geometry
from ip_adapter.guidance import ending_guidance
from ip_adapter.identity import Identity
from ip_adapter.identity_net import feed_tokens, mask_residuals, silent_without_weight
from ip_adapter.inputs import as_embeddings, as_region
from ip_adapter.layers import Layers, build_layers, check_installed, cross_attention, install
from ip_adapter.recent import Recent
from ip_adapter.resampler import Resampler
from ip_adapter.speed import SpeedSwitches, precision_of

ADAPTER_FILE = "ip-adapter.safetensors"  # in a folder written by save_pretrained

# Left eye, right eye, nose, left and right corner of the mouth.
KEY_POINT_COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)]
LIMBS = [(0, 2), (1, 2), (3, 2), (4, 2)]
LIMB_HALF_WIDTH = 4  # pixels, at every output size: IdentityNet was trained so
LIMB_BRIGHTNESS = 0.6
POINT_RADIUS = 10  # pixels


def draw_kps(
    image_pil: PIL.Image.Image, kps: np.ndarray, color_list: list[tuple[int, int, int]] = KEY_POINT_COLOURS
) -> PIL.Image.Image:
    """The picture of five face points that IdentityNet reads.

    Args:
        image_pil: only its size is used. Draw at the output size: a stretched drawing is not what IdentityNet knows.
        kps: (5, 2) x and y in pixels of that size: left eye, right eye, nose, left and right corner of the mouth.
        color_list: RGB of each point.

    Returns: RGB picture of the size of `image_pil`: limbs to the nose, dimmed, and a disc at each point, on black.

    Raises: UserError if `kps` is not five points.
    """
    points = np.asarray(kps, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise UserError(
            "key_points.shape",
            "Key points must be five finite (x, y) pairs, shape (5, 2); received shape {shape}. Use face.kps.",
            shape=points.shape,
        )
    width, height = image_pil.size
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    for a, b in LIMBS:
        (x_a, y_a), (x_b, y_b) = points[a], points[b]
        centre = (int((x_a + x_b) / 2), int((y_a + y_b) / 2))
        half_axes = (int(math.hypot(x_a - x_b, y_a - y_b) / 2), LIMB_HALF_WIDTH)
        angle = int(math.degrees(math.atan2(y_a - y_b, x_a - x_b)))
        outline = cv2.ellipse2Poly(centre, half_axes, angle, 0, 360, 1)
        cv2.fillConvexPoly(canvas, outline, color_list[a])
    canvas = (canvas * LIMB_BRIGHTNESS).astype(np.uint8)
    for (x, y), colour in zip(points, color_list):
        cv2.circle(canvas, (int(x), int(y)), POINT_RADIUS, colour, -1)
    return PIL.Image.fromarray(canvas)


RECENT_FACES = 8  # whose tokens are kept


@dataclass
class LoadedAdapter:
    """An adapter at work on a UNet. Pipelines that share the UNet share this."""

    resampler: Resampler  # float32: tokens are cast, the Resampler is not
    layers: Layers
    text_processors: dict[str, object]  # what stood in the layers' places
    unet: weakref.ref  # the UNet that the layers were made for
    scale: float  # strength of identity attention when a call does not say
    tokens: Recent[torch.Tensor] = field(default_factory=lambda: Recent(RECENT_FACES))  # of the last few faces


class InstantIDMixin(SpeedSwitches):
    """What InstantID adds to a diffusers SDXL ControlNet pipeline. IdentityNet is the first ControlNet.

    Notation: `n` pictures = prompts × pictures per prompt, `t` identity tokens, `d` token width.
    """

    _adapter: LoadedAdapter | None = None
    _adapter_left_by: str | None = None  # the call that unloaded it

    # Loading ---------------------------------------------------------------------------------------------------------

    def load_ip_adapter_instantid(
        self,
        model_ckpt: str | Path,
        image_emb_dim: int | None = None,
        num_tokens: int | None = None,
        scale: float = 0.5,
        *,
        heads: int | None = None,
        dim_head: int | None = None,
    ) -> None:
        """Read an adapter file and put identity attention into the UNet. A second call replaces the first adapter.

        Args:
            model_ckpt: `ip-adapter.bin` or `.safetensors`; a converted `.safetensors` beside the `.bin` is preferred.
            image_emb_dim, num_tokens: read from the file; accepted, and checked, for scripts that pass them.
            scale: strength of identity attention, 0 … 1.5.
            heads, dim_head: how to read the Resampler, if not as the file or the published rule says.

        Raises: UserError if the file is unusable or does not fit the base model; what was loaded before stays.
        """
        checkpoint = read_checkpoint(preferred_file(model_ckpt))
        geometry = read_geometry(checkpoint, heads, dim_head)
        for name, asked, found in (
            ("image_emb_dim", image_emb_dim, geometry.embedding_dim),
            ("num_tokens", num_tokens, geometry.num_queries),
        ):
            if asked not in (None, found):
                raise UserError(
                    "adapter.argument_mismatch",
                    "{name}={asked} was passed, but {path} has {found}. Leave {name} out: it is read from the file.",
                    name=name,
                    asked=asked,
                    path=checkpoint.path,
                    found=found,
                )
        with torch.device("meta"):
            resampler = geometry.build()
        device = self._resampler_device()  # which casts: RAM holds no copy
        weights = {key: tensor.to(device).float() for key, tensor in checkpoint.image_proj.items()}
        try:
            resampler.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            raise UserError(
                "adapter.resampler_incomplete",
                "The Resampler in {path} is incomplete ({detail}). Delete the file and download it again.",
                path=checkpoint.path,
                detail=" ".join(str(error).split()),
            ) from error
        layers = build_layers(self.unet, checkpoint, geometry.output_dim)
        self.use_adapter(resampler.requires_grad_(False).eval(), layers, scale)

    def use_adapter(self, resampler: Resampler, layers: Layers, scale: float = 0.5) -> None:
        """Put an adapter that is in memory, while it is trained for instance, into the UNet; an earlier one goes.

        Args:
            resampler: float32, on the device that computes.
            layers: one for each cross-attention of the UNet.
            scale: strength of identity attention, 0 … 1.5.
        """
        self._remove_adapter(None)
        text_processors = install(self.unet, layers)
        _follow_offload(self.unet, layers)
        self._adapter = LoadedAdapter(resampler, layers, text_processors, weakref.ref(_inner(self.unet)), scale)

    def set_ip_adapter_scale(self, scale: float) -> None:
        """Strength of identity attention for the calls that do not pass `ip_adapter_scale`; 0 is text alone."""
        self._loaded_adapter().scale = float(scale)

    def unload_ip_adapter(self) -> None:
        """Take the identity off this pipeline; plain text attention returns."""
        if self._adapter is None:
            super().unload_ip_adapter()
        else:
            self._remove_adapter("unload_ip_adapter()")

    def restore_identity(self) -> None:
        """Put the identity layers back where something else replaced them."""
        adapter = self._loaded_adapter()
        if adapter.unet() is not _inner(self.unet):
            raise StateError(
                "identity.other_unet",
                "pipe.unet was replaced after the adapter was loaded, so the identity layers do not belong to it. "
                "Call load_ip_adapter_instantid(path) again.",
            )
        install(self.unet, adapter.layers)

    @property
    def image_proj_model(self) -> Resampler | None:
        """The Resampler of the loaded adapter, under the original's name."""
        return self._adapter.resampler if self._adapter else None

    # Generating ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def __call__(
        self,
        *args: Any,
        image_embeds: Any = None,
        ip_adapter_scale: float | None = None,
        control_mask: Any = None,
        guidance_end: float = 1.0,
        **kwargs: Any,
    ) -> Any:
        """Generate with an identity. All other arguments, and what is returned, are those of the diffusers pipeline.

        Args:
            image_embeds: raw ArcFace embedding (`face.embedding`, not `normed_embedding`) as array, tensor or list:
                (512,) or (1, 512) for every prompt, (prompts, 512) one each; (prompts, s, 512) gives the Resampler
                s embeddings per picture to attend to.
            ip_adapter_scale: strength of identity attention in this call; None = as set on the pipeline.
            control_mask: picture, array or tensor, white (255, or 1.0) where the identity acts; None = everywhere.
                Stretched to the output size if it has another.
            guidance_end: share of the steps, 0 … 1, after which guidance ends and its unconditional half is no longer
                computed: half the work from there on. Not when inpainting.

        Raises:
            UserError: an embedding or mask of the wrong shape, or guidance that cannot end early.
            StateError: no adapter loaded, the identity layers were replaced, or a call is already running.
        """
        if guidance_end < 1:
            kwargs = self._with_guidance_until(guidance_end, dict(zip(self._parameters(), args)) | kwargs)
            args = ()
        arguments = _arguments(super().__call__, args, kwargs)
        with self._identity(self._prepare_identity(image_embeds, ip_adapter_scale, control_mask, arguments)):
            return super().__call__(*args, **kwargs)

    def _parameters(self) -> dict[str, inspect.Parameter]:
        """Of a call of the diffusers pipeline, by name and in their order."""
        return dict(inspect.signature(super().__call__).parameters)

    def _with_guidance_until(self, end: float, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call, changed so that guidance ends early."""
        parameters = self._parameters()
        if "mask_image" in parameters:
            raise UserError(
                "guidance.inpaint",
                "Guidance cannot end early when inpainting: the pipeline keeps its mask in two halves. Leave "
                "guidance_end out.",
            )
        if end <= 0:
            return given | {"guidance_scale": 1.0}
        names = "callback_on_step_end", "callback_on_step_end_tensor_inputs"
        current = [given.get(name, parameters[name].default) for name in names]
        return given | dict(zip(names, ending_guidance(end, *current)))

    def _prepare_identity(
        self, image_embeds: Any, scale: float | None, control_mask: Any, arguments: dict[str, Any]
    ) -> Identity:
        adapter = self._loaded_adapter()
        prompts = _number_of_prompts(arguments)
        embeddings = as_embeddings(image_embeds, prompts, adapter.resampler.embedding_dim)
        guided = arguments["guidance_scale"] > 1 and self.unet.config.time_cond_proj_dim is None
        if guided:  # unconditional is a face of zeros through the Resampler, not zero tokens
            embeddings = torch.cat([torch.zeros_like(embeddings), embeddings])
        tokens = self._tokens(embeddings).repeat_interleave(arguments["num_images_per_prompt"] or 1, dim=0)
        unconditional, conditional = tokens.chunk(2) if guided else (None, tokens)
        region, latent_size = None, None
        if control_mask is not None:
            height, width = self._output_size(arguments)
            region = as_region(control_mask, height, width).to(tokens)
            latent_size = (height // self.vae_scale_factor, width // self.vae_scale_factor)
        strength = adapter.scale if scale is None else float(scale)
        return Identity(conditional, unconditional, strength, region, latent_size)

    def _tokens(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Identity tokens (b, t, d) of embeddings (b, s, 512), in the precision and on the device of the denoising."""
        resampler = self._adapter.resampler
        weights = tuple((p.data_ptr(), version_of(p)) for p in resampler.parameters())
        key = (embeddings.float().cpu().numpy().tobytes(), embeddings.shape, weights)
        tokens = self._adapter.tokens.get(key, lambda: resampler(embeddings.to(resampler.latents)))
        return tokens.to(self._execution_device, precision_of(self.unet))

    def _output_size(self, arguments: dict[str, Any]) -> tuple[int, int]:
        """Height and width of the picture, as diffusers decides them: what was asked, else the size of the image."""
        height, width = arguments.get("height"), arguments.get("width")
        if not (height and width):
            image = arguments["image"]
            while isinstance(image, list | tuple):
                image = image[0]
            image_height, image_width = self.image_processor.get_default_height_width(image)
            height, width = height or image_height, width or image_width
        return height, width

    @contextmanager
    def _identity(self, identity: Identity) -> Iterator[None]:
        """Put `identity` on the attention processors and IdentityNet; take it off on the way out, whatever happens."""
        layers, unet = self._loaded_adapter().layers, _inner(self.unet)
        if self._adapter.unet() is not unet:
            self.restore_identity()  # says what happened
        check_installed(unet, layers)
        if any(layer.identity is not None for layer in layers.values()):
            raise StateError(
                "identity.busy",
                "This pipeline is already generating. Wait until it has finished, or use a second pipeline.",
            )
        identity_net = getattr(self.controlnet, "nets", [self.controlnet])[0]
        with ExitStack() as ended:
            ended.callback(identity_net.register_forward_pre_hook(feed_tokens(identity), with_kwargs=True).remove)
            if identity.region is not None:
                ended.callback(identity_net.register_forward_hook(mask_residuals(identity)).remove)
            for layer in layers.values():
                ended.callback(layer.end)
                layer.begin(identity)
            ended.enter_context(self._faster(identity_net, layers, identity))
            if identity_net is self.controlnet:  # several ControlNets are summed up, and each has to say something
                ended.enter_context(replaced_forward(identity_net, silent_without_weight))
            yield

    # Memory switches put other processors into the UNet: the identity goes back on top -------------------------------

    def set_attention_slice(self, *args: Any, **kwargs: Any) -> None:
        super().set_attention_slice(*args, **kwargs)
        self._keep_identity()

    def set_use_memory_efficient_attention_xformers(self, *args: Any, **kwargs: Any) -> None:
        super().set_use_memory_efficient_attention_xformers(*args, **kwargs)
        self._keep_identity()

    def fuse_qkv_projections(self, *args: Any, **kwargs: Any) -> None:
        super().fuse_qkv_projections(*args, **kwargs)
        self._keep_identity()

    def unfuse_qkv_projections(self, *args: Any, **kwargs: Any) -> None:
        super().unfuse_qkv_projections(*args, **kwargs)
        self._keep_identity()

    def to(self, *args: Any, **kwargs: Any) -> InstantIDMixin:
        pipeline = super().to(*args, **kwargs)
        self._place_resampler()
        return pipeline

    def _keep_identity(self) -> None:
        if self._adapter is not None:
            install(self.unet, self._adapter.layers)

    def _place_resampler(self) -> None:
        """The Resampler follows the pipeline's device, never its precision."""
        if self._adapter is not None:
            self._adapter.resampler.to(self._resampler_device())

    def _resampler_device(self) -> torch.device:
        on_meta = self.device.type == "meta"  # offloaded layer by layer
        return torch.device("cpu") if on_meta else self.device

    # Saving ----------------------------------------------------------------------------------------------------------

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Write the pipeline as diffusers does, the adapter beside it; `from_pretrained` reads both."""
        if self._adapter is None:
            super().save_pretrained(save_directory, *args, **kwargs)
            return
        layers, resampler = self._adapter.layers, self._adapter.resampler
        install(self.unet, self._adapter.text_processors)  # a plain UNet, that any SDXL pipeline can load
        try:
            super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            install(self.unet, layers)
        places = cross_attention(self.unet)
        weights = {
            f"{places[name][0]}.{key}": tensor
            for name, layer in layers.items()
            for key, tensor in layer.state_dict().items()
        }
        write_checkpoint(
            Path(save_directory) / ADAPTER_FILE, resampler.state_dict(), weights, resampler.heads, resampler.dim_head
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> InstantIDMixin:
        """diffusers' `from_pretrained`, and the adapter too when the folder holds one."""
        pipeline = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        adapter = Path(pretrained_model_name_or_path) / ADAPTER_FILE
        if adapter.is_file():
            pipeline.load_ip_adapter_instantid(adapter)
        return pipeline

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> InstantIDMixin:
        """This mode over the same models and the same adapter as `pipeline`; nothing is loaded or cast.

        Args:
            pipeline: another InstantID pipeline, or a diffusers SDXL pipeline (then pass `controlnet=`).
            **kwargs: components that take the place of the pipeline's.
        """
        accepted = set(inspect.signature(cls.__init__).parameters) - {"self"}
        components = {name: module for name, module in (pipeline.components | kwargs).items() if name in accepted}
        new = cls(**components)
        new._adapter = getattr(pipeline, "_adapter", None)
        return new

    # -----------------------------------------------------------------------------------------------------------------

    def _loaded_adapter(self) -> LoadedAdapter:
        if self._adapter is None and self._adapter_left_by:
            raise StateError(
                "identity.unloaded",
                "The InstantID adapter is gone: {call} removed it. Call load_ip_adapter_instantid(path) again.",
                call=self._adapter_left_by,
            )
        if self._adapter is None:
            raise StateError(
                "identity.no_adapter",
                "No InstantID adapter is loaded. Call load_ip_adapter_instantid(path) first.",
            )
        return self._adapter

    def _remove_adapter(self, call: str | None) -> None:
        """Bring back plain text attention; `call` is named if someone generates afterwards."""
        if self._adapter is not None and self._adapter.unet() is _inner(self.unet):
            install(self.unet, self._adapter.text_processors)
        self._adapter, self._adapter_left_by = None, call


class StableDiffusionXLInstantIDPipeline(InstantIDMixin, StableDiffusionXLControlNetPipeline):
    """Text-to-image: `pipe(prompt, image=key_points_picture, image_embeds=embedding)`."""


class StableDiffusionXLInstantIDImg2ImgPipeline(InstantIDMixin, StableDiffusionXLControlNetImg2ImgPipeline):
    """Image-to-image: `pipe(prompt, image=start, control_image=key_points_picture, image_embeds=embedding)`."""


class StableDiffusionXLInstantIDInpaintPipeline(InstantIDMixin, StableDiffusionXLControlNetInpaintPipeline):
    """Inpaint: as image-to-image, with `mask_image` white where the picture is made anew."""


def _inner(unet: torch.nn.Module) -> torch.nn.Module:
    """The UNet itself when it is wrapped by torch.compile."""
    return getattr(unet, "_orig_mod", unet)


def _follow_offload(unet: torch.nn.Module, layers: Layers) -> None:
    """Layers added to a UNet that is already offloaded layer by layer are offloaded the same way."""
    for name, (_, attn) in cross_attention(unet).items():
        hook = getattr(attn.to_k, "_hf_hook", None)
        if getattr(hook, "offload", False):
            accelerate.cpu_offload(layers[name], execution_device=hook.execution_device)


def _arguments(call: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name -> value of the arguments of a call, defaults filled in."""
    bound = inspect.signature(call).bind_partial(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def _number_of_prompts(arguments: dict[str, Any]) -> int:
    prompt, embeds = arguments["prompt"], arguments["prompt_embeds"]
    if isinstance(prompt, list | tuple):
        return len(prompt)
    return 1 if embeds is None else embeds.shape[0]

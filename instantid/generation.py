"""A request becomes pictures: the project's only `generate_image`; notebook, page and command line all call it."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import diffusers
import numpy as np
import torch
from PIL import Image

from instantid.expected_memory import Picture
from instantid.faces import Face, mean_embedding
from instantid.few_steps import FEW_STEPS
from instantid.hardware import Pace, free_memory, is_out_of_memory, synchronize
from instantid.hub import DownloadProgress
from instantid.images import Placement, open_photo, output_size, place, region_mask
from instantid.loading import Models
from instantid.messages import MachineError, machine_error, state_error
from instantid.monitor import MemoryMonitor
from instantid.request import SCHEDULERS, GenerationRequest, GenerationResult, Note, OnProgress, Progress
from instantid.residency import leave_gpu
from instantid.styles import STYLES
from ip_adapter.cuda_graphs import network_state
from ip_adapter.speed import precision_of
from pipeline_stable_diffusion_xl_instantid import draw_kps

logger = logging.getLogger(__name__)

# What diffusers' `encode_prompt` returns, in its order.
EMBEDDINGS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
LONGEST_REASON = 200  # characters of what a library says
WAIT_FOR_TURN = 0.1  # seconds between two looks at `cancelled` while another generation runs


def generate_image(
    models: Models,
    request: GenerationRequest,
    on_progress: OnProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> GenerationResult:
    """Make the pictures that `request` asks for, one after the other.

    Args:
        on_progress: told of each stage and step, on this thread.
        cancelled: asked between steps; True ends the run.

    Where memory is too small the models go one rung down the plan's ladder and the same request, with the same seeds,
    is repeated; the result's notes tell it.

    Raises:
        UserError: a photo, number or choice that cannot be used.
        StateError: `generation.cancelled`.
        MachineError: out of memory on the lowest rung, or the model gave no finite numbers. Both leave working models.
    """
    run = _Run(models, request.checked(), on_progress or (lambda _: None), cancelled or (lambda: False))
    with run.turn():
        if models.pipeline is None:
            raise state_error("generation.released")
        while True:
            try:
                return run.generate()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                logger.debug("out of memory", exc_info=error)
            finally:
                run.clean_up()
            run.step_down()  # outside the handler: the traceback held the picture's tensors


@dataclass
class _Scene:
    """What the photos say: who, and where in the picture."""

    face: Face
    face_picture: Image.Image
    embedding: np.ndarray  # (512,)
    placed: Face  # the face that gives place and pose
    placement: Placement
    key_points: np.ndarray  # (5, 2) on the canvas
    key_points_picture: Image.Image  # output size


class _Run:
    """One generation from beginning to end."""

    def __init__(
        self, models: Models, request: GenerationRequest, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> None:
        self.models = models
        self.request = request
        self.on_progress = on_progress
        self.cancelled = cancelled
        self.width, self.height = request.width or 0, request.height or 0
        self.stepped_down = False
        self._begin()

    def _begin(self) -> None:
        self.start = time.perf_counter()
        self.seconds: dict[str, float] = {"faces": 0.0, "text": 0.0, "denoising": 0.0, "decoding": 0.0}
        self.monitor = MemoryMonitor(write=None)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other generation runs on these models."""
        while not self.models.lock.acquire(timeout=WAIT_FOR_TURN):
            self._stop_if_cancelled()
        try:
            yield
        finally:
            self.models.lock.release()

    def generate(self) -> GenerationResult:
        self._begin()
        with self.monitor:
            self.models.use_few_steps(self.request.few_steps, self._report_download)
            self._report("faces")
            scene = self._read_photos()
            self.seconds["faces"] = time.perf_counter() - self.start
            self.monitor.stage("faces")
            self._report("text")
            self._set_scheduler()
            with self.models.kept_code():
                images = [self._one_picture(scene, i, seed) for i, seed in enumerate(self.request.seeds())]
            self._report("done", self.request.steps * self.request.count)
        self.seconds["total"] = time.perf_counter() - self.start
        return GenerationResult(
            images=images,
            seeds=self.request.seeds(),
            request=self.request,
            width=self.width,
            height=self.height,
            face=scene.face,
            face_picture=scene.face_picture,
            key_points_picture=scene.key_points_picture,
            key_points=scene.key_points,
            seconds=self.seconds,
            peak_vram_gib=self.monitor.peak_vram_gib,
            stage_peaks={
                stage: peak.vram_gib for stage, peak in self.monitor.stages.items() if peak.vram_gib is not None
            },
            notes=self._notes(),
        )

    def step_down(self) -> None:
        """Load the models again in a way that uses less memory. Raises: MachineError if there is none."""
        native = self.models.native_size
        picture = Picture(self.width or native, self.height or native)
        offload = self.models.plan.offload
        try:
            self.models.step_down(picture)
        except MachineError as error:
            size = f"{picture.width} × {picture.height}"
            raise machine_error("generation.out_of_memory", size=size, offload=offload) from error
        self.stepped_down = True

    def clean_up(self) -> None:
        """After success and failure alike: models that moved to the GPU go back, nothing is held there."""
        leave_gpu(self.models.pipeline)
        self.models.pipeline.maybe_free_model_hooks()
        free_memory()

    def _read_photos(self) -> _Scene:
        request, analyser = self.request, self.models.faces
        photo = open_photo(request.face)
        face = analyser.analyse(photo, request.face_index)
        others = [analyser.analyse(open_photo(other)) for other in request.more_faces]
        pose_photo, placed = photo, face
        if request.pose is not None:
            pose_photo = open_photo(request.pose)
            placed = analyser.analyse(pose_photo, request.pose_face_index)
        if not self.width:
            self.width, self.height = output_size(pose_photo.size, self.models.native_size)
        canvas = (self.width, self.height)
        placement = place(pose_photo.size, canvas, placed.box)
        key_points = placement.points(placed.key_points)
        drawn = draw_kps(Image.new("RGB", canvas), key_points)
        return _Scene(face, face.picture(photo), mean_embedding([face, *others]), placed, placement, key_points, drawn)

    def _prompts(self) -> tuple[str, str]:
        """The person's prompt and negative prompt with the style laid over them."""
        return STYLES[self.request.style].apply(self.request.prompt, self.request.negative_prompt)

    def _notes(self) -> tuple[Note, ...]:
        """What the person should know of a run that went well."""
        pipeline = self.models.pipeline
        tokenizer, most = pipeline.tokenizer, pipeline.tokenizer.model_max_length
        notes = []
        if self.stepped_down:
            plan = self.models.plan
            notes.append(Note("note.stepped_down", {"offload": plan.offload, "storage": plan.storage}))
        for switch in (pipeline.compiled_blocks, pipeline.cuda_graphs):
            if switch and switch.failure:
                key = "note.no_compilation" if switch is pipeline.compiled_blocks else "note.no_graphs"
                notes.append(Note(key, {"reason": switch.failure[:LONGEST_REASON]}))
        request = self.request
        wanted = FEW_STEPS.get(request.few_steps)
        if wanted and not wanted.suits(request.steps, request.guidance_scale, request.scheduler):
            notes.append(Note("note.few_steps_unsuited", {"few_steps": request.few_steps, **wanted.settings}))
        for name, text in zip(("prompt", "negative_prompt"), self._prompts()):
            count = len(tokenizer(text).input_ids)
            if count > most:
                notes.append(Note("note.text_cut", {"field": name, "count": count, "most": most}))
        return tuple(notes)

    def _set_scheduler(self) -> None:
        name, settings = SCHEDULERS[self.request.scheduler]
        self.models.pipeline.scheduler = getattr(diffusers, name).from_config(self.models.scheduler_config, **settings)

    def _one_picture(self, scene: _Scene, number: int, seed: int) -> Image.Image:
        self._stop_if_cancelled()
        request = self.request
        mask = None
        if request.region_mask:
            mask = region_mask((self.width, self.height), scene.placement.box(scene.placed.box))
        generator = torch.Generator("cpu").manual_seed(seed)  # the same noise on every machine
        started = time.perf_counter()
        first_step = last_step = started
        pace = Pace()

        def before_first_step(identity_net: torch.nn.Module, inputs: tuple) -> None:
            nonlocal first_step
            watch.remove()
            synchronize()
            first_step = time.perf_counter()
            self.monitor.stage("text")

        def after_step(pipeline: object, step: int, timestep: object, tensors: dict) -> dict:
            nonlocal last_step
            pace.step()
            self._stop_if_cancelled()
            calls = self.models.pipeline.num_timesteps  # Heun's method calls the UNet twice a step
            done = number * request.steps + (step + 1) * request.steps // calls
            self._report("denoising", done)
            if step + 1 == calls:
                synchronize()
                last_step = time.perf_counter()
                self.monitor.stage("denoising")
                self._report("decoding", done)
            return tensors

        watch = self.models.pipeline.controlnet.register_forward_pre_hook(before_first_step)
        with contextlib.ExitStack() as ended, warnings.catch_warnings():
            ended.callback(watch.remove)  # also where no step was reached
            warnings.simplefilter("ignore", FutureWarning)  # diffusers calling methods that it gave up itself
            picture = self.models.pipeline(
                **self._text(),
                image=scene.key_points_picture,
                image_embeds=scene.embedding,
                control_mask=mask,
                ip_adapter_scale=request.adapter_strength,
                controlnet_conditioning_scale=request.identity_strength,
                guidance_scale=request.guidance_scale,
                guidance_end=request.guidance_end,
                num_inference_steps=request.steps,
                width=self.width,
                height=self.height,
                latents=self._noise(generator),
                generator=generator,
                callback_on_step_end=after_step,
                output_type="np",
            ).images[0]
        self.monitor.stage("decoding")
        self.seconds["text"] += first_step - started
        self.seconds["denoising"] += last_step - first_step
        self.seconds["decoding"] += time.perf_counter() - last_step
        if not np.isfinite(picture).all():
            raise machine_error("generation.not_finite", precision=self.models.plan.precision)
        return Image.fromarray((picture * 255).round().astype(np.uint8))

    def _text(self) -> dict[str, torch.Tensor | None]:
        """The embeddings of the prompts, as arguments of the pipeline; those of a prompt that came lately are kept."""
        pipeline = self.models.pipeline
        prompt, negative_prompt = self._prompts()
        guided = self.request.guidance_scale > 1
        encoders = tuple(network_state(encoder) for encoder in (pipeline.text_encoder, pipeline.text_encoder_2))
        with torch.no_grad():
            embeddings = self.models.texts.get(
                (prompt, negative_prompt, guided, encoders),  # a LoRA may have changed them
                lambda: pipeline.encode_prompt(
                    prompt,
                    device=pipeline._execution_device,
                    do_classifier_free_guidance=guided,
                    negative_prompt=negative_prompt,
                ),
            )
        return dict(zip(EMBEDDINGS, embeddings))

    def _noise(self, generator: torch.Generator) -> torch.Tensor:
        """(1, channels, height/8, width/8), drawn in float32: in half precision older PyTorch draws other numbers."""
        pipeline = self.models.pipeline
        sides = (side // pipeline.vae_scale_factor for side in (self.height, self.width))
        noise = torch.randn((1, pipeline.unet.config.in_channels, *sides), generator=generator)
        return noise.to(precision_of(pipeline.unet))

    def _report(self, stage: str, step: int = 0) -> None:
        steps = self.request.steps * self.request.count
        self.on_progress(Progress(stage, step, steps, time.perf_counter() - self.start))

    def _report_download(self, progress: DownloadProgress) -> None:
        self._stop_if_cancelled()
        done, total = (size // 10**6 for size in (progress.done_bytes, progress.total_bytes))
        self.on_progress(Progress("download", done, total, time.perf_counter() - self.start))

    def _stop_if_cancelled(self) -> None:
        if self.cancelled():
            raise state_error("generation.cancelled")

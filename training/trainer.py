"""The training run: batches in, weights changed, everything kept so that a kill costs no more than the last steps.

Base frozen; noise is added to the latents of a picture of a person, and the model is to tell it from the person's
identity (out of another picture), the key points and the caption.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from instantid.messages import machine_error, user_error
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline
from training import checkpoints
from training.data import Batch, Source, example_numbers
from training.draws import draw
from training.identity_model import IdentityModel
from training.journal import append_row, keep_rows
from training.latents import latents_of, moments_of
from training.losses import min_snr_weights, noise_schedule, prediction_loss, target_of
from training.options import TrainingOptions

PRECISIONS = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SCHEDULES = {"constant": "constant_with_warmup", "cosine": "cosine"}  # ours -> diffusers' name


def accelerator_for(options: TrainingOptions) -> Accelerator:
    """The accelerator that `train` expects; its device is where the pipeline has to be."""
    return Accelerator(mixed_precision=options.mixed_precision, gradient_accumulation_steps=options.accumulation)


def train(
    accelerator: Accelerator,
    pipeline: StableDiffusionXLInstantIDPipeline,
    source: Source,
    options: TrainingOptions,
    output: Path,
    *,
    validate: Callable[[int], None] | None = None,
    resume: bool = False,
    write: Callable[[str], None] = lambda line: None,
) -> Progress:
    """Train the identity of `pipeline`. On return the pipeline holds the averaged (EMA) weights.

    A run that was killed and is resumed gives the losses that it would have given; also on another number of GPUs, as
    long as all their batches together are as large.

    Args:
        accelerator: of `accelerator_for`; every process calls this.
        pipeline: of `training_pipeline`, on the accelerator's device.
        source: gives the batches whose example numbers it is told; see `training.data`.
        output: gets `checkpoints/`, `log.jsonl` (one row a step) and `options.json`.
        validate: is called with the step, in every process, while the averaged weights are in place.
        resume: go on from the newest checkpoint in `output`, or begin if there is none.
        write: takes a line for each step, in the first process.

    Returns: how far it came; less than `options.steps` where `options.minutes` were over.

    Raises:
        UserError: `output` holds another run, or a checkpoint that cannot be used.
        MachineError: the loss is not a finite number, bitsandbytes is missing, or the disk is full.
    """
    options = options.checked()
    start = time.monotonic()
    folder, log = output / "checkpoints", output / "log.jsonl"
    newest = checkpoints.latest(folder)
    if newest and not resume:
        raise user_error("training.output_taken", folder=output, checkpoint=newest.name)
    run = TrainingRun(accelerator, pipeline, options)
    if newest:
        run.restore(newest)
    accelerator.wait_for_everyone()  # before files change that others look at
    progress = run.progress
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        keep_rows(log, lambda row: row["step"] <= progress.step)
        (output / "options.json").write_text(json.dumps(asdict(options), indent=2) + "\n", encoding="utf-8")

    stopped = False
    batches = run.numbered_batches(source)
    while progress.step < options.steps and not stopped:
        row = run.step(itertools.islice(batches, options.accumulation))
        stopped = run.is_over(start)
        if accelerator.is_main_process:
            append_row(log, row | {"seconds": round(time.monotonic() - start, 2)})
            write("{step}  loss {loss:.4f}  lr {learning_rate:.2e}".format(**row))
        if stopped or progress.step == options.steps or progress.step % options.checkpoint_every == 0:
            if accelerator.is_main_process:
                checkpoints.save(folder, progress.step, run.state(), options.keep_checkpoints)
            accelerator.wait_for_everyone()
        if validate and options.validate_every and progress.step % options.validate_every == 0:
            with run.averaged():
                validate(progress.step)
            accelerator.wait_for_everyone()
    run.ema.copy_to(run.model.parameters())
    return progress


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0
    examples: int = 0  # seen by all processes together


class TrainingRun:
    """Everything that changes while training, and one step of it."""

    def __init__(
        self, accelerator: Accelerator, pipeline: StableDiffusionXLInstantIDPipeline, options: TrainingOptions
    ) -> None:
        self.accelerator, self.pipeline, self.options = accelerator, pipeline, options
        self.progress = Progress()
        self.noise_schedule = noise_schedule(pipeline.scheduler.config)
        self.model = IdentityModel(pipeline, options.gradient_checkpointing)
        optimizer = _optimizer(self.model, options)
        self.learning_rates = get_scheduler(
            SCHEDULES[options.schedule], optimizer, num_warmup_steps=options.warmup, num_training_steps=options.steps
        )
        self.ema = EMAModel(self.model.parameters(), decay=options.ema_decay, foreach=True)
        self.wrapped, self.optimizer = accelerator.prepare(self.model, optimizer)

    def numbered_batches(self, source: Source) -> Iterator[tuple[list[int], Batch]]:
        """The batches of this process, from where the run stands to its end, each with its example numbers."""
        count = (self.options.steps - self.progress.step) * self.options.accumulation
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        where = (self.progress.examples, count, self.options.batch_size, processes, rank)
        return zip(example_numbers(*where), source(example_numbers(*where)))

    def step(self, batches: Iterable[tuple[list[int], Batch]]) -> dict[str, Any]:
        """One change of the weights from `options.accumulation` batches; returns what the log says of it.

        Raises: MachineError if the loss is not a finite number.
        """
        losses, grad_norm = [], 0.0
        for numbers, batch in batches:
            with self.accelerator.accumulate(self.wrapped):
                loss = self.loss(numbers, batch)
                self.accelerator.backward(loss)
                self.model.end()
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.max_grad_norm)
                    grad_norm = float(norm)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
            self.progress.examples += len(numbers) * self.accelerator.num_processes
        rate = self.learning_rates.get_last_lr()[0]
        self.learning_rates.step()
        self.ema.step(self.model.parameters())
        self.progress.step += 1
        loss = self.accelerator.gather(torch.stack(losses)).mean().item()
        if not math.isfinite(loss):
            raise machine_error("training.not_finite", step=self.progress.step, precision=self.options.mixed_precision)
        row = asdict(self.progress) | {"loss": loss, "learning_rate": rate}
        return row | {"grad_norm": grad_norm if math.isfinite(grad_norm) else None}  # None: fp16 skipped the step

    def loss(self, numbers: list[int], batch: Batch) -> torch.Tensor:
        """The loss of a batch, all that is random in it drawn by the numbers of its examples."""
        device, dtype = self.accelerator.device, PRECISIONS[self.options.mixed_precision]
        vae = self.pipeline.vae
        moments = moments_of(vae, batch.pixels) if batch.moments is None else batch.moments.to(device)
        latent_shape = (moments.shape[1] // 2, *moments.shape[2:])
        timesteps = self.noise_schedule.config.num_train_timesteps
        draws = draw(numbers, latent_shape, timesteps, self.options.drop_rates, self.options.seed)
        latents = latents_of(vae, moments, draws)
        noise, timesteps = draws.noise.to(device), draws.timesteps.to(device)

        captions = ["" if absent else text for absent, text in zip(draws.without_text.tolist(), batch.captions)]
        text, pooled_text = self._encoded(captions)
        size_ids = _whole(batch.key_points) if batch.size_ids is None else batch.size_ids
        prediction = self.wrapped(
            noisy=self.noise_schedule.add_noise(latents, noise, timesteps).to(dtype),
            timesteps=timesteps,
            embeddings=_without(batch.embeddings, draws.without_identity).to(device),
            key_points=_without(batch.key_points, draws.without_control).to(device),
            text=text.to(dtype),
            pooled_text=pooled_text.to(dtype),
            size_ids=size_ids.to(device),
        )
        target = target_of(self.noise_schedule, latents, noise, timesteps)
        gamma = self.options.min_snr_gamma
        return prediction_loss(
            prediction, target, min_snr_weights(self.noise_schedule, timesteps, gamma) if gamma else None
        )

    def is_over(self, start: float) -> bool:
        """Whether `options.minutes` are over by the clock of the first process: all must agree."""
        if not self.options.minutes:
            return False
        elapsed = torch.tensor([time.monotonic() - start], dtype=torch.float32, device=self.accelerator.device)
        return broadcast(elapsed).item() >= 60 * self.options.minutes

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has its averaged weights."""
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        try:
            yield
        finally:
            self.ema.restore(self.model.parameters())

    def state(self) -> dict[str, Any]:
        """Everything to go on from here. Random numbers are a function of the examples' numbers: they have no state."""
        return {
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "learning_rates": self.learning_rates.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
        }

    def restore(self, checkpoint: Path) -> None:
        """Go on from a checkpoint. Raises: UserError if it is unreadable or of another model."""
        state = checkpoints.load(checkpoint)
        try:
            self.model.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.learning_rates.load_state_dict(state["learning_rates"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise user_error("training.other_model", file=checkpoint, detail=str(error).split("\n")[0]) from error
        self.ema.decay = self.options.ema_decay
        self.ema.to(self.accelerator.device)
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])

    @torch.no_grad()
    def _encoded(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Text (b, 77, d) and pooled text (b, p), as the pipeline makes them."""
        text, _, pooled_text, _ = self.pipeline.encode_prompt(
            captions, device=self.accelerator.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return text, pooled_text


def _optimizer(model: IdentityModel, options: TrainingOptions) -> torch.optim.Optimizer:
    adapter = [*model.resampler.parameters(), *model.layers.parameters()]
    groups = [
        {"params": adapter, "lr": options.learning_rate},
        {"params": list(model.identity_net.parameters()), "lr": options.identity_net_learning_rate},
    ]
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=options.weight_decay)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise machine_error("training.no_8bit", reason=error) from error
    return AdamW8bit(groups, weight_decay=options.weight_decay)


def _without(values: torch.Tensor, absent: torch.Tensor) -> torch.Tensor:
    """`values` (b, …) with zeros for the examples that go without."""
    return values.masked_fill(absent.to(values.device).view(-1, *[1] * (values.ndim - 1)), 0)


def _whole(pictures: torch.Tensor) -> torch.Tensor:
    """SDXL's sizes (b, 6) of pictures (b, 3, H, W) that were neither scaled nor cut."""
    height, width = pictures.shape[-2:]
    return torch.tensor([[height, width, 0, 0, height, width]]).repeat(len(pictures), 1)

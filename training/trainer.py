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
from training.graphed import Graphed, HalfPrecision
from training.identity_model import IdentityModel
from training.journal import append_row, keep_rows
from training.latents import latents_of, moments_of
from training.losses import clean_of, face_places, min_snr_weights, noise_schedule, prediction_loss, target_of
from training.options import TrainingOptions

PRECISIONS = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Predicted latents without noise (b, c, h, w), their timesteps (b,), the batch, which examples (b,) were not told who
# it is or where -> a loss beside that of the prediction.
FurtherLoss = Callable[[torch.Tensor, torch.Tensor, Batch, torch.Tensor], torch.Tensor]
SCHEDULES = {"constant": "constant_with_warmup", "cosine": "cosine", "clock": "constant_with_warmup"}  # diffusers' name


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
    further_loss: FurtherLoss | None = None,
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
        output: gets `checkpoints/`, `log.jsonl` (a row every `options.log_every` steps) and `options.json`.
        further_loss: what counts beside the prediction, such as `training.small_bundle.likeness`; has its own row in
            the log.
        validate: is called with the step, in every process, while the averaged weights are in place.
        resume: go on from the newest checkpoint in `output`, or begin if there is none.
        write: takes a line for each row of the log, in the first process.

    Returns: how far it came; less than `options.steps` where `options.minutes` were over.

    Raises:
        UserError: `output` holds another run, or a checkpoint that cannot be used.
        MachineError: the loss is not a finite number, bitsandbytes is missing, or the disk is full.
    """
    options = options.checked()
    folder, log = output / "checkpoints", output / "log.jsonl"
    newest = checkpoints.latest(folder)
    if newest and not resume:
        raise user_error("training.output_taken", folder=output, checkpoint=newest.name)
    run = TrainingRun(accelerator, pipeline, options, further_loss)
    if newest:
        run.restore(newest)
    accelerator.wait_for_everyone()  # before files change that others look at
    progress = run.progress
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        keep_rows(log, lambda row: row["step"] <= progress.step)
        (output / "options.json").write_text(json.dumps(asdict(options), indent=2) + "\n", encoding="utf-8")

    stopped = options.schedule == "clock" and run.is_over()  # by earlier runs
    batches = run.numbered_batches(source)
    while progress.step < options.steps and not stopped:
        run.step(itertools.islice(batches, options.accumulation))
        if progress.step == options.steps or progress.step % options.log_every == 0:
            row = run.row()
            stopped = run.is_over()
            if accelerator.is_main_process:
                append_row(log, row)
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
    seconds: float = 0.0  # of training, those of earlier runs included


class TrainingRun:
    """Everything that changes while training, and one step of it."""

    def __init__(
        self,
        accelerator: Accelerator,
        pipeline: StableDiffusionXLInstantIDPipeline,
        options: TrainingOptions,
        further_loss: FurtherLoss | None = None,
    ) -> None:
        self.accelerator, self.pipeline, self.options = accelerator, pipeline, options
        self.further_loss = further_loss
        self.progress = Progress()
        self.noise_schedule = noise_schedule(pipeline.scheduler.config)
        self.model = IdentityModel(pipeline, options.gradient_checkpointing)
        optimizer = _optimizer(self.model, options)
        self.learning_rates = get_scheduler(
            SCHEDULES[options.schedule], optimizer, num_warmup_steps=options.warmup, num_training_steps=options.steps
        )
        # Since the last row of the log, name by name; on the device, which need not wait.
        self._losses: list[dict[str, torch.Tensor]] = []
        self._grad_norm = torch.zeros(())
        self._rate = 0.0
        self._no_words: tuple[torch.Tensor, torch.Tensor] | None = None
        self._began = self._last = time.monotonic()
        self.ema = EMAModel(self.model.parameters(), decay=options.ema_decay, foreach=True)
        if options.cuda_graphs and accelerator.num_processes > 1:
            raise user_error("training.graphs_alone")
        if options.cuda_graphs:  # Accelerate's own wrapping is autocast
            self.wrapped, self.optimizer = self.model, accelerator.prepare(optimizer)
            half = HalfPrecision(self.model, kept=("resampler.",))
            self._predict = Graphed(half) if accelerator.device.type == "cuda" else half
        else:
            self.wrapped, self.optimizer = accelerator.prepare(self.model, optimizer)
            self._predict = self.wrapped

    def numbered_batches(self, source: Source) -> Iterator[tuple[list[int], Batch]]:
        """The batches of this process, from where the run stands to its end, each with its example numbers."""
        count = (self.options.steps - self.progress.step) * self.options.accumulation
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        where = (self.progress.examples, count, self.options.batch_size, processes, rank)
        return zip(example_numbers(*where), source(example_numbers(*where)))

    def step(self, batches: Iterable[tuple[list[int], Batch]]) -> None:
        """One change of the weights from `options.accumulation` batches."""
        self._set_clock()
        for numbers, batch in batches:
            with self.accelerator.accumulate(self.wrapped):
                losses = self.losses(numbers, batch)
                self.accelerator.backward(sum(losses.values()))
                self.model.end()
                if self.accelerator.sync_gradients:
                    self._grad_norm = self.accelerator.clip_grad_norm_(
                        self.model.parameters(), self.options.max_grad_norm
                    )
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
            self._losses.append({name: loss.detach() for name, loss in losses.items()})
            self.progress.examples += len(numbers) * self.accelerator.num_processes
        self._rate = self.optimizer.param_groups[0]["lr"]
        self.learning_rates.step()
        self.ema.step(self.model.parameters())
        self.progress.step += 1

    def row(self) -> dict[str, Any]:
        """What the log says of the steps since the last row; here the processor waits for the device.

        Raises: MachineError if a loss is not a finite number.
        """
        losses = {
            name: self.accelerator.gather(torch.stack([one[name] for one in self._losses])).mean().item()
            for name in self._losses[0]
        }
        self._losses.clear()
        if not all(map(math.isfinite, losses.values())):
            raise machine_error("training.not_finite", step=self.progress.step, precision=self.options.mixed_precision)
        self._count_seconds()
        row = asdict(self.progress) | {
            "seconds": round(self.progress.seconds, 2),
            **losses,
            "learning_rate": self._rate,
        }
        if self.accelerator.device.type == "cuda":
            row["peak_gib"] = round(torch.cuda.max_memory_allocated(self.accelerator.device) / 2**30, 2)
        grad_norm = float(self._grad_norm)
        return row | {"grad_norm": grad_norm if math.isfinite(grad_norm) else None}  # None: fp16 skipped the step

    def losses(self, numbers: list[int], batch: Batch) -> dict[str, torch.Tensor]:
        """The losses of a batch, all that is random in it drawn by the numbers of its examples."""
        device, dtype = self.accelerator.device, PRECISIONS[self.options.mixed_precision]
        vae = self.pipeline.vae
        moments = moments_of(vae, batch.pixels) if batch.moments is None else batch.moments.to(device)
        latent_shape = (moments.shape[1] // 2, *moments.shape[2:])
        timesteps = self.noise_schedule.config.num_train_timesteps
        draws = draw(numbers, latent_shape, timesteps, self.options.drop_rates, self.options.seed, device)
        latents = latents_of(vae, moments, draws)
        noise, timesteps = draws.noise.to(device), draws.timesteps.to(device)

        text, pooled_text = self._text(batch, draws.without_text)
        size_ids = _whole(batch.key_points) if batch.size_ids is None else batch.size_ids
        noisy = self.noise_schedule.add_noise(latents, noise, timesteps)
        prediction = self._predict(
            noisy.to(dtype),
            timesteps,
            _without(batch.embeddings, draws.without_identity).to(device),
            _without(batch.key_points, draws.without_control).to(device),
            text.to(dtype),
            pooled_text.to(dtype),
            size_ids.to(device, non_blocking=True),
        )
        target = target_of(self.noise_schedule, latents, noise, timesteps)
        gamma = self.options.min_snr_gamma
        weights = min_snr_weights(self.noise_schedule, timesteps, gamma) if gamma else None
        losses = {"loss": prediction_loss(prediction, target, weights, self._places(batch, latents))}
        if self.further_loss:
            clean = clean_of(self.noise_schedule, noisy, prediction, timesteps)
            without = (draws.without_identity | draws.without_control).to(device)
            losses["further_loss"] = self.further_loss(clean, timesteps, batch, without)
        return losses

    def _places(self, batch: Batch, latents: torch.Tensor) -> torch.Tensor | None:
        """How much each place counts, (b, 1, h, w); None: all the same."""
        if self.options.face_weight == 1:
            return None
        if batch.boxes is None:
            raise ValueError("face_weight needs batches with boxes")
        size, factor = latents.shape[-2:], batch.key_points.shape[-1] / latents.shape[-1]
        return face_places(batch.boxes.to(latents.device), size, factor, self.options.face_weight)

    def is_over(self) -> bool:
        """Whether `options.minutes` are over by the clock of the first process: all must agree."""
        if not self.options.minutes:
            return False
        seconds = self.progress.seconds if self.options.schedule == "clock" else time.monotonic() - self._began
        elapsed = torch.tensor([seconds], dtype=torch.float32, device=self.accelerator.device)
        return broadcast(elapsed).item() >= 60 * self.options.minutes

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self._last
        self._last = now

    def _set_clock(self) -> None:
        """Where the learning rates go by the clock, what they are after the warm-up now."""
        if self.options.schedule == "clock":
            gone = min(self.progress.seconds / (60 * self.options.minutes), 1.0)
            for group, rate in zip(self.optimizer.param_groups, self.learning_rates.get_last_lr()):
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * gone))

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
    def _text(self, batch: Batch, without: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Text (b, 77, d) and pooled text (b, p), that of no words for the examples that go without."""
        if batch.text is None:
            return self._encoded(["" if absent else text for absent, text in zip(without.tolist(), batch.captions)])
        if self._no_words is None:
            self._no_words = self._encoded([""])
        return tuple(
            torch.where(without.view(-1, *[1] * (given.ndim - 1)), nothing.to(given), given)
            for given, nothing in zip(batch.text, self._no_words)
        )

    def _encoded(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Captions as the pipeline encodes them."""
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
        fused = next(model.parameters()).device.type == "cuda"
        return torch.optim.AdamW(groups, weight_decay=options.weight_decay, fused=fused)
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

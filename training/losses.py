"""What training makes small: the error of the noise prediction.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models"; Salimans & Ho 2022, v-prediction; Hang et al. 2023,
"Efficient Diffusion Training via Min-SNR Weighting Strategy".
"""

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from instantid.messages import user_error

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def noise_schedule(config: dict) -> DDPMScheduler:
    """The noise that a base model was trained with, by the config of any of its schedulers.

    Raises: UserError if the base predicts something that cannot be trained here.
    """
    schedule = DDPMScheduler.from_config(config)
    if schedule.config.prediction_type not in PREDICTION_TYPES:
        raise user_error(
            "training.prediction_type", received=schedule.config.prediction_type, needed=", ".join(PREDICTION_TYPES)
        )
    return schedule


def target_of(
    schedule: DDPMScheduler, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the UNet should say, (b, c, h, w): noise, velocity, or the latents themselves."""
    if schedule.config.prediction_type == "epsilon":
        return noise
    if schedule.config.prediction_type == "v_prediction":
        return schedule.get_velocity(latents, noise, timesteps)
    return latents


def clean_of(
    schedule: DDPMScheduler, noisy: torch.Tensor, prediction: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """The latents without noise that a prediction speaks of, (b, c, h, w) float32; `target_of` the other way round."""
    noisy, prediction = noisy.float(), prediction.float()
    signal = schedule.alphas_cumprod.to(noisy)[timesteps].view(-1, 1, 1, 1)
    if schedule.config.prediction_type == "epsilon":
        return (noisy - (1 - signal).sqrt() * prediction) / signal.sqrt()
    if schedule.config.prediction_type == "v_prediction":
        return signal.sqrt() * noisy - (1 - signal).sqrt() * prediction
    return prediction


def min_snr_weights(schedule: DDPMScheduler, timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
    """(b,) weights that bound the signal-to-noise ratio by `gamma`, in the terms of what is predicted."""
    snr = compute_snr(schedule, timesteps)
    bounded = snr.clamp(max=gamma)
    if schedule.config.prediction_type == "epsilon":
        return bounded / snr
    if schedule.config.prediction_type == "v_prediction":
        return bounded / (snr + 1)
    return bounded


def prediction_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    weights: torch.Tensor | None = None,
    places: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared error in float32 over the batch; `weights` (b,) of examples, `places` (b, 1, h, w) within them."""
    errors = (prediction.float() - target.float()).square()
    if places is not None:
        errors = errors * places
    errors = errors.flatten(1).mean(dim=1)
    return (errors if weights is None else errors * weights).mean()


def face_places(boxes: torch.Tensor, size: tuple[int, int], factor: float, weight: float) -> torch.Tensor:
    """How much each place of a map counts where faces count more, (b, 1, h, w); 1 on the average of each example.

    Args:
        boxes: (b, 4) x0 y0 x1 y1 of the faces, in pixels.
        size: h, w of the map.
        factor: pixels to a place, each way.
        weight: of a place whose middle is inside the box; of another one 1.
    """
    height, width = size
    across, down = (torch.arange(side, device=boxes.device) * factor + factor / 2 for side in (width, height))
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    inside = ((down > top) & (down < bottom))[:, :, None] & ((across > left) & (across < right))[:, None]
    places = 1 + (weight - 1) * inside[:, None].float()
    return places / places.mean((1, 2, 3), keepdim=True)

"""Every number of the training: how large, how long, how fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from training.face_pack import stages as face_stages
from training.face_pack.stages import Stage as FaceStage
from training.small_bundle.models import Sizes
from training.small_bundle.pool import Supply
from training.small_bundle.stage import Budget


@dataclass(frozen=True)
class Recipe:
    """The whole training."""

    sizes: Sizes
    face_minutes: Mapping[str, float]  # stage -> of each of its networks, side by side; 0: until its steps are made
    face_stages: Mapping[str, FaceStage]
    vae: Budget
    base: Budget
    identity: Budget
    identity_net_learning_rate: float = 5e-4
    faces_seen: int = 32  # of a batch of the identity: predictions that are decoded, for the likeness of their faces
    watched: int = 8  # held-out people whose pictures are looked at
    gallery: int = 64  # held-out people among whom they are to be told


# Minutes are those of one NVIDIA H100.
FULL = Recipe(
    sizes=Sizes(),
    face_minutes={"faces": 7.0, "judges": 3.0},
    face_stages=face_stages.STAGES,
    vae=Budget(
        batch_size=32,
        supply=Supply(first=4096, fresh=1024, every=256, most=32768),
        minutes=4.5,
        learning_rate=6e-4,
    ),
    base=Budget(
        batch_size=256,
        supply=Supply(first=8192, fresh=1024, every=96, most=2**17),
        minutes=7.5,
        learning_rate=8e-4,
        ema_decay=0.9995,
    ),
    identity=Budget(
        batch_size=128,
        supply=Supply(first=8192, fresh=1024, every=128, most=2**16),
        minutes=8.0,
        learning_rate=5e-4,
    ),
)

# The whole way in a minute or two on a processor: to try the machinery, not to look at.
FEW_STEPS = Budget(
    batch_size=4, supply=Supply(first=16, fresh=8, every=2, most=24), steps=4, warmup=1, log_every=2, sheets=1
)
TOY = Recipe(
    sizes=Sizes(
        side=64,
        groups=4,
        latent_channels=4,
        vae_channels=(8, 8, 8, 8),
        unet_channels=(8, 16),
        unet_heads=(1, 2),
        unet_layers=1,
        text_widths=(8, 16),
        text_heads=(1, 2),
        text_layers=(2, 2),
        pooled_width=8,
        time_width=4,
        conditioning_channels=(4, 4, 8, 8),
        resampler_dim=80,
        resampler_depth=1,
    ),
    face_minutes={"faces": 0.0, "judges": 0.0},
    face_stages=face_stages.TOY,
    vae=FEW_STEPS,
    base=replace(FEW_STEPS, batch_size=8),
    identity=FEW_STEPS,
    watched=2,
    gallery=4,
)

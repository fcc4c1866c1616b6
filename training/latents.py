"""Pictures as the VAE sees them: in float32, where SDXL's VAE does not overflow, and kept on disk if wished."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from instantid.images import open_photo
from training.data import Size, cropped, view_of
from training.draws import Draws
from training.face_index import FaceRecord


@torch.no_grad()
def moments_of(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """(b, 3, H, W) in -1 … 1 -> mean and log variance (b, 2c, h, w), float32."""
    weight = vae.encoder.conv_in.weight
    with torch.autocast(weight.device.type, enabled=False):
        return vae.encode(pixels.to(weight)).latent_dist.parameters


def latents_of(vae: AutoencoderKL, moments: torch.Tensor, draws: Draws) -> torch.Tensor:
    """A sample (b, c, h, w) of the distribution, scaled as the UNet knows it."""
    mean, log_variance = moments.float().chunk(2, dim=1)
    sample = mean + (0.5 * log_variance.clamp(-30, 20)).exp() * draws.encoding.to(mean)  # diffusers' bounds
    return sample * vae.config.scaling_factor


class LatentCache:
    """Moments of pictures in files, one folder per size of canvas. One VAE and one index per cache.

    Args:
        folder: of the cache; made when something is kept.
        pictures: folder of the index that records name their files from.
    """

    def __init__(self, folder: Path, pictures: Path, canvas: Size) -> None:
        self.folder, self.pictures, self.canvas = folder / "{}x{}".format(*canvas), pictures, canvas

    def __call__(self, record: FaceRecord) -> torch.Tensor:
        """The moments (2c, h, w) of a picture that was kept, float16."""
        return load_file(self._file(record))["moments"]

    def fill(self, records: Iterable[FaceRecord], vae: AutoencoderKL) -> None:
        """Keep the moments of every picture that is not there yet; files appear whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for record in records:
            file = self._file(record)
            if not file.exists():
                pixels = cropped(open_photo(self.pictures / record.file), view_of(record, self.canvas))
                partial = file.with_suffix(".part")
                save_file({"moments": moments_of(vae, pixels[None])[0].half().cpu()}, partial)
                partial.replace(file)

    def _file(self, record: FaceRecord) -> Path:
        return self.folder / f"{hashlib.sha256(record.file.encode()).hexdigest()[:32]}.safetensors"

"""The loss that looks at predicted faces: what it asks for, and which examples it leaves alone."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from training.data import Batch
from training.face_pack.alignment import aligned
from training.small_bundle.likeness import LATEST, FaceLikeness
from training.small_bundle.models import new_vae
from training.small_bundle.recipe import TOY

SIDE = TOY.sizes.side
POINTS = torch.tensor([[24.0, 26.0], [40.0, 25.0], [33.0, 35.0], [26.0, 44.0], [39.0, 43.0]])


class Colours(nn.Module):
    """An embedding that is easy to tell: the crop's mean colours and their places, 512 of them."""

    def forward(self, crops):
        return nn.functional.adaptive_avg_pool2d(crops, (16, 11)).flatten(1)[:, :512]


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return new_vae(TOY.sizes).requires_grad_(False)


def latents(count=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, TOY.sizes.latent_channels, SIDE // 8, SIDE // 8, generator=generator)


def own_embeddings(vae, clean, points):
    pictures = (vae.decode(clean).sample / 2 + 0.5).clamp(0, 1)
    return Colours()(aligned(pictures, points) * 2 - 1)


def loss_of(vae, clean, embeddings, timesteps=(10, 10, 10), without=(False, False, False), weight=0.5, count=9):
    points = POINTS.expand(len(clean), 5, 2)
    batch = Batch(key_points=torch.zeros(len(clean), 3, SIDE, SIDE), embeddings=embeddings, face_points=points)
    loss = FaceLikeness(vae, Colours(), weight, count)
    return loss(clean, torch.tensor(timesteps), batch, torch.tensor(without))


def test_faces_that_are_as_they_are_to_be_cost_nothing_and_others_do(vae):
    clean = latents()
    own = own_embeddings(vae, clean, POINTS.expand(3, 5, 2))
    assert loss_of(vae, clean, own).item() == pytest.approx(0, abs=1e-6)
    assert loss_of(vae, clean, -own).item() == pytest.approx(0.5 * 2, abs=1e-5)


def test_the_gradient_makes_faces_more_alike(vae):
    clean = latents().requires_grad_()
    wanted = own_embeddings(vae, latents(4)[1:], POINTS.expand(3, 5, 2))
    before = loss_of(vae, clean, wanted)
    (gradient,) = torch.autograd.grad(before, clean)
    after = loss_of(vae, (clean - 0.05 * gradient / gradient.abs().max()).detach(), wanted)
    assert after < before


@pytest.mark.parametrize(
    "changes", [{"without": (False, True, True)}, {"timesteps": (10, LATEST + 1, 999)}, {"count": 1}]
)
def test_examples_without_identity_or_from_mostly_noise_or_beyond_the_count_do_not_count(vae, changes):
    clean = latents()
    own = own_embeddings(vae, clean, POINTS.expand(3, 5, 2))
    wanted = torch.cat([own[:1], -own[1:]])
    assert loss_of(vae, clean, wanted, **changes).item() == pytest.approx(0, abs=1e-6)


def test_a_batch_without_any_that_counts_is_no_error(vae):
    assert loss_of(vae, latents(), torch.ones(3, 512), without=(True, True, True)).item() == 0


def test_a_source_without_face_points_is_told_what_is_missing():
    batch = SimpleNamespace(face_points=None)
    with pytest.raises(ValueError, match="face_points"):
        FaceLikeness(None, Colours(), 1.0, 3)(latents(), torch.zeros(3), batch, torch.zeros(3, dtype=torch.bool))

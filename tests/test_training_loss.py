"""The loss of training: what is predicted, and what counts more or less of it."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from tiny_training import SIDE, example, tiny_options, tiny_pipeline, trained

from ip_adapter.errors import MachineError, UserError
from training.data import joined
from training.losses import clean_of, face_places, min_snr_weights, noise_schedule, prediction_loss, target_of
from training.trainer import TrainingRun, accelerator_for


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_the_target_follows_what_the_base_predicts(prediction_type):
    schedule = noise_schedule(DDPMScheduler(prediction_type=prediction_type).config)
    latents, noise = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    signal = schedule.alphas_cumprod[100] ** 0.5
    expected = {
        "epsilon": noise,
        "v_prediction": signal * noise - (1 - signal**2) ** 0.5 * latents,
        "sample": latents,
    }[prediction_type]
    torch.testing.assert_close(target_of(schedule, latents, noise, torch.tensor([100, 100])), expected)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_true_prediction_speaks_of_the_latents_that_were_noised(prediction_type):
    schedule = noise_schedule(DDPMScheduler(prediction_type=prediction_type).config)
    latents, noise, timesteps = torch.randn(3, 4, 3, 5), torch.randn(3, 4, 3, 5), torch.tensor([0, 300, 800])
    truth = target_of(schedule, latents, noise, timesteps)
    clean = clean_of(schedule, schedule.add_noise(latents, noise, timesteps), truth, timesteps)
    torch.testing.assert_close(clean, latents, atol=1e-4, rtol=1e-4)


def test_min_snr_weighs_only_what_is_nearly_clean_less():
    schedule = noise_schedule(DDPMScheduler().config)
    snr = schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)
    weights = min_snr_weights(schedule, torch.arange(1000), gamma=5.0)
    torch.testing.assert_close(weights, 5 / snr.clamp(min=5))


def test_weights_are_those_of_the_examples():
    prediction, target = torch.zeros(2, 4, 3, 5), torch.ones(2, 4, 3, 5) * torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    assert prediction_loss(prediction, target, torch.tensor([0.5, 0.25])).item() == pytest.approx((0.5 + 1) / 2)


def test_a_base_that_predicts_something_else_is_named():
    with pytest.raises(UserError, match="“flow”"):
        noise_schedule({"_class_name": "DDPMScheduler", "prediction_type": "flow"})


# Faces that count more

BOX = torch.tensor([[16.0, 8.0, 40.0, 24.0]])  # of 8 pixels to a place: columns 2 … 4, rows 1 and 2


def test_places_in_the_box_count_so_much_more_and_all_together_as_before():
    places = face_places(BOX, (6, 8), 8, 4.0)
    assert places.shape == (1, 1, 6, 8)
    assert places.mean().item() == pytest.approx(1)
    inside = places > 1
    assert inside[0, 0].nonzero().tolist() == [[row, column] for row in (1, 2) for column in (2, 3, 4)]
    torch.testing.assert_close(places[inside], 4 * places[~inside].max().expand(6))


def test_a_box_that_leaves_the_picture_or_misses_every_place_is_no_error():
    outside = torch.tensor([[-50.0, -50.0, 500.0, 500.0], [3.0, 3.0, 3.5, 3.5]])
    torch.testing.assert_close(face_places(outside, (4, 4), 8, 4.0), torch.ones(2, 1, 4, 4))


def test_an_error_in_the_face_costs_more_than_one_beside_it():
    places = face_places(BOX, (6, 8), 8, 4.0)
    losses = []
    for row, column in ((1, 3), (5, 7)):
        prediction = torch.zeros(1, 4, 6, 8)
        prediction[..., row, column] = 1
        losses.append(prediction_loss(prediction, torch.zeros_like(prediction), None, places).item())
    assert losses[0] == pytest.approx(4 * losses[1])


def loss_of(random_bundle, batch, face_weight):
    """Of one batch, by a run that would train with this weight."""
    options = tiny_options(face_weight=face_weight)
    run = TrainingRun(accelerator_for(options), tiny_pipeline(random_bundle), options)
    with torch.no_grad():
        return run.losses([0, 1], batch)["loss"].item()


def test_a_run_weighs_faces_as_its_options_say(random_bundle):
    batch = joined([example(0), example(1)])
    boxes = torch.tensor([[8.0, 8.0, 32.0, 40.0], [0.0, 0.0, SIDE, SIDE]])
    plain = loss_of(random_bundle, batch, 1.0)
    assert loss_of(random_bundle, replace(batch, boxes=boxes), 1.0) == plain
    assert loss_of(random_bundle, replace(batch, boxes=boxes), 4.0) != pytest.approx(plain, rel=1e-3)
    everywhere = boxes[1:].expand(2, 4)
    assert loss_of(random_bundle, replace(batch, boxes=everywhere), 4.0) == pytest.approx(plain, rel=1e-5)


def test_a_source_without_boxes_is_told_what_is_missing(random_bundle):
    with pytest.raises(ValueError, match="boxes"):
        loss_of(random_bundle, joined([example(0), example(1)]), 4.0)


# A further loss


def test_a_further_loss_is_told_what_is_predicted_and_changes_what_is_trained(random_bundle, tmp_path):
    told = []

    def further(clean, timesteps, batch, without):
        told.append((clean.shape, timesteps.shape, batch.embeddings.shape, without.tolist()))
        return clean.square().mean()

    plain, pipeline = tiny_pipeline(random_bundle), tiny_pipeline(random_bundle)
    options = tiny_options(steps=2, drop_identity=1.0, drop_text=0.0, drop_both=0.0)
    trained(plain, tmp_path / "plain", options)
    trained(pipeline, tmp_path / "further", options, further_loss=further)
    assert told == [((2, 4, SIDE // 8, SIDE // 8), (2,), (2, 512), [True, True])] * 2
    rows = [json.loads(line) for line in (tmp_path / "further" / "log.jsonl").read_text().splitlines()]
    assert all(row["further_loss"] > 0 for row in rows)
    weights = [one.controlnet.controlnet_mid_block.weight for one in (plain, pipeline)]
    assert not torch.equal(*weights)


def test_a_further_loss_that_is_no_number_ends_the_run(random_bundle, tmp_path):
    def further(clean, *_):
        return clean.mean() * torch.nan

    with pytest.raises(MachineError, match="1"):
        trained(tiny_pipeline(random_bundle), tmp_path, tiny_options(), further_loss=further)

"""The small bundle's training: every stage at toy size, what is written, and what a kill or another order changes."""

import json
import shutil
import threading
from dataclasses import replace

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import load_file

from instantid.bundle import open_bundle
from instantid.evaluation.people import people_in
from instantid.loading import load_bundle
from instantid.small_base import vocabulary_of
from ip_adapter.errors import UserError
from ip_adapter.resampler import Resampler
from training.face_pack.stages import FEW_STEPS
from training.face_world import scenes, vocabulary
from training.face_world.scene import MOST_SCALE, STYLES
from training.identity_model import new_identity
from training.small_bundle import card, models, world
from training.small_bundle.__main__ import STAGES, Run
from training.small_bundle.base import BaseModel, encoded, read_tokenizer, size_ids, token_ids, write_tokenizers
from training.small_bundle.identity import LIKENESS_WEIGHT, other_pictures
from training.small_bundle.pool import Pool, Supply
from training.small_bundle.recipe import FULL, TOY
from training.small_bundle.vae import as_floats, normalise

CPU = torch.device("cpu")


# The detector learns nothing in two steps; everything else of the toy stays.
QUICK = replace(TOY, face_stages={name: replace(stage, course=FEW_STEPS) for name, stage in TOY.face_stages.items()})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A toy that went all the way."""
    run = Run(tmp_path_factory.mktemp("run"), QUICK, CPU)
    for stage in STAGES:
        run.stage(stage)
    return run


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizers(folder)
    return read_tokenizer(folder)


def rows(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


# What comes out


def test_the_bundle_draws_and_its_picture_changes_with_the_face(run):
    models = load_bundle(open_bundle(run.bundle), write=lambda line: None)
    pictures = [
        models.pipeline(
            "a photo of a person",
            image=Image.new("RGB", (64, 64)),
            image_embeds=torch.full((512,), value),
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images
        for value in (1.0, -1.0)
    ]
    assert pictures[0].shape == (1, 3, 64, 64)
    assert torch.isfinite(pictures[0]).all()
    assert not torch.equal(*pictures)


def test_the_base_is_one_that_diffusers_reads_alone(run):
    pipeline = StableDiffusionXLPipeline.from_pretrained(run.bundle / "base", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a person", num_inference_steps=2, output_type="np").images.shape == (1, 64, 64, 3)


def test_everything_is_stored_in_half_precision(run):
    models = load_bundle(open_bundle(run.bundle), write=lambda line: None)
    assert models.pipeline.unet.config.in_channels == TOY.sizes.latent_channels
    total = sum(file.bytes for file in card.files_of(run.bundle) if file.name.endswith(".safetensors"))
    trained = BaseModel(TOY.sizes), models.pipeline.vae, models.pipeline.controlnet, models.pipeline.image_proj_model
    weights = sum(weight.numel() for part in trained for weight in part.parameters())
    assert total < 2.3 * weights + 150_000  # the rest is headers and identity attention


def test_the_card_says_what_the_bundle_is_and_the_examples_are_of_held_out_people(run):
    assert "drawn" in (run.bundle / "README.md").read_text()
    assert open_bundle(run.bundle).described("es") == card.DESCRIPTION["es"]
    portraits = open_bundle(run.bundle).examples()
    assert portraits == [run.bundle / "examples" / f"person-{person + 1}" / "1.png" for person in range(card.EXAMPLES)]
    assert Image.open(portraits[0]).size == (192, 192)


def test_the_logs_of_all_networks_go_with_the_bundle_and_long_ones_are_thinned(run, tmp_path):
    names = {file.stem for file in (run.bundle / "logs").glob("*.jsonl")}
    assert names == {"vae", "base", "identity", "detector", "recogniser", "scorer", "traits"}
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "log.jsonl").write_text("".join(f"{step}\n" for step in range(1, 251)))
    (tmp_path / "bundle").mkdir()
    card.write_logs(tmp_path, tmp_path / "bundle")
    steps = (tmp_path / "bundle" / "logs" / "base.jsonl").read_text().split()
    assert steps == [str(step) for step in range(3, 251, 3)]


def test_the_examples_can_be_evaluated_with_a_picture_to_compare_each_portrait_with(run):
    people = people_in(run.bundle / "examples")
    assert [person.references for person in people] == [(file,) for file in open_bundle(run.bundle).examples()]
    assert all(person.others == (person.references[0].with_name("2.png"),) for person in people)


def test_its_prompts_are_made_of_words_that_it_knows(run):
    assert open_bundle(run.bundle).prompts() == list(card.PROMPTS)
    words = {word for prompt in card.PROMPTS for word in prompt.replace(",", "").split()}
    assert words <= set(vocabulary())


def test_figures_stand_on_the_card(run, tmp_path):
    card.write_card(tmp_path, 4, 16, figures="## Figures\n\n99 of 100")
    assert "\n## Figures\n\n99 of 100\n\n## Licence" in (tmp_path / "README.md").read_text()


def test_a_bundle_that_is_too_large_is_named(tmp_path, monkeypatch):
    (tmp_path / "large.bin").write_bytes(bytes(200))
    monkeypatch.setattr(card, "MOST_BYTES_OF_A_FILE", 100)
    with pytest.raises(UserError, match=r"large\.bin.*200 bytes.*100 bytes"):
        card.check_sizes(tmp_path)


def test_each_stage_leaves_a_log_and_sheets_of_pictures(run):
    for stage in ("vae", "base", "identity"):
        assert rows(run.output / stage / "log.jsonl")[-1]["step"] == 4
        assert list((run.output / stage / "sheets").glob("*.png"))
    assert set(rows(run.output / "identity" / "likeness.jsonl")[-1]) == {"step", "likeness", "told"}
    assert 0 < rows(run.output / "identity" / "log.jsonl")[-1]["further_loss"] < 2 * LIKENESS_WEIGHT


# The sizes of what is shipped


def test_the_networks_keep_to_their_share_of_the_size():
    sizes = FULL.sizes
    with torch.device("meta"):
        unet, vae, encoders = models.new_unet(sizes), models.new_vae(sizes), models.new_text_encoders(sizes)
        options = dict(models.identity_sizes(sizes))
        net = ControlNetModel.from_unet(
            unet, conditioning_embedding_out_channels=options.pop("conditioning_channels"), load_weights_from_unet=False
        )
        resampler = Resampler(**options, output_dim=unet.config.cross_attention_dim)
    attention = [layer for name, layer in unet.named_modules() if name.endswith("attn2")]
    adapter = count(resampler) + sum(2 * layer.to_k.weight.numel() for layer in attention)
    megabytes = [2 * count(part) / 1e6 for part in (unet, vae, net)] + [2 * adapter / 1e6]
    assert all(size < most for size, most in zip(megabytes, (14, 5.8, 6.5, 6.5)))
    assert sum(2 * count(encoder) / 1e6 for encoder in encoders) < 3


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def test_the_resampler_can_be_read_with_20_heads_too():
    assert FULL.sizes.resampler_dim % 16 == FULL.sizes.resampler_dim % 20 == 0


def test_a_new_identity_net_has_the_eye_that_was_asked_for():
    net, resampler, _ = new_identity(models.new_unet(TOY.sizes), **models.identity_sizes(TOY.sizes))
    assert tuple(net.config.conditioning_embedding_out_channels) == TOY.sizes.conditioning_channels
    assert resampler.heads == 16


# Words


def test_each_word_of_the_captions_is_one_token(tokenizer):
    for word in vocabulary():
        assert len(tokenizer(word).input_ids) == 3, word


def test_words_inside_words_are_whole_too():
    known, merges = vocabulary_of(["arm", "warm", "warmer", "art", "harm"])
    assert {"arm</w>", "warm</w>", "warmer</w>", "art</w>", "harm</w>"} <= set(known)
    assert len(merges) == len(set(merges))


def test_training_reads_captions_as_the_pipeline_does(run):
    models = load_bundle(open_bundle(run.bundle), write=lambda line: None)
    texts = ["an ink drawing of a person, smiling", ""]
    text, _, pooled, _ = models.pipeline.encode_prompt(texts, device=CPU, do_classifier_free_guidance=False)
    with torch.no_grad():
        ours = encoded(
            models.pipeline.text_encoder,
            models.pipeline.text_encoder_2,
            token_ids(read_tokenizer(run.bundle / "base"), texts),
        )
    torch.testing.assert_close(ours, (text, pooled))


def test_every_prompt_fits_and_some_speak_as_the_app_does(tokenizer):
    texts = world.prompts(scenes(range(400)), 3)
    assert max(len(tokenizer(text).input_ids) for text in texts) <= 77
    assert any("85mm lens" in text for text in texts)
    assert any(text.split()[-1] in world.STRANGE_WORDS for text in texts)
    assert world.prompts(scenes(range(400)), 3) == texts


def test_the_apps_words_are_used_for_the_style_they_name():
    shown = scenes(range(400))
    for text, style in zip(world.prompts(shown, 3), shown.style.tolist()):
        assert ("85mm lens" in text) <= (STYLES[style] == "photo")


# Examples


def test_a_portrait_is_a_near_photograph_in_natural_hair_and_the_others_stay():
    shown = scenes(range(40))
    first = torch.arange(40) % 4 == 0
    changed = world.as_portraits(shown, first)
    assert changed.style[first].unique().tolist() == [STYLES.index("photo")]
    assert changed.hair_dye[first].max() == 0
    assert changed.scale[first].min() >= world.PORTRAIT_SCALE - 1e-6
    for name, values in vars(shown).items():
        assert torch.equal(getattr(changed, name)[~first], values[~first]), name


def test_no_face_of_the_bundle_is_small_and_each_is_whole():
    changed = world.nearer(scenes(range(400)))
    assert changed.scale.min() == pytest.approx(world.LEAST_FACE, abs=0.01)
    assert changed.scale.max() == pytest.approx(MOST_SCALE, abs=0.02)
    assert ((changed.centre - 0.5).abs() + changed.scale[:, None] / 2).max() <= 0.5
    assert changed.centre.std(0).min() > 0.02


def test_pictures_of_one_person_stand_together():
    drawing = world.drawn(torch.arange(8), 64, 1, CPU)
    assert drawing.rendering.picture.shape == (8, 3, 64, 64)
    again = world.drawn(torch.tensor([5]), 64, 1, CPU)
    torch.testing.assert_close(again.rendering.picture[0], drawing.rendering.picture[5])


def test_the_embedding_is_always_of_another_picture_of_the_same_person():
    numbers = torch.arange(4000) % 400
    others = other_pictures(numbers, torch.arange(4000))
    assert torch.equal(others // 4, numbers // 4)
    assert (others != numbers).all()
    of_portraits = (others % 4 == 0).float().mean().item()
    assert of_portraits == pytest.approx(0.75 * (0.6 + 0.4 / 3), abs=0.03)


def test_the_pool_at_a_step_is_the_same_however_it_was_reached():
    supply = Supply(first=8, fresh=4, every=2, most=16)

    def make(numbers):
        return {"square": numbers**2}

    straight, late = Pool(make, supply, 5), Pool(make, supply, 5)
    for step in range(40):
        examples, numbers = straight.pick(step, 32)
        assert torch.equal(examples["square"], numbers**2)
        assert set(numbers.tolist()) <= set(supply.at(step))
    assert torch.equal(late.pick(39, 32)[0]["square"], examples["square"])


def test_examples_that_are_made_ahead_are_the_same_and_none_before_the_second_pick():
    supply, asked = Supply(first=8, fresh=4, every=2, most=16), []

    def make(numbers):
        asked.append((numbers[0].item(), threading.current_thread() is threading.main_thread()))
        return {"square": numbers**2}

    plain, ahead = Pool(make, supply, 5), Pool(make, supply, 5, ahead=True)
    ahead.pick(0, 4)
    assert asked == [(0, True), (4, True)]
    for step in range(1, 40):
        examples, numbers = ahead.pick(step, 32)
        assert torch.equal(examples["square"], numbers**2)
        assert torch.equal(numbers, plain.pick(step, 32)[1])
    assert (8, False) in asked
    assert (8, True) in asked  # of the plain one


def test_a_failure_while_making_ahead_is_not_lost():
    def make(numbers):
        if numbers[0] >= 8:
            raise RuntimeError("no more memory")
        return {"square": numbers**2}

    pool = Pool(make, Supply(first=8, fresh=4, every=2, most=16), 5, ahead=True)
    pool.pick(0, 4)
    pool.pick(1, 4)
    with pytest.raises(RuntimeError, match="no more memory"):
        pool.pick(2, 4)


def test_sizes_are_mostly_those_of_a_whole_picture():
    sizes = size_ids(128, torch.rand(2000, 7, generator=torch.Generator().manual_seed(0)))
    whole = (sizes == torch.tensor([128.0, 128, 0, 0, 128, 128])).all(1)
    assert whole.float().mean().item() == pytest.approx(0.7, abs=0.04)
    assert (sizes % 8 == 0).all()
    assert sizes.min() == 0
    assert sizes.max() == 256


# Stages


def test_a_stage_that_was_stopped_goes_on_as_if_it_had_not(run, tmp_path):
    """The same rows in the log, from one run of four steps and from one that was stopped after two."""
    halves = Run(tmp_path, TOY, CPU)
    for steps in (2, 4):
        budget = replace(TOY.vae, steps=steps, learning_rate=TOY.vae.learning_rate)
        Run(tmp_path, replace(TOY, vae=flat(budget)), CPU).stage("vae")
    whole = Run(tmp_path / "whole", replace(TOY, vae=flat(TOY.vae)), CPU)
    whole.stage("vae")
    assert losses(halves.output / "vae") == losses(whole.output / "vae")


def flat(budget):
    """A budget whose learning rate does not depend on how long it is."""

    class Flat(type(budget)):
        def rate(self, step, gone):
            return self.learning_rate

    return Flat(**vars(budget))


def losses(folder):
    return [row["loss"] for row in rows(folder / "log.jsonl")]


def test_a_stage_that_is_over_is_left_alone(run):
    before = (run.output / "vae" / "log.jsonl").read_text()
    run.stage("vae")
    assert (run.output / "vae" / "log.jsonl").read_text() == before


def test_a_stage_that_was_killed_before_it_wrote_its_result_writes_it(run, tmp_path):
    shutil.copytree(run.output / "vae", tmp_path / "vae")
    written = tmp_path / "vae" / "model" / "diffusion_pytorch_model.safetensors"
    before = load_file(written)
    written.unlink()
    Run(tmp_path, TOY, CPU).stage("vae")
    torch.testing.assert_close(load_file(written), before)


def test_a_run_goes_on_elsewhere_from_its_results_alone(run, tmp_path):
    unneeded = shutil.ignore_patterns("checkpoints", "ip-adapter.safetensors")
    moved = Run(shutil.copytree(run.output, tmp_path / "run", ignore=unneeded), QUICK, CPU)
    before = (moved.output / "base" / "log.jsonl").read_text()
    for stage in ("faces", "vae", "base", "identity"):
        moved.stage(stage)
    assert (moved.output / "base" / "log.jsonl").read_text() == before
    ours, theirs = (load_file(where.bundle / "ip-adapter.safetensors") for where in (moved, run))
    torch.testing.assert_close(ours, theirs)


def test_a_stage_that_comes_too_early_says_which_one_is_first(tmp_path):
    with pytest.raises(UserError, match="--stage vae"):
        Run(tmp_path, TOY, CPU).stage("base")


def test_a_budget_ends_with_its_minutes_or_its_steps():
    budget = replace(FULL.base, minutes=2.0, steps=100)
    assert budget.gone(50, 0.0) == 0.5
    assert budget.gone(0, 30.0) == 0.25
    assert budget.gone(10, 500.0) == 1.0
    assert budget.rate(10**6, 1.0) == pytest.approx(0.0)


# The autoencoder


def test_latents_are_brought_to_mean_0_and_deviation_1_and_pictures_stay():
    torch.manual_seed(0)
    vae = models.new_vae(TOY.sizes)
    pictures = as_floats(torch.randint(256, (32, 3, 64, 64), dtype=torch.uint8))
    with torch.no_grad():
        before = vae(pictures, sample_posterior=False).sample
        spread = vae.encode(pictures).latent_dist
        normalise(vae, pictures)
        after = vae(pictures, sample_posterior=False).sample
        latents = vae.encode(pictures).latent_dist
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    assert latents.mean.mean((0, 2, 3)).abs().max() < 1e-3
    assert (latents.mean.std((0, 2, 3)) - 1).abs().max() < 1e-3
    torch.testing.assert_close(
        latents.std / spread.std, 1 / spread.mean.std((0, 2, 3)).view(1, -1, 1, 1).expand_as(spread.std)
    )

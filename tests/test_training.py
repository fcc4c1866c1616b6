"""The training run: what it changes, what it leaves, and that neither a kill nor more processes change its numbers."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from face_photos import person
from PIL import Image
from safetensors.torch import load_file
from tiny_training import SIDE, SIZES, example, losses_in, source, tiny_options, tiny_pipeline, trained

from instantid.bundle import open_bundle, open_untrained_bundle
from instantid.faces import FaceAnalyser
from instantid.loading import load_bundle
from ip_adapter.errors import MachineError, UserError
from ip_adapter.layers import cross_attention
from training import checkpoints
from training.data import joined
from training.draws import DropRates, draw
from training.identity_model import IdentityModel, training_pipeline, write_bundle
from training.trainer import TrainingRun, accelerator_for
from training.validation import Case, Validation

TESTS = Path(__file__).parent
EVERYTHING_DROPPED = {"drop_identity": 0.0, "drop_text": 0.0, "drop_both": 1.0, "drop_control": 1.0}
NOTHING_DROPPED = dict.fromkeys(EVERYTHING_DROPPED, 0.0)


@pytest.fixture
def pipeline(random_bundle):
    return tiny_pipeline(random_bundle)


@pytest.fixture(scope="module")
def whole_run(random_bundle, tmp_path_factory):
    """The losses and the weights of a run of four steps with nothing in its way."""
    pipeline = tiny_pipeline(random_bundle)
    losses = trained(pipeline, tmp_path_factory.mktemp("whole"), tiny_options())
    return losses, copy_of(IdentityModel(pipeline))


def copy_of(module):
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def changed(module, before):
    return {name for name, weight in module.state_dict().items() if not torch.equal(weight, before[name])}


def text_base(pipeline):
    return torch.nn.ModuleList([pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2])


# What changes


def test_the_loss_falls_on_a_batch_that_is_seen_again_and_again(pipeline):
    run = TrainingRun(accelerator_for(tiny_options()), pipeline, tiny_options(**NOTHING_DROPPED))
    losses = []
    for _ in range(16):
        run.step([([0, 1], joined([example(0), example(1)]))])
        losses.append(run.row()["loss"])
    assert losses[-1] < 0.9 * losses[0]
    assert losses[-1] < losses[8] < losses[0]


def test_the_base_stays_as_it_was(pipeline, tmp_path):
    base, unet = copy_of(text_base(pipeline)), copy_of(pipeline.unet)
    trained(pipeline, tmp_path, tiny_options(steps=2))
    assert changed(text_base(pipeline), base) == set()
    assert all("processor" in name for name in changed(pipeline.unet, unet))


def test_every_weight_of_the_trained_parts_changes(pipeline, tmp_path):
    model = IdentityModel(pipeline)
    before = copy_of(model)
    trained(pipeline, tmp_path, tiny_options(steps=3))
    assert changed(model, before) == set(before)


def test_a_learning_rate_of_zero_leaves_identity_net_alone(pipeline, tmp_path):
    before = copy_of(pipeline.controlnet)
    trained(pipeline, tmp_path, tiny_options(steps=1, identity_net_learning_rate=0.0))
    assert changed(pipeline.controlnet, before) == set()


def test_a_new_identity_net_says_nothing_and_new_identity_attention_reads_as_text_attention_does(pipeline):
    assert pipeline.controlnet.controlnet_mid_block.weight.abs().max() == 0
    for _, attn in cross_attention(pipeline.unet).values():
        assert torch.equal(attn.processor.to_k_ip.weight, attn.to_k.weight)
        assert torch.equal(attn.processor.to_v_ip.weight, attn.to_v.weight)


# The same modules as in generation


def test_training_predicts_what_the_pipeline_predicts(random_bundle):
    bundle = open_bundle(random_bundle)
    pipeline = tiny_pipeline(random_bundle, start=bundle)
    model = IdentityModel(pipeline)
    seen = {}

    def look(net, args, kwargs, output):
        seen["inputs"], seen["output"] = (args, kwargs), output[0]

    watch = pipeline.unet.register_forward_hook(look, with_kwargs=True)
    embedding, key_points = example(5).embeddings, example(5).key_points
    pipeline("snow", image=key_points, image_embeds=embedding, num_inference_steps=1, guidance_scale=1.0)
    watch.remove()
    (noisy, timestep), kwargs = seen["inputs"]
    with torch.no_grad():
        prediction = model(
            noisy=noisy,
            timesteps=timestep[None],
            embeddings=embedding,
            key_points=key_points,
            text=kwargs["encoder_hidden_states"],
            pooled_text=kwargs["added_cond_kwargs"]["text_embeds"],
            size_ids=kwargs["added_cond_kwargs"]["time_ids"],
        )
    torch.testing.assert_close(prediction, seen["output"], rtol=1e-5, atol=1e-5)


def test_a_bundle_that_is_trained_further_begins_with_its_own_weights(random_bundle):
    pipeline, models = (
        tiny_pipeline(random_bundle, start=open_bundle(random_bundle)),
        load_bundle_quietly(random_bundle),
    )
    for trained_part, part in (
        (pipeline.controlnet, models.pipeline.controlnet),
        (pipeline.image_proj_model, models.pipeline.image_proj_model),
        (pipeline.unet, models.pipeline.unet),
    ):
        assert changed(trained_part, part.state_dict()) == set()
    assert all(weight.requires_grad for weight in pipeline.controlnet.parameters())


def load_bundle_quietly(folder, base=None):
    return load_bundle(open_bundle(folder, base), write=lambda line: None)


def test_gradient_checkpointing_changes_no_loss(pipeline, tmp_path, whole_run):
    assert trained(pipeline, tmp_path, tiny_options(gradient_checkpointing=True)) == pytest.approx(
        whole_run[0], rel=1e-5
    )


@pytest.fixture
def half_precision():
    """Accelerate keeps one precision per process: it is forgotten before and after."""
    AcceleratorState._reset_state()
    yield tiny_options(steps=3, mixed_precision="bf16")
    AcceleratorState._reset_state()


def test_in_half_precision_the_trained_weights_stay_in_full(half_precision, random_bundle, tmp_path, whole_run):
    bundle, device = open_untrained_bundle(random_bundle), torch.device("cpu")
    pipeline = training_pipeline(bundle, device, torch.bfloat16, **SIZES)
    losses = trained(pipeline, tmp_path, half_precision)
    assert losses == pytest.approx(whole_run[0][:3], rel=0.02)
    assert losses != whole_run[0][:3]
    assert {weight.dtype for weight in IdentityModel(pipeline).parameters()} == {torch.float32}
    assert pipeline.vae.dtype == torch.float32


def test_with_copies_in_half_precision_it_learns_as_with_autocast_and_can_be_resumed(
    half_precision, random_bundle, tmp_path, whole_run
):
    def run(output, **changes):
        options = replace(half_precision, cuda_graphs=True, **changes)
        bundle = open_untrained_bundle(random_bundle)
        pipeline = training_pipeline(bundle, torch.device("cpu"), torch.bfloat16, **SIZES)
        return trained(pipeline, output, options, resume=True), copy_of(IdentityModel(pipeline))

    losses, weights = run(tmp_path / "whole")
    assert losses == pytest.approx(whole_run[0][:3], rel=0.02)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    run(tmp_path / "parts", steps=2)
    assert run(tmp_path / "parts")[0] == losses


# Conditions that are dropped


def random_loss(pipeline, options, **changes):
    run = TrainingRun(accelerator_for(options), pipeline, options)
    with torch.no_grad():
        return run.losses([3], replace(example(3), **changes))["loss"].item()


@pytest.mark.parametrize(
    "change",
    [
        {"embeddings": 30 * torch.ones(1, 512)},
        {"captions": ["watercolour"]},
        {"key_points": torch.ones(1, 3, SIDE, SIDE)},
    ],
    ids=["identity", "text", "control"],
)
def test_a_condition_matters_until_it_is_dropped(random_bundle, change):
    pipeline = tiny_pipeline(random_bundle, start=open_bundle(random_bundle))
    kept, dropped = tiny_options(**NOTHING_DROPPED), tiny_options(**EVERYTHING_DROPPED)
    assert random_loss(pipeline, kept, **change) != random_loss(pipeline, kept)
    assert random_loss(pipeline, dropped, **change) == random_loss(pipeline, dropped)


def test_a_dropped_identity_is_zeros_through_the_resampler(random_bundle):
    pipeline = tiny_pipeline(random_bundle, start=open_bundle(random_bundle))
    dropped, kept = tiny_options(**NOTHING_DROPPED | {"drop_identity": 1.0}), tiny_options(**NOTHING_DROPPED)
    assert random_loss(pipeline, dropped) == random_loss(pipeline, kept, embeddings=torch.zeros(1, 512))


def test_conditions_are_dropped_as_often_as_asked():
    rates = DropRates(identity=0.1, text=0.2, both=0.05, control=0.3)
    draws = draw(range(4000), (1, 1, 1), 1000, rates, seed=0)
    identity, text = draws.without_identity, draws.without_text
    shares = [t.float().mean().item() for t in (identity & ~text, text & ~identity, identity & text)]
    assert shares == pytest.approx([0.1, 0.2, 0.05], abs=0.02)
    assert draws.without_control.float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_an_example_is_drawn_alike_in_any_company():
    together, alone = (draw(numbers, (4, 3, 5), 1000, DropRates(), seed=7) for numbers in ([41, 42, 43], [42]))
    for name, values in vars(alone).items():
        assert torch.equal(getattr(together, name)[1:2], values), name


def test_another_example_or_seed_is_drawn_otherwise():
    noises = [draw([n], (4, 3, 5), 1000, DropRates(), seed=s).noise for n, s in ((42, 7), (43, 7), (42, 8))]
    assert not torch.equal(noises[0], noises[1])
    assert not torch.equal(noises[0], noises[2])


# Stopped and resumed, one process or two


def killed_after(steps):
    def source_that_ends(numbers):
        for number, batch in enumerate(source(numbers)):
            if number == steps:
                raise KeyboardInterrupt
            yield batch

    return source_that_ends


@pytest.fixture(scope="module")
def resumed_run(random_bundle, tmp_path_factory):
    """The same run killed in its fourth step, one after a checkpoint; then resumed by models that began otherwise."""
    output = tmp_path_factory.mktemp("resumed")
    options = tiny_options(checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_pipeline(random_bundle), output, options, killed_after(3))
    assert len(losses_in(output)) == 3
    pipeline = tiny_pipeline(random_bundle, seed=9)
    return trained(pipeline, output, options, resume=True), copy_of(IdentityModel(pipeline))


def test_a_run_that_was_killed_and_resumed_gives_the_same_losses(whole_run, resumed_run):
    assert resumed_run[0] == whole_run[0]


def test_a_run_that_was_killed_and_resumed_ends_with_the_same_weights(whole_run, resumed_run):
    assert whole_run[1].keys() == resumed_run[1].keys()
    assert all(torch.equal(weight, resumed_run[1][name]) for name, weight in whole_run[1].items())


def test_batches_that_are_gathered_count_as_one(random_bundle, tmp_path, whole_run):
    options = tiny_options(batch_size=1, accumulation=2)
    assert trained(tiny_pipeline(random_bundle), tmp_path, options) == pytest.approx(whole_run[0], rel=1e-5)


def test_two_processes_give_the_losses_of_one_with_twice_the_batch(random_bundle, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, TESTS / "tiny_training.py", random_bundle, tmp_path / "two", port]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as two:
        one = trained(tiny_pipeline(random_bundle), tmp_path / "one", tiny_options(steps=3, batch_size=4))
        said = two.communicate(timeout=120)[1]
    assert two.returncode == 0, said
    assert losses_in(tmp_path / "two") == pytest.approx(one, rel=1e-5)


def test_the_time_limit_ends_a_run_with_a_checkpoint(pipeline, tmp_path):
    assert len(trained(pipeline, tmp_path, tiny_options(minutes=1e-9))) == 1
    assert checkpoints.latest(tmp_path / "checkpoints").name == "step-00000001.pt"


def test_the_pipeline_ends_with_the_averaged_weights(pipeline, tmp_path):
    trained(pipeline, tmp_path, tiny_options())
    state = checkpoints.load(checkpoints.latest(tmp_path / "checkpoints"))
    for parameter, averaged in zip(IdentityModel(pipeline).parameters(), state["ema"]["shadow_params"]):
        assert torch.equal(parameter, averaged)
    assert changed(IdentityModel(pipeline), state["model"])


def test_a_run_is_not_written_over(random_bundle, tmp_path):
    trained(tiny_pipeline(random_bundle), tmp_path, tiny_options(steps=1))
    with pytest.raises(UserError, match=r"step-00000001\.pt.*--resume"):
        trained(tiny_pipeline(random_bundle), tmp_path, tiny_options(steps=1))


def test_a_checkpoint_of_another_model_is_named(random_bundle, tmp_path):
    trained(tiny_pipeline(random_bundle), tmp_path, tiny_options(steps=1))
    with pytest.raises(UserError, match=r"not of this model.*--heads"):
        trained(tiny_pipeline(random_bundle, depth=2), tmp_path, tiny_options(), resume=True)


def test_a_loss_that_is_no_number_ends_the_run(pipeline, tmp_path):
    def broken(numbers):
        return (replace(batch, pixels=batch.pixels * torch.nan) for batch in source(numbers))

    with pytest.raises(MachineError, match="At step 1 the loss is not a finite number"):
        trained(pipeline, tmp_path, tiny_options(), broken)


# Checkpoints


def test_only_the_newest_checkpoints_are_kept_and_nothing_half_written(tmp_path):
    (tmp_path / "step-00000001.part").write_bytes(b"torn")
    for step in (1, 2, 10):
        checkpoints.save(tmp_path, step, {"step": step}, keep=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["step-00000002.pt", "step-00000010.pt"]


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 1, {"step": 1}, keep=1)

    def full(state, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(MachineError, match="No space left"):
        checkpoints.save(tmp_path, 2, {"step": 2}, keep=1)
    assert [file.name for file in tmp_path.iterdir()] == ["step-00000001.pt"]
    assert checkpoints.load(checkpoints.latest(tmp_path)) == {"step": 1}


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path):
    checkpoints.checkpoint_file(tmp_path, 3).write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"step-00000003\.pt"):
        checkpoints.load(checkpoints.latest(tmp_path))


# Options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "“steps” is 0"),
        ({"drop_text": 1.5}, "“drop_text” is 1.5"),
        ({"schedule": "linear"}, "constant, cosine"),
        ({"drop_identity": 0.6, "drop_text": 0.5}, "add up to"),
    ],
)
def test_an_option_that_cannot_be_is_named(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_options(**changes).checked()


def test_8_bit_adam_without_its_library_says_what_to_do(pipeline, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MachineError, match="--optimizer adamw"):
        TrainingRun(accelerator_for(tiny_options()), pipeline, tiny_options(optimizer="adamw8bit"))


# Validation and the result


def test_validation_makes_the_pictures_and_changes_no_loss(pipeline, random_bundle, tmp_path, whole_run):
    pack = open_untrained_bundle(random_bundle).face_pack
    options = tiny_options(validate_every=2)
    points = np.array([[24.0, 24], [40, 24], [32, 32], [26, 42], [38, 42]])
    cases = [Case(name, example(n).embeddings[0].numpy(), points, "snow") for n, name in enumerate(["ana", "bo"])]
    accelerator = accelerator_for(options)
    validation = Validation(accelerator, pipeline, FaceAnalyser(pack), cases, (SIDE, SIDE), tmp_path, steps=2)
    assert trained(pipeline, tmp_path, options, validate=validation) == whole_run[0]
    pictures = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.png")}
    assert pictures == {f"validation/step-0000000{step}/{name}.png" for step in (2, 4) for name in ("ana", "bo")}
    assert len((tmp_path / "validation.jsonl").read_text().splitlines()) == 4


def test_likeness_is_one_for_the_same_face_and_nothing_without_a_face(random_bundle):
    analyser = FaceAnalyser(open_untrained_bundle(random_bundle).face_pack)
    photo = person()
    case = Case("ana", analyser.analyse(photo).embedding, np.zeros((5, 2)), "")
    validation = Validation(None, None, analyser, [case], (SIDE, SIDE), Path())
    assert validation.likeness(photo, case) == pytest.approx(1.0, abs=1e-3)
    assert validation.likeness(Image.new("RGB", (64, 64)), case) is None


def test_the_result_loads_beside_the_base_and_its_picture_changes_with_the_face(pipeline, random_bundle, tmp_path):
    trained(pipeline, tmp_path, tiny_options(steps=2))
    bundle = write_bundle(pipeline, tmp_path / "bundle", open_untrained_bundle(random_bundle), steps=2)
    models = load_bundle_quietly(bundle, random_bundle / "base")
    resampler = models.pipeline.image_proj_model
    assert (resampler.heads, resampler.dim_head) == (SIZES["heads"], SIZES["dim"] // SIZES["heads"])
    pictures = [
        models.pipeline(
            "snow",
            image=example(0).key_points,
            image_embeds=example(face).embeddings,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images
        for face in (1, 1, 2)
    ]
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])


def test_the_result_is_stored_in_half_precision(pipeline, random_bundle, tmp_path):
    write_bundle(pipeline, tmp_path, open_untrained_bundle(random_bundle), steps=0)
    for name in ("ControlNetModel/diffusion_pytorch_model.safetensors", "ip-adapter.safetensors"):
        assert {weight.dtype for weight in load_file(tmp_path / name).values()} == {torch.float16}

"""Networks computed with half-precision copies of their weights, on a card by graphs: gradients reach the weights."""

import pytest
import torch
from test_cuda_graphs import needs_gpu
from tiny_training import SIDE, example, tiny_options
from tiny_training import SIZES as TRAINED_SIZES

from instantid.bundle import open_untrained_bundle
from instantid.messages import UserError
from training.data import joined
from training.graphed import Graphed, HalfPrecision, graphed, precision_on
from training.identity_model import IdentityModel, training_pipeline
from training.small_bundle.base import BaseModel
from training.small_bundle.models import new_vae
from training.small_bundle.recipe import TOY
from training.small_bundle.vae import ThereAndBack

SIZES = TOY.sizes
LATENTS = (2, SIZES.latent_channels, SIZES.latent_side, SIZES.latent_side)
CPU = torch.device("cpu")


def base_and_inputs(device=CPU):
    torch.manual_seed(0)
    ids = torch.randint(0, 50, (2, 77))
    sizes = torch.full((2, 6), float(SIZES.side))
    inputs = torch.randn(LATENTS), torch.tensor([10, 700]), ids, sizes
    return BaseModel(SIZES).to(device), tuple(given.to(device) for given in inputs)


def vae_and_inputs(device=CPU):
    torch.manual_seed(0)
    pictures = torch.rand(2, 3, SIZES.side, SIZES.side) * 2 - 1
    return ThereAndBack(new_vae(SIZES)).to(device), (pictures.to(device), torch.randn(LATENTS).to(device))


def halved(inputs):
    """What `graphed` networks are given: the first input, and noise, in half precision."""
    first, *others = inputs
    return first.bfloat16(), *(given.bfloat16() if given.shape == LATENTS else given for given in others)


def gradients(model, outputs):
    """Of the sum of all squares: name -> gradient, where there is one."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    model.zero_grad()
    sum(output.float().square().mean() for output in outputs).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def assert_alike(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for gradient in found.values():
        assert gradient.dtype == torch.float32
    error = sum((found[name] - expected[name]).square().sum() for name in expected).sqrt()
    length = sum(one.square().sum() for one in expected.values()).sqrt()
    assert (error / length).item() < tolerance


@pytest.mark.parametrize("made", [base_and_inputs, vae_and_inputs])
def test_copies_in_half_precision_give_the_weights_nearly_the_same_gradients(made):
    model, inputs = made()
    expected = gradients(model, model(*inputs))
    found = gradients(model, HalfPrecision(model)(*halved(inputs)))
    assert_alike(found, expected, 0.05)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_weights_that_are_kept_stay_in_full_precision(random_bundle):
    pipeline = training_pipeline(open_untrained_bundle(random_bundle), CPU, torch.bfloat16, **TRAINED_SIZES)
    model, batch = IdentityModel(pipeline), joined([example(0), example(1)])
    text, _, pooled, _ = pipeline.encode_prompt(["a face"] * 2, device=CPU, do_classifier_free_guidance=False)
    shape = (2, pipeline.unet.config.in_channels, SIDE // 8, SIDE // 8)
    inputs = torch.randn(shape).bfloat16(), torch.tensor([10, 700]), batch.embeddings, batch.key_points
    out = HalfPrecision(model, kept=("resampler.",))(
        *inputs, text.bfloat16(), pooled.bfloat16(), torch.full((2, 6), float(SIDE))
    )
    assert out.dtype == torch.bfloat16
    found = gradients(model, out)
    assert any(name.startswith("resampler.") for name in found)
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}


def test_on_a_processor_a_model_is_computed_as_it_is():
    model, _ = base_and_inputs()
    assert graphed(model, CPU) is model
    assert precision_on(CPU) == torch.float32


@pytest.mark.parametrize("change", [{"accumulation": 2}, {"mixed_precision": "no"}, {"mixed_precision": "fp16"}])
def test_graphs_are_refused_where_a_step_is_more_than_one_call(change):
    with pytest.raises(UserError, match="cuda-graphs"):
        tiny_options(**{"mixed_precision": "bf16"} | change, cuda_graphs=True).checked()


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("made", [base_and_inputs, vae_and_inputs])
def test_on_a_card_graphs_give_the_gradients_of_the_plain_way(made):
    model, inputs = made(torch.device("cuda"))
    replayed = graphed(model, torch.device("cuda"))
    for _ in range(2):  # the weights change, the addresses do not
        expected = gradients(model, HalfPrecision(model)(*halved(inputs)))
        assert_alike(gradients(model, replayed(*halved(inputs))), expected, 1e-3)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1.1)
    assert replayed.failure is None


@pytest.mark.gpu
@needs_gpu
def test_on_a_card_what_cannot_be_captured_runs_plainly_and_says_so():
    class Waits(torch.nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs) * inputs.sum().item()

    told, model = [], Waits(4, 4).cuda()
    network = Graphed(model, told.append)
    inputs = torch.ones(2, 4, device="cuda")
    for _ in range(2):
        assert torch.equal(network(inputs), model(inputs))
    assert len(told) == 1
    assert torch.randn(4, device="cuda").isfinite().all()

"""What is asked at each picture is answered without a look through all modules, and answered as diffusers does."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import DiffusionPipeline
from tiny_pipeline import tiny_pipeline, write_adapter

from ip_adapter.cuda_graphs import CudaGraphs
from ip_adapter.speed import precision_of

CARD = torch.device("cuda", 1)
ASKED = torch.device("cuda", 0)  # what diffusers answers


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def pipe(adapter):
    return tiny_pipeline(adapter)


@pytest.fixture
def weight_on(pipe, monkeypatch):
    """Makes the UNet's first weight say where it is."""
    monkeypatch.setattr(DiffusionPipeline, "_execution_device", ASKED)
    unet = pipe.unet

    def place(device):
        first = SimpleNamespace(weight=SimpleNamespace(device=torch.device(device)))
        monkeypatch.setitem(vars(pipe), "unet", SimpleNamespace(conv_in=first, config=unet.config))

    return place


def test_with_graphs_the_steps_run_where_the_unet_is(pipe, weight_on):
    pipe.cuda_graphs = CudaGraphs()
    weight_on(CARD)
    assert pipe._execution_device == CARD


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_of_a_unet_that_is_offloaded_diffusers_is_asked(pipe, weight_on, device):
    pipe.cuda_graphs = CudaGraphs()
    weight_on(device)
    assert pipe._execution_device == ASKED


def test_without_graphs_diffusers_is_asked(pipe, weight_on):
    weight_on(CARD)
    assert pipe._execution_device == ASKED


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_card_graphs_change_nothing_about_where_the_steps_run(pipe):
    pipe.to("cuda")
    before = pipe._execution_device
    pipe.enable_cuda_graphs()
    assert pipe._execution_device == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_precision_is_what_diffusers_says(pipe, dtype):
    pipe.unet.to(dtype)
    assert precision_of(pipe.unet) == pipe.unet.dtype == dtype


def test_the_precision_of_an_offloaded_unet_is_what_diffusers_says(pipe):
    pipe.unet.half()
    pipe.enable_sequential_cpu_offload(device="cpu")
    assert pipe.unet.conv_in.weight.device.type == "meta"
    assert precision_of(pipe.unet) == pipe.unet.dtype == torch.float16


@pytest.mark.parametrize("storage", [torch.float8_e4m3fn, torch.float16])
def test_the_precision_of_cast_weights_is_that_of_the_products(pipe, storage):
    if not hasattr(pipe.unet, "enable_layerwise_casting"):
        pytest.skip("this diffusers casts no weights")
    pipe.unet.enable_layerwise_casting(storage_dtype=storage, compute_dtype=torch.float32)
    assert pipe.unet.conv_in.weight.dtype == storage
    assert precision_of(pipe.unet) == pipe.unet.dtype == torch.float32

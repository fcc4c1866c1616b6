"""How large the parts of a bundle are, by the headers of their files alone."""

import dataclasses
import json
import struct

import pytest
from safetensors.torch import load_file, save_file
from single_file import write_single_file

from instantid.bundle import open_bundle
from instantid.component_sizes import ComponentSize, ComponentSizes, component_sizes
from instantid.hardware import memory_in_use
from ip_adapter.checkpoint import read_checkpoint
from ip_adapter.convert import convert_to_safetensors

PARTS = [field.name for field in dataclasses.fields(ComponentSizes) if field.type == "ComponentSize"]
UNET = "base/unet/diffusion_pytorch_model.safetensors"


def sizes(folder, base=None):
    return component_sizes(open_bundle(folder, base))


def write_header(file, shapes, dtype="F16"):
    """A .safetensors file of the right size whose numbers are a hole in the disk; name -> shape."""
    header, end = {}, 0
    for name, shape in shapes.items():
        count = 1
        for side in shape:
            count *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + 2 * count]}
        end += 2 * count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    with file.open("r+b") as stream:
        stream.truncate(8 + len(text) + end)
    return file


def test_the_numbers_are_those_of_the_models_that_the_loader_makes(random_bundle, models):
    pipeline, found = models.pipeline, sizes(random_bundle)
    adapter = read_checkpoint(random_bundle / "ip-adapter.bin")
    expected = {
        "unet": sum(p.numel() for name, p in pipeline.unet.named_parameters() if ".processor." not in name),
        "identitynet": sum(p.numel() for p in pipeline.controlnet.parameters()),
        "text_encoders": sum(
            p.numel() for model in (pipeline.text_encoder, pipeline.text_encoder_2) for p in model.parameters()
        ),
        "vae": sum(p.numel() for p in pipeline.vae.parameters()),
        "identity_layers": sum(tensor.numel() for tensor in adapter.ip_adapter.values()),
        "resampler": sum(tensor.numel() for tensor in adapter.image_proj.values()),
    }
    assert {part: getattr(found, part).parameters for part in PARTS} == expected


def test_bytes_are_the_parameters_in_their_precision(random_bundle):
    for size in (getattr(sizes(random_bundle), part) for part in PARTS):
        assert (size.bytes_on_disk, size.precision) == (4 * size.parameters, "float32")


@pytest.mark.parametrize(("said", "expected"), [(False, False), (True, True), (None, True)])
def test_whether_the_vae_overflows_is_what_its_description_says(bundle_copy, said, expected):
    file = bundle_copy / "base" / "vae" / "config.json"
    config = json.loads(file.read_text())
    config.pop("force_upcast", None)
    file.write_text(json.dumps(config if said is None else config | {"force_upcast": said}))
    assert sizes(bundle_copy).vae_overflows is expected


def test_the_native_size_is_that_of_the_models(random_bundle, models):
    assert sizes(random_bundle).native_size == models.native_size == 128


def test_a_base_in_one_file_has_the_sizes_of_the_folder_that_it_was_made_of(random_bundle, tmp_path):
    single = sizes(random_bundle, write_single_file(random_bundle / "base", tmp_path / "base.safetensors"))
    assert [getattr(single, part) for part in PARTS] == [getattr(sizes(random_bundle), part) for part in PARTS]


def test_a_description_that_says_nothing_is_taken_for_that_of_sdxl(bundle_copy):
    (bundle_copy / "base" / "vae" / "config.json").write_text("{}")
    assert (sizes(bundle_copy).native_size, sizes(bundle_copy).vae_overflows) == (1024, True)


def test_a_converted_adapter_has_the_parameters_of_the_one_it_was_made_of(bundle_copy):
    before = sizes(bundle_copy)
    convert_to_safetensors(bundle_copy / "ip-adapter.bin")
    after = sizes(bundle_copy)
    assert after.identity_layers.parameters == before.identity_layers.parameters
    assert after.resampler.parameters == before.resampler.parameters
    assert after.identity_layers.precision == "float16"  # of the converted file, which the loader takes from then on


def test_of_two_variants_the_one_that_the_loader_takes_is_measured(bundle_copy):
    plain = sizes(bundle_copy).unet
    half = {name: tensor.half() for name, tensor in load_file(bundle_copy / UNET).items()}
    save_file(half, bundle_copy / UNET.replace("model.", "model.fp16."))
    assert sizes(bundle_copy).unet == ComponentSize(plain.parameters, plain.bytes_on_disk // 2, "float16")


def test_all_shards_of_an_index_are_measured_and_nothing_else(bundle_copy):
    whole, tensors = sizes(bundle_copy).unet, sorted(load_file(bundle_copy / UNET).items())
    (bundle_copy / UNET).unlink()
    shards = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for shard, part in zip(shards, (tensors[::2], tensors[1::2])):
        save_file(dict(part), (bundle_copy / UNET).with_name(shard))
    index = {name: shards[i % 2] for i, (name, _) in enumerate(tensors)}
    (bundle_copy / f"{UNET}.index.json").write_text(json.dumps({"weight_map": index}))
    assert sizes(bundle_copy).unet == whole


def test_the_precision_is_that_of_most_bytes(bundle_copy):
    tensors = load_file(bundle_copy / UNET)
    largest = max(tensors, key=lambda name: tensors[name].numel())
    mixed = {name: tensor if name == largest else tensor.bfloat16() for name, tensor in tensors.items()}
    save_file(mixed, bundle_copy / UNET)
    assert sizes(bundle_copy).unet.precision == "bfloat16"


def test_numbers_that_are_no_weights_are_not_counted(bundle_copy):
    before, tensors = sizes(bundle_copy).unet, load_file(bundle_copy / UNET)
    positions = next(iter(tensors.values())).long()
    save_file(tensors | {"position_ids": positions}, bundle_copy / UNET)
    assert sizes(bundle_copy).unet == before


def test_a_base_of_the_published_size_is_measured_without_reading_it(random_bundle, tmp_path):
    shapes = {
        "model.diffusion_model.x": [2567, 1000, 1000],
        "first_stage_model.x": [84, 1000, 1000],
        "conditioner.embedders.0.x": [123, 1000, 1000],
        "conditioner.embedders.1.x": [694, 1000, 1000],
        "somebody_elses.x": [5],
    }
    bundle = open_bundle(random_bundle, write_header(tmp_path / "base.safetensors", shapes))
    before = memory_in_use()
    found, after = component_sizes(bundle), memory_in_use()
    assert [found.unet, found.text_encoders, found.vae] == [
        ComponentSize(millions * 10**6, 2 * millions * 10**6, "float16") for millions in (2567, 817, 84)
    ]
    taken = after.anonymous_gib + after.mapped_gib - before.anonymous_gib - before.mapped_gib
    assert taken < 0.05

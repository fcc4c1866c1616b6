"""Adapter files: every unusable one gets one clear sentence, every usable one is read as it was trained."""

import os
import pickle

import pytest
import torch
from tiny_components import TEXT_DIM, adapter_tensors, resampler_shapes, standard_normal, tiny_unet, weight
from tiny_pipeline import bare_pipeline, run, tiny_pipeline, write_adapter

from ip_adapter.checkpoint import preferred_file, read_checkpoint, write_checkpoint
from ip_adapter.convert import convert_to_safetensors
from ip_adapter.errors import UserError
from ip_adapter.geometry import read_geometry
from ip_adapter.resampler import Resampler


@pytest.fixture(scope="module")
def tensors():
    return adapter_tensors(tiny_unet())


def test_the_default_resampler_has_16_heads_128_wide():
    with torch.device("meta"):
        resampler = Resampler()
    assert (resampler.heads, resampler.dim_head) == (16, 128)
    assert resampler.latents.shape == (1, 16, 2048)


def test_heads_that_do_not_divide_are_refused_with_the_numbers_and_the_nearest_that_do():
    with pytest.raises(ValueError, match=r"dim \(2048\) must be divisible by heads \(12\): use 8 or 16 heads"):
        Resampler(dim=2048, heads=12)


def test_the_state_dict_has_the_published_names():
    with torch.device("meta"):
        resampler = Resampler(dim=96, depth=3, heads=4, embedding_dim=512, output_dim=80)
    assert {k: tuple(v.shape) for k, v in resampler.state_dict().items()} == resampler_shapes(96, 3, 96, 80)


def test_a_published_file_is_read_with_heads_64_wide(tmp_path, tensors, caplog):
    caplog.set_level("INFO")
    path = write_checkpoint(tmp_path / "ip-adapter.bin", **tensors)
    geometry = read_geometry(read_checkpoint(path))
    assert (geometry.heads, geometry.dim_head) == (2, 64)
    assert "2 heads × 64, because published adapters have heads 64 wide" in caplog.text


@pytest.mark.parametrize("name", ["a.bin", "a.safetensors"])
def test_a_file_that_says_its_heads_is_read_so(tmp_path, tensors, name):
    path = write_checkpoint(tmp_path / name, **tensors, heads=16, dim_head=8)
    geometry = read_geometry(read_checkpoint(path))
    assert (geometry.heads, geometry.dim_head, geometry.reason) == (16, 8, "the file says so")


def test_the_callers_word_counts_before_the_files(tmp_path, tensors):
    path = write_checkpoint(tmp_path / "a.bin", **tensors, heads=16, dim_head=8)
    assert read_geometry(read_checkpoint(path), heads=4).dim_head == 32
    assert read_geometry(read_checkpoint(path), dim_head=16).heads == 8


def test_heads_that_do_not_make_up_the_stored_width_are_refused(tmp_path, tensors):
    path = write_checkpoint(tmp_path / "a.bin", **tensors)
    with pytest.raises(UserError, match=r"3 heads of width 64 make 192, but .* is 128 wide"):
        read_geometry(read_checkpoint(path), heads=3, dim_head=64)


def test_a_wrong_head_count_loads_and_gives_other_tokens():
    """Why the geometry is decided in one place: nothing else would notice."""
    shapes = resampler_shapes(1280, depth=4, inner=1280, output=2048)
    tokens = {}
    for heads in (20, 16):
        with torch.device("meta"):
            resampler = Resampler(dim=1280, heads=heads)
        resampler.load_state_dict({k: weight("resampler." + k, s) for k, s in shapes.items()}, assign=True)
        with torch.no_grad():
            tokens[heads] = resampler(standard_normal("r.face", (1, 1, 512)))
    assert torch.cosine_similarity(tokens[20], tokens[16], dim=-1).mean() < 0.97


@pytest.mark.parametrize("name", ["a.bin", "a.safetensors"])
def test_written_tensors_are_read_again(tmp_path, tensors, name):
    read = read_checkpoint(write_checkpoint(tmp_path / name, **tensors))
    for part in ("image_proj", "ip_adapter"):
        assert {k: v.shape for k, v in getattr(read, part).items()} == {k: v.shape for k, v in tensors[part].items()}
        assert all(torch.equal(v, tensors[part][k]) for k, v in getattr(read, part).items())


def test_a_converted_file_is_smaller_preferred_and_gives_the_same_picture_in_half_precision(tmp_path):
    path = write_adapter(tmp_path)
    before = run_in_bfloat16(tiny_pipeline(path))
    converted = convert_to_safetensors(path, dtype=torch.bfloat16)
    assert converted.stat().st_size < path.stat().st_size
    assert preferred_file(path) == converted
    assert torch.equal(run_in_bfloat16(tiny_pipeline(path)), before)


def run_in_bfloat16(pipe):
    for name in ("unet", "controlnet", "vae"):
        getattr(pipe, name).to(torch.bfloat16)
    return run(pipe, latents=None, generator=torch.manual_seed(4))


def test_the_converted_file_keeps_the_resampler_exact_and_its_heads(tmp_path, tensors):
    path = write_checkpoint(tmp_path / "a.bin", **tensors)
    converted = read_checkpoint(convert_to_safetensors(path))
    assert converted.geometry == {"heads": 2, "dim_head": 64}
    assert all(torch.equal(v, tensors["image_proj"][k]) for k, v in converted.image_proj.items())
    assert {v.dtype for v in converted.ip_adapter.values()} == {torch.float16}


def test_a_conversion_older_than_the_original_is_not_used(tmp_path):
    path = write_adapter(tmp_path)
    converted = convert_to_safetensors(path)
    os.utime(converted, (1, 1))
    assert preferred_file(path) == path


def content(kind: str, whole: bytes) -> bytes:
    return {
        "empty": b"",
        "page": b"<!DOCTYPE html><html>Sign in</html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "cut": whole[: len(whole) // 2],
        "noise": bytes(range(256)) * 20,
    }[kind]


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("empty", "is empty"),
        ("page", "a web page"),
        ("pointer", "a Git LFS pointer"),
        ("cut", "damaged or cut short"),
        ("noise", "damaged or cut short|not a plain table"),
    ],
)
def test_a_file_without_weights_is_named_with_what_it_holds(tmp_path, tensors, suffix, kind, sentence):
    whole = write_checkpoint(tmp_path / f"whole{suffix}", **tensors).read_bytes()
    path = tmp_path / f"ip-adapter{suffix}"
    path.write_bytes(content(kind, whole))
    with pytest.raises(UserError, match=sentence) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no adapter file at .*nowhere\.bin"):
        read_checkpoint(tmp_path / "nowhere.bin")


class RunsCode:
    def __reduce__(self):
        return (os.system, ("touch should-never-exist",))


def test_a_pickle_that_would_run_code_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"image_proj": RunsCode()}, tmp_path / "zip.bin")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(RunsCode()))
    for name in ("zip.bin", "plain.bin"):
        with pytest.raises(UserError, match="could run code"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "should-never-exist").exists()


def test_another_kind_of_adapter_is_told_apart(tmp_path):
    path = tmp_path / "ip-adapter_sdxl.bin"
    torch.save(
        {"image_proj": {"proj.weight": torch.zeros(2)}, "ip_adapter": {"1.to_k_ip.weight": torch.zeros(2)}}, path
    )
    with pytest.raises(UserError, match="not an InstantID adapter"):
        read_checkpoint(path)


def test_missing_and_unexpected_layers_are_named(tmp_path, tensors):
    layers = dict(tensors["ip_adapter"])
    layers["999.to_k_ip.weight"] = layers.pop("1.to_k_ip.weight")
    path = write_checkpoint(tmp_path / "a.bin", tensors["image_proj"], layers)
    with pytest.raises(UserError, match=r"1 identity layers missing \(1\.to_k_ip\.weight\), 1 too many \(999"):
        bare_pipeline().load_ip_adapter_instantid(path)


def test_an_adapter_for_another_text_width_is_refused_with_both_widths(tmp_path, tensors):
    layers = {k: torch.zeros(v.shape[0], TEXT_DIM - 16) for k, v in tensors["ip_adapter"].items()}
    path = write_checkpoint(tmp_path / "a.bin", tensors["image_proj"], layers)
    with pytest.raises(UserError, match=r"is \(16, 48\), .* needs \(16, 64\)"):
        bare_pipeline().load_ip_adapter_instantid(path)


def test_a_resampler_with_a_missing_tensor_names_it(tmp_path, tensors):
    weights = {k: v for k, v in tensors["image_proj"].items() if k != "norm_out.bias"}
    path = write_checkpoint(tmp_path / "a.bin", weights, tensors["ip_adapter"])
    with pytest.raises(UserError, match=r"norm_out\.bias"):
        bare_pipeline().load_ip_adapter_instantid(path)


def test_arguments_of_old_scripts_are_accepted_and_checked(tmp_path):
    path = write_adapter(tmp_path)
    bare_pipeline().load_ip_adapter_instantid(str(path), image_emb_dim=512, num_tokens=16, scale=0.8)
    with pytest.raises(UserError, match=r"num_tokens=4 was passed, but .* has 16"):
        bare_pipeline().load_ip_adapter_instantid(path, num_tokens=4)

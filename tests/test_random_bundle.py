"""The random bundle: complete, reproducible, and alive in every part that InstantID needs."""

import hashlib

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from instantid.bundle import open_bundle
from instantid.random_bundle import (
    CROSS_ATTENTION_WIDTH,
    DESCRIPTION,
    RESAMPLER,
    main,
    random_weight,
    write_random_bundle,
)
from ip_adapter.checkpoint import read_checkpoint
from ip_adapter.errors import UserError
from ip_adapter.geometry import read_geometry
from ip_adapter.layers import build_layers, cross_attention

WEIGHT_OF_SEED_5 = [[0.6767320036888123, -0.23912686109542847], [0.05267179012298584, -0.3844192326068878]]


@pytest.fixture(scope="module")
def pipeline(random_bundle):
    pipeline = StableDiffusionXLPipeline.from_pretrained(random_bundle / "base", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def weight_files(folder):
    """Name -> digest of every file of weights; configurations name the version of their library."""
    files = [*folder.rglob("*.safetensors"), *folder.rglob("*.onnx")]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def tokens(tokenizer, text):
    return tokenizer(text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids


def test_the_bundle_is_one_that_the_app_opens_offline(random_bundle):
    assert open_bundle(random_bundle).description == DESCRIPTION


def test_the_same_seed_gives_the_same_files(random_bundle, tmp_path):
    assert weight_files(write_random_bundle(tmp_path / "again")) == weight_files(random_bundle)


def test_another_seed_gives_other_weights_everywhere_but_in_the_hand_set_detector(random_bundle, tmp_path):
    first, second = weight_files(random_bundle), weight_files(write_random_bundle(tmp_path / "other", seed=7))
    assert [name for name in first if first[name] == second[name]] == ["antelopev2/scrfd_10g_bnkps.onnx"]


def test_a_weight_is_the_same_number_on_every_machine():
    """Written down from numpy's legacy generator, whose streams are frozen."""
    np.testing.assert_array_equal(
        random_weight("unet.conv_in.weight", (2, 2), seed=5).numpy(),
        np.array(WEIGHT_OF_SEED_5, dtype=np.float32),
    )


def test_a_bundle_that_is_there_is_left_alone(random_bundle):
    before = (random_bundle / "ip-adapter.bin").stat()
    write_random_bundle(random_bundle)
    after = (random_bundle / "ip-adapter.bin").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_bundle_of_another_size_is_replaced_whole(tmp_path):
    folder = write_random_bundle(tmp_path / "bundle", native_size=64)
    (folder / "left over").touch()
    write_random_bundle(folder, native_size=128)
    assert UNet2DConditionModel.load_config(folder / "base/unet")["sample_size"] == 128 // 8
    assert not (folder / "left over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_of_the_person_is_refused_and_untouched(tmp_path):
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else") as caught:
        write_random_bundle(tmp_path)
    assert caught.value.facts["folder"] == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def disk_full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("instantid.random_face_pack.write_random_face_pack", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_random_bundle(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_in_one_line_why_it_refuses(tmp_path, monkeypatch, capsys):
    (tmp_path / "holiday.txt").write_text("mine")
    monkeypatch.setenv("INSTANTID_LANGUAGE", "es")
    monkeypatch.setattr("sys.argv", ["random_bundle", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert f"«{tmp_path}» ya contiene otra cosa" in capsys.readouterr().err


def test_half_precision_is_stored_as_such(tmp_path):
    folder = write_random_bundle(tmp_path / "bundle", dtype="float16")
    kinds = {t.dtype for file in folder.rglob("*.safetensors") for t in load_file(file).values()}
    kinds |= {t.dtype for t in read_checkpoint(folder / "ip-adapter.bin").image_proj.values()}
    assert kinds == {torch.float16}


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_2"])
def test_a_prompt_becomes_77_ids_between_begin_and_end(random_bundle, name):
    tokenizer = CLIPTokenizer.from_pretrained(random_bundle / "base" / name, model_max_length=77)
    ids = tokens(tokenizer, "a person")
    end = ids.index(tokenizer.eos_token_id)
    assert len(ids) == 77
    assert ids[0] == tokenizer.bos_token_id
    assert set(ids[end + 1 :]) == {tokenizer.pad_token_id}


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_2"])
def test_no_two_prompts_read_alike_and_none_is_unknown(random_bundle, name):
    tokenizer = CLIPTokenizer.from_pretrained(random_bundle / "base" / name, model_max_length=77)
    prompts = ["", "a person", "a face", "una niña", "una nina", "un corazón", "😀", "❤️", "portrait 3", "portrait 4"]
    read = [tokens(tokenizer, prompt) for prompt in prompts]
    assert len({tuple(ids) for ids in read}) == len(prompts)
    for ids in read:
        assert tokenizer.unk_token_id not in ids[1 : ids.index(tokenizer.eos_token_id)]


def test_a_whole_word_of_the_vocabulary_is_one_token(pipeline):
    assert len(pipeline.tokenizer("portrait").input_ids) == 3


def test_the_text_encoders_make_the_widths_that_the_unet_reads(pipeline):
    text, _, pooled, _ = pipeline.encode_prompt("a person", do_classifier_free_guidance=False)
    assert text.shape == (1, 77, pipeline.unet.config.cross_attention_dim)
    assert pooled.shape == (1, pipeline.unet.add_embedding.linear_1.in_features - 6 * 8)


def test_a_picture_is_finite_and_not_one_flat_colour(pipeline):
    generator = torch.Generator().manual_seed(3)
    picture = pipeline("a person", num_inference_steps=3, generator=generator, output_type="np").images[0]
    assert picture.shape == (128, 128, 3)
    assert np.isfinite(picture).all()
    assert picture.std(axis=(0, 1)).min() > 0.05
    assert ((picture == 0) | (picture == 1)).mean() < 0.2


def test_the_prompt_changes_the_picture(pipeline):
    pictures = [
        pipeline(prompt, num_inference_steps=2, generator=torch.Generator().manual_seed(3), output_type="np").images
        for prompt in ("a person", "una niña")
    ]
    assert np.abs(pictures[0] - pictures[1]).max() > 0.01


@pytest.fixture(scope="module")
def identitynet(random_bundle):
    net = ControlNetModel.from_pretrained(random_bundle / "ControlNetModel")

    @torch.no_grad()
    def residuals(tokens=1.0, key_points=1.0):
        size = {"text_embeds": torch.zeros(1, 20), "time_ids": torch.ones(1, 6)}
        tokens = torch.full((1, 16, CROSS_ATTENTION_WIDTH), tokens)
        key_points = torch.full((1, 3, 128, 128), key_points)
        down, middle = net(torch.ones(1, 4, 16, 16), 500, tokens, key_points, added_cond_kwargs=size, return_dict=False)
        return [*down, middle]

    return residuals


def test_identitynet_speaks_at_every_level(identitynet):
    residuals = identitynet()
    assert len(residuals) == 9 + 1
    assert min(residual.abs().mean().item() for residual in residuals) > 0.01


@pytest.mark.parametrize("change", [{"tokens": 0.0}, {"key_points": 0.0}])
def test_identitynet_hears_the_identity_and_the_key_points(identitynet, change):
    before, after = identitynet()[-1], identitynet(**change)[-1]
    assert (after - before).abs().mean() > 0.01 * before.abs().mean()


def test_the_adapter_says_its_heads_and_fits_the_unet(random_bundle, pipeline):
    checkpoint = read_checkpoint(random_bundle / "ip-adapter.bin")
    geometry = read_geometry(checkpoint)
    assert (geometry.heads, geometry.dim_head) == (RESAMPLER["heads"], RESAMPLER["dim_head"])
    assert len(build_layers(pipeline.unet, checkpoint, geometry.output_dim)) == len(cross_attention(pipeline.unet))

"""Bundles on disk: what is accepted, what is mended, how each fault is named."""

import errno
import json
import zipfile
from pathlib import Path

import pytest
from fake_hub import base_files, face_files, tensors, write_bundle, write_files

from instantid.bundle import FACE_MODELS, open_bundle, readable_size, repair_face_pack, weight_files
from instantid.messages import LANGUAGES, explain
from ip_adapter.errors import UserError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 2502139104\n"
PAGE = b"\n<!DOCTYPE html><html><body>Sign in</body></html>"
UNET = "base/unet/diffusion_pytorch_model.safetensors"
NEEDED = [
    "base/model_index.json",
    "base/scheduler/scheduler_config.json",
    "base/tokenizer/merges.txt",
    "base/tokenizer_2/vocab.json",
    "base/text_encoder/config.json",
    "ControlNetModel/config.json",
    "ControlNetModel/diffusion_pytorch_model.safetensors",
    "ip-adapter.bin",
]


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle")


def fault(folder, **options):
    with pytest.raises(UserError) as caught:
        open_bundle(folder, **options)
    return caught.value


def test_each_part_of_a_whole_bundle_is_found(bundle):
    opened = open_bundle(bundle)
    assert (opened.base, opened.identitynet) == (bundle / "base", bundle / "ControlNetModel")
    assert (opened.adapter, opened.face_pack) == (bundle / "ip-adapter.bin", bundle / "antelopev2")
    assert (opened.base_config, opened.variant) == (None, None)


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    error = fault(bundle)
    assert error.code in ("weights.missing", "weights.base_not_usable")
    assert str((bundle / name) if error.code == "weights.missing" else bundle / "base") in str(error)


@pytest.mark.parametrize("name", NEEDED)
def test_an_empty_file_is_named(bundle, name):
    (bundle / name).write_bytes(b"")
    error = fault(bundle)
    assert error.code == "weights.empty"
    assert str(bundle / name) in str(error)


@pytest.mark.parametrize("name", [UNET, "ip-adapter.bin", "antelopev2/glintr100.onnx", "base/vae/config.json"])
@pytest.mark.parametrize(("content", "code"), [(PAGE, "weights.html"), (POINTER, "weights.pointer")])
def test_a_web_page_or_a_pointer_saved_as_weights_is_named_with_its_size(bundle, name, content, code):
    (bundle / name).write_bytes(content)
    error = fault(bundle)
    assert error.code == code
    assert str(bundle / name) in str(error)
    assert f"{len(content)} bytes" in str(error)


@pytest.mark.parametrize("name", [UNET, "ip-adapter.bin"])
def test_a_truncated_file_is_named(bundle, name):
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[:-5])
    error = fault(bundle)
    assert error.code == "weights.damaged"
    assert str(bundle / name) in str(error)


def test_a_broken_description_is_named(bundle):
    (bundle / "base/unet/config.json").write_text("{")
    assert fault(bundle).code == "weights.bad_json"


def test_a_model_of_another_kind_is_named(bundle):
    (bundle / "base/model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    error = fault(bundle)
    assert error.code == "weights.not_sdxl"
    assert "StableDiffusionPipeline" in str(error)


def test_pickled_weights_of_the_base_are_refused(bundle):
    (bundle / UNET).rename((bundle / UNET).with_suffix(".bin"))
    error = fault(bundle)
    assert error.code == "weights.no_safetensors"
    assert "diffusion_pytorch_model.bin" in str(error)


def test_a_missing_shard_is_named(bundle):
    (bundle / UNET).unlink()
    shards = {name: f"diffusion_pytorch_model-0000{name}-of-00002.safetensors" for name in "12"}
    index = json.dumps({"weight_map": shards})
    (bundle / "base/unet/diffusion_pytorch_model.safetensors.index.json").write_text(index)
    (bundle / "base/unet" / shards["1"]).write_bytes(tensors())
    assert shards["2"] in str(fault(bundle))


def test_shards_without_their_index_are_refused(bundle):
    (bundle / UNET).rename(bundle / "base/unet/diffusion_pytorch_model-00001-of-00002.safetensors")
    assert "diffusion_pytorch_model.safetensors.index.json" in str(fault(bundle))


def test_half_precision_is_preferred_where_both_are_there(tmp_path):
    opened = open_bundle(write_bundle(tmp_path, ("", ".fp16")))
    assert opened.variant == "fp16"


def test_the_variant_is_told_model_by_model(bundle):
    (bundle / UNET).rename(bundle / "base/unet/diffusion_pytorch_model.fp16.safetensors")
    opened = open_bundle(bundle)
    assert (opened.variant_of("unet"), opened.variant_of("vae")) == ("fp16", None)


def test_other_variants_and_formats_are_not_weights():
    names = ["model.bin", "model.ema.safetensors", "model.bf16.safetensors", "model.onnx", "model.safetensors.part"]
    assert weight_files(names) == []
    assert weight_files([*names, "model.safetensors"]) == ["model.safetensors"]


def test_the_safetensors_adapter_is_preferred(bundle):
    (bundle / "ip-adapter.safetensors").write_bytes(tensors())
    assert open_bundle(bundle).adapter == bundle / "ip-adapter.safetensors"


def test_a_single_file_base_is_found_with_its_description(bundle, tmp_path):
    single = tmp_path / "mine.safetensors"
    single.write_bytes(tensors())
    write_files(bundle / "base_config", base_files(()))
    opened = open_bundle(bundle, base=single)
    assert (opened.base, opened.base_config, opened.variant) == (single, bundle / "base_config", None)


def test_a_single_file_may_be_the_bundle_s_own_base(bundle):
    (bundle / "base").rename(bundle / "elsewhere")
    write_files(bundle / "base", {"mine.safetensors": tensors()})
    assert open_bundle(bundle).base == bundle / "base/mine.safetensors"


def test_several_further_bases_have_to_be_told_apart(bundle):
    (bundle / "bases").mkdir()
    (bundle / "base").rename(bundle / "bases/a--one")
    assert open_bundle(bundle).base == bundle / "bases/a--one"
    write_files(bundle / "bases/b--two", base_files())
    error = fault(bundle)
    assert error.code == "weights.which_base"
    assert "a--one, b--two" in str(error)


def test_a_base_that_is_not_there_is_named(bundle, tmp_path):
    assert str(tmp_path / "none.safetensors") in str(fault(bundle, base=tmp_path / "none.safetensors"))


def test_the_description_comes_from_the_bundle(bundle):
    (bundle / "bundle.json").write_text('{"name": "small", "description": "Small weights", "weights": "random"}')
    assert open_bundle(bundle).description == "Small weights"


def test_a_folder_that_does_not_exist_is_named_in_both_languages(tmp_path):
    error = fault(tmp_path / "nowhere")
    assert all(str(tmp_path / "nowhere") in explain(error, language) for language in LANGUAGES)


def test_a_nested_face_pack_is_moved_up_and_other_files_stay(tmp_path):
    nested = write_files(tmp_path / "antelopev2", {f"antelopev2/{name}": data for name, data in face_files().items()})
    write_files(nested, {"antelopev2/readme.txt": b"words", "antelopev2/genderage.onnx": b"\x08"})
    assert repair_face_pack(nested) == nested
    assert {path.name for path in nested.glob("*.onnx")} == {*FACE_MODELS, "genderage.onnx"}
    assert (nested / "antelopev2/readme.txt").read_bytes() == b"words"


def test_a_move_that_was_cut_off_is_finished(tmp_path):
    detector, recogniser = FACE_MODELS
    files = face_files()
    pack = {f"antelopev2/{recogniser}": files[recogniser], detector: files[detector], "genderage.onnx": b"\x08"}
    assert repair_face_pack(write_files(tmp_path, pack)) == tmp_path
    assert (tmp_path / recogniser).exists()


def test_a_nested_face_pack_on_a_read_only_disk_is_used_where_it_is(tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError(errno.EROFS, "Read-only file system", str(self))

    write_files(tmp_path, {f"antelopev2/{name}": data for name, data in face_files().items()})
    monkeypatch.setattr(Path, "rename", refuse)
    assert repair_face_pack(tmp_path) == tmp_path / "antelopev2"


def test_another_pack_of_the_same_layout_is_accepted_and_half_of_ours_is_not(tmp_path):
    other = write_files(tmp_path / "other", {"det.onnx": b"\x08", "rec.onnx": b"\x08"})
    assert repair_face_pack(other) == other
    half = write_files(tmp_path / "half", {"scrfd_10g_bnkps.onnx": b"\x08", "genderage.onnx": b"\x08"})
    with pytest.raises(UserError, match="glintr100") as caught:
        repair_face_pack(half)
    assert caught.value.code == "weights.no_face_models"


@pytest.mark.parametrize("place", ["antelopev2.zip", "antelopev2/antelopev2.zip"])
def test_a_zip_is_extracted_and_cannot_write_outside(tmp_path, place):
    archive = tmp_path / "root" / place
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as content:
        for name, data in face_files().items():
            content.writestr(f"antelopev2/{name}", data)
        content.writestr("../../outside.onnx", b"\x08")
        content.writestr("../../evil.py", b"")
    pack = repair_face_pack(tmp_path / "root/antelopev2")
    assert {name: (pack / name).read_bytes() for name in FACE_MODELS} == face_files()
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert not list(tmp_path.rglob("evil.py"))


def test_a_damaged_zip_is_named(tmp_path):
    write_files(tmp_path, {"antelopev2/antelopev2.zip": b"PK\x03\x04 cut"})
    with pytest.raises(UserError, match=r"antelopev2\.zip") as caught:
        repair_face_pack(tmp_path / "antelopev2")
    assert caught.value.code == "weights.damaged"


def test_sizes_read_well():
    assert [readable_size(n) for n in (134, 2_500_000, 2_502_139_104)] == ["134 bytes", "2.5 MB", "2.5 GB"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"prompts": ["a face", "snow"]}, ["a face", "snow"]),
        ({"prompts": "snow"}, []),
        ({"prompts": [7]}, []),
        ({}, []),
    ],
)
def test_a_bundle_may_bring_prompts_of_its_own(bundle, told, expected):
    write_files(bundle, {"bundle.json": json.dumps(told).encode()})
    assert open_bundle(bundle).prompts() == expected


def test_a_bundle_without_a_description_brings_no_prompts(bundle):
    (bundle / "bundle.json").unlink(missing_ok=True)
    assert open_bundle(bundle).prompts() == []


def test_the_examples_are_a_portrait_of_each_person(bundle):
    files = ("ana/1.png", "ana/2.png", "ben.png", "cleo/notes.txt", "README.md")
    write_files(bundle / "examples", dict.fromkeys(files, b""))
    assert open_bundle(bundle).examples() == [bundle / "examples" / name for name in ("ana/1.png", "ben.png")]

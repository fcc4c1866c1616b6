"""A bundle: the folder that holds every weight of InstantID, checked file by file without any network.

base/                       SDXL as a diffusers folder, or one .safetensors file
bases/<owner>--<name>/      further base models, when there are several
base_config/                what describes a single-file base: configs and tokenizers
ControlNetModel/            IdentityNet
ip-adapter.safetensors|bin  the identity attention
antelopev2/*.onnx           face detector and face recogniser
examples/                   optional: portraits to try it with; a picture, or a folder of pictures, of each person
scoring/*.onnx              optional: what `instantid.evaluation` judges pictures by
bundle.json                 optional: {"name", "description", "weights", "prompts"}
"""

import json
import re
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open

from instantid.messages import LANGUAGES, user_error

MODELS = ("text_encoder", "text_encoder_2", "unet", "vae")
TOKENIZERS = ("tokenizer", "tokenizer_2")
FACE_MODELS = ("scrfd_10g_bnkps.onnx", "glintr100.onnx")  # detector, recogniser
SHIPPED_BUNDLE = Path(__file__).resolve().parent.parent / "bundles" / "small"  # may be absent: it is not in the zip

_WEIGHT_NAME = re.compile(
    r"(diffusion_pytorch_)?model(\.fp16)?(-\d{5}-of-\d{5})?(\.fp16)?\.safetensors(\.index(\.fp16)?\.json)?"
)


@dataclass(frozen=True)
class Bundle:
    """Where each part of a checked bundle lies."""

    base: Path  # diffusers SDXL folder, or one .safetensors file
    identitynet: Path  # folder ControlNetModel/
    adapter: Path  # ip-adapter.safetensors or ip-adapter.bin
    face_pack: Path  # the folder that directly holds the two .onnx files
    base_config: Path | None  # diffusers folder that describes a single-file base
    variant: str | None  # "fp16" when the base folder has fp16 files: they are preferred
    description: str | dict[str, str]  # one for every language, or language -> text
    adapter_heads: int | None = None  # how to read the Resampler; None = as its file or the published rule says

    def variant_of(self, model: str) -> str | None:
        """ "fp16" or None for one of `MODELS` of a base folder: some repositories have fp16 files of the UNet only."""
        return _variant(path.name for path in (self.base / model).glob("*"))

    @property
    def folder(self) -> Path:
        """The bundle itself; its base may lie elsewhere."""
        return self.identitynet.parent

    def examples(self) -> list[Path]:
        """A portrait of each person that it shows, in the order of their names; of a folder the first picture."""
        people = sorted((self.folder / "examples").glob("*"))
        pictures = [sorted(path.glob("*.png")) if path.is_dir() else [path] for path in people]
        return [some[0] for some in pictures if some and some[0].suffix == ".png"]

    def prompts(self) -> list[str]:
        """Prompts that show what it can draw, of its own bundle.json; empty: those of the page suit it."""
        own = self.folder / "bundle.json"
        told = _read_json(own).get("prompts") if own.exists() else None
        return [text for text in told if isinstance(text, str)] if isinstance(told, list) else []

    def described(self, language: str) -> str:
        """What this bundle is, in `language`."""
        return self.description if isinstance(self.description, str) else self.description[language]


def open_bundle(folder: Path, base: Path | None = None) -> Bundle:
    """Check a bundle on disk and say where its parts are; never asks the network.

    Args:
        folder: the bundle.
        base: a base model elsewhere (diffusers folder or .safetensors file) instead of the bundle's own.

    Raises: UserError naming the first file that is missing, empty, damaged, a web page or a git-lfs pointer.
    """
    bundle = open_untrained_bundle(folder, base)
    _read_json(bundle.identitynet / "config.json")
    check_weights(bundle.identitynet / "diffusion_pytorch_model.safetensors")
    check_weights(bundle.adapter)
    return bundle


def open_untrained_bundle(folder: Path, base: Path | None = None) -> Bundle:
    """As `open_bundle`, but IdentityNet and adapter are not looked at: they may have yet to be trained."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise user_error("weights.no_folder", folder=folder)
    base = check_base(Path(base).expanduser() if base else _own_base(folder))
    base_config = folder / "base_config"
    if base.is_dir() or not base_config.is_dir():
        base_config = None
    else:
        _check_description(base_config)
    adapter = folder / "ip-adapter.safetensors"
    if not adapter.exists():
        adapter = folder / "ip-adapter.bin"
    face_pack = repair_face_pack(folder / "antelopev2")
    for model in face_pack.glob("*.onnx"):
        check_weights(model)
    variants = {_variant(path.name for path in (base / model).glob("*")) for model in MODELS}
    return Bundle(
        base=base,
        identitynet=folder / "ControlNetModel",
        adapter=adapter,
        face_pack=face_pack,
        base_config=base_config,
        variant="fp16" if "fp16" in variants else None,
        description=_description(folder, base),
    )


def check_base(base: Path) -> Path:
    """`base`, if it is a whole diffusers SDXL folder or a whole .safetensors file.

    Raises: UserError naming what is wrong with it.
    """
    if not base.exists():
        raise user_error("weights.base_not_found", path=base)
    if base.is_file() and base.suffix == ".safetensors":
        check_weights(base)
    elif (base / "model_index.json").exists():
        _check_description(base)
        for model in MODELS:
            _check_model(base / model)
    else:
        raise user_error("weights.base_not_usable", path=base)
    return base


def weight_files(names: Iterable[str]) -> list[str]:
    """Of the file names in one model's folder, those to load: the fp16 ones where there are any, else the plain ones.

    Other formats (.bin, .ckpt, .onnx, .msgpack) and other variants (ema, bf16) are left out.
    """
    weights = sorted(name for name in names if _WEIGHT_NAME.fullmatch(name))
    half = [name for name in weights if ".fp16" in name]
    chosen = half or weights
    return chosen if any(name.endswith(".safetensors") for name in chosen) else []


def check_weights(file: Path) -> None:
    """Look at the ends of a .safetensors, .bin or .onnx file, without reading it whole.

    Raises: UserError if it is missing, empty, a web page, a git-lfs pointer, or shorter than its own header says.
    """
    head = _head(file)
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="np"):
                pass  # opening compares the header with the size of the file
        except SafetensorError as error:
            raise user_error("weights.damaged", file=file, size=readable_size(file), reason=error) from error
    elif file.suffix == ".bin" and not (zipfile.is_zipfile(file) or head.startswith(b"\x80")):
        # torch writes zip archives, whose directory comes last; before 1.6 it wrote bare pickles: 0x80 first.
        reason = "not a whole torch checkpoint"
        raise user_error("weights.damaged", file=file, size=readable_size(file), reason=reason)


def repair_face_pack(folder: Path) -> Path:
    """The folder that directly holds the face models, after mending what the official archive does.

    That archive nests `antelopev2/antelopev2/*.onnx`, and insightface looks one level deep only. Nested models are
    moved up, a zip that was not extracted is extracted; other files stay where they are. On a disk that cannot be
    written to, the nested folder itself is returned.

    Raises: UserError if there are no face models.
    """
    for nested in sorted(path for path in folder.glob("*") if path.is_dir()):
        if _is_pack(_onnx_names(folder)):
            break
        try:
            _move_up(nested, folder)
        except OSError:
            if _is_pack(_onnx_names(nested)):
                return nested
    archives = [path for path in (*sorted(folder.glob("*.zip")), folder.with_suffix(".zip")) if path.is_file()]
    if archives and not _is_pack(_onnx_names(folder)):
        _extract_models(archives[0], folder)
    if not _is_pack(_onnx_names(folder)):
        found = ", ".join(sorted(path.name for path in folder.glob("*"))) or "—"
        raise user_error("weights.no_face_models", folder=folder, found=found, needed=" + ".join(FACE_MODELS))
    return folder


def readable_size(size: int | Path) -> str:
    """A number of bytes, or the size of a file, for people: "134 bytes", "2.5 GB" (1 GB = 10⁹ bytes)."""
    size = size.stat().st_size if isinstance(size, Path) else size
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def _own_base(folder: Path) -> Path:
    """The base model of a bundle: base/, base.safetensors, or the only one in bases/."""
    places = [path for path in (folder / "base", folder / "base.safetensors") if path.exists()]
    places = places[:1] or sorted((folder / "bases").glob("*"))
    if not places:
        raise user_error("weights.missing", file=folder / "base")
    if len(places) > 1:
        raise user_error("weights.which_base", folder=folder, bases=", ".join(path.name for path in places))
    place = places[0]
    single_files = list(place.glob("*.safetensors"))
    return single_files[0] if len(single_files) == 1 and not (place / "model_index.json").exists() else place


def _check_description(folder: Path) -> None:
    """Check everything but the weights of a diffusers SDXL folder."""
    index = folder / "model_index.json"
    kind = str(_read_json(index).get("_class_name"))
    if not kind.startswith("StableDiffusionXL"):
        raise user_error("weights.not_sdxl", file=index, found=kind)
    _read_json(folder / "scheduler" / "scheduler_config.json")
    for tokenizer in TOKENIZERS:
        if not (folder / tokenizer / "tokenizer.json").exists():
            _read_json(folder / tokenizer / "vocab.json")
            _head(folder / tokenizer / "merges.txt")
    for model in MODELS:
        _read_json(folder / model / "config.json")


def _check_model(folder: Path) -> None:
    names = [path.name for path in folder.iterdir()]
    weights = weight_files(names)
    if not weights:
        raise user_error("weights.no_safetensors", folder=folder, found=", ".join(sorted(names)))
    needed = set(weights)
    for index in (name for name in weights if name.endswith(".json")):
        needed |= {PurePosixPath(shard).name for shard in _read_json(folder / index).get("weight_map", {}).values()}
    shard = next((name for name in weights if re.search(r"-of-\d{5}", name)), None)
    if shard and not any(name.endswith(".json") for name in weights):
        raise user_error("weights.missing", file=folder / f"{shard.partition('-0')[0]}.safetensors.index.json")
    for name in sorted(needed):
        if name.endswith(".safetensors"):
            check_weights(folder / name)


def _variant(names: Iterable[str]) -> str | None:
    return "fp16" if any(".fp16" in name for name in weight_files(names)) else None


def _head(file: Path) -> bytes:
    """The first bytes of a file that exists, holds something and is what its name says."""
    if not file.is_file():
        raise user_error("weights.missing", file=file)
    with file.open("rb") as stream:
        head = stream.read(200)
    if not head:
        raise user_error("weights.empty", file=file)
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise user_error("weights.html", file=file, size=readable_size(file))
    if head.startswith(b"version https://git-lfs"):
        raise user_error("weights.pointer", file=file, size=readable_size(file))
    return head


def _read_json(file: Path) -> dict:
    _head(file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"{type(content).__name__} instead of an object")
    except ValueError as error:
        raise user_error("weights.bad_json", file=file, size=readable_size(file), reason=error) from error
    return content


def _description(folder: Path, base: Path) -> str | dict[str, str]:
    """What bundle.json says of the bundle, or the base model's name."""
    own = folder / "bundle.json"
    told = _read_json(own).get("description") if own.exists() else None
    if isinstance(told, dict) and set(LANGUAGES) <= set(told):
        return {language: str(told[language]) for language in LANGUAGES}
    return str(told or f"InstantID · {base.name}")


def _onnx_names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.onnx")}


def _is_pack(names: set[str]) -> bool:
    """Both models of antelopev2, or two of another pack, but not half of antelopev2."""
    ours = names.intersection(FACE_MODELS)
    return len(ours) == len(FACE_MODELS) or (not ours and len(names) >= 2)


def _move_up(nested: Path, folder: Path) -> None:
    for name in _onnx_names(nested):
        if not (folder / name).exists():
            (nested / name).rename(folder / name)
    if not any(nested.iterdir()):
        nested.rmdir()


def _extract_models(archive: Path, folder: Path) -> None:
    """Write the .onnx members of `archive` straight into `folder`, whatever folders they claim to be in."""
    folder.mkdir(exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.infolist():
                name = PurePosixPath(member.filename.replace("\\", "/")).name
                if not name.endswith(".onnx"):
                    continue
                partial = folder / f"{name}.part"
                with content.open(member) as source, partial.open("wb") as target:
                    shutil.copyfileobj(source, target)
                partial.replace(folder / name)
    except zipfile.BadZipFile as error:
        raise user_error("weights.damaged", file=archive, size=readable_size(archive), reason=error) from error

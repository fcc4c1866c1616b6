"""Which weights are needed, from where, and how to have them: `obtain_bundle` is the one entry for the rest of the app.

Files go straight to their place in the bundle, see `instantid.bundle`; `instantid.hub` fetches them.
"""

import difflib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from instantid.bundle import (
    FACE_MODELS,
    MODELS,
    TOKENIZERS,
    Bundle,
    check_base,
    open_bundle,
    readable_size,
    weight_files,
)
from instantid.hub import (
    DownloadProgress,
    Hub,
    OnDownload,
    PlannedFile,
    Repository,
    fetch_files,
    is_repo_id,
    list_repository,
)
from instantid.messages import DEFAULT_LANGUAGE, UserError, machine_error, say, user_error

IDENTITY_REPO = "InstantX/InstantID"
IDENTITY_FILES = (
    "ControlNetModel/config.json",
    "ControlNetModel/diffusion_pytorch_model.safetensors",
    "ip-adapter.bin",
)
FACE_REPO = "DIAMONIK7777/antelopev2"  # the official archive, file by file
SDXL_REPO = "stabilityai/stable-diffusion-xl-base-1.0"
PROGRESS_STEP = 5  # percent between two lines

_WEIGHT_SUFFIXES = (".safetensors", ".ckpt", ".bin", ".pt")
_HUB_ADDRESS = re.compile(
    r"(https?://(huggingface\.co|hf\.co)/)?(?P<repo>[\w.-]+/[\w.-]+)"
    r"((/(blob|resolve)/[^/]+)?/(?P<file>[^?]+\.safetensors))?/?(\?.*)?$"
)


@dataclass(frozen=True)
class BaseModel:
    """A base model people can pick by name."""

    repo_id: str
    licence: str | None  # None: only its page says
    spanish: str
    english: str


DEFAULT_BASE = "YamerMIX_v8"
BASE_MODELS: dict[str, BaseModel] = {
    DEFAULT_BASE: BaseModel(
        "wangqixun/YamerMIX_v8",
        None,
        "Ilustración y retrato; el modelo con el que se presentó InstantID",
        "Illustration and portrait; the model InstantID was shown with",
    ),
    "sdxl-base-1.0": BaseModel(
        SDXL_REPO,
        "openrail++",
        "El SDXL original, sin estilo propio",
        "The original SDXL, without a look of its own",
    ),
    "RealVisXL_V5.0": BaseModel(
        "SG161222/RealVisXL_V5.0",
        "openrail++",
        "Fotografía realista",
        "Realistic photographs",
    ),
}


@dataclass(frozen=True)
class BaseSource:
    """Where a base model comes from: a path on this machine, or a hub repository, or one file of a repository."""

    path: Path | None = None
    repo_id: str | None = None
    file: str | None = None  # inside the repository

    @property
    def name(self) -> str:
        return self.path.name if self.path else "/".join(filter(None, (self.repo_id, self.file)))

    @property
    def is_single_file(self) -> bool:
        return self.path.is_file() if self.path else self.file is not None

    def place(self, folder: Path) -> Path:
        """Where it lies, or will lie, in the bundle `folder`: base/ is the default's, bases/ holds all others."""
        if self.path:
            return self.path
        if self.repo_id == BASE_MODELS[DEFAULT_BASE].repo_id and not self.file:
            return folder / "base"
        place = folder / "bases" / self.repo_id.replace("/", "--")
        return place / PurePosixPath(self.file).name if self.file else place


@dataclass(frozen=True)
class DownloadPlan:
    """What a download will fetch, and what that takes."""

    folder: Path
    base: Path  # the base model, once all is there
    files: tuple[PlannedFile, ...]
    licences: tuple[tuple[str, str | None], ...]  # repository, key of a sentence or the licence's own name
    free_bytes: int  # on the disk of `folder`
    hub: Hub

    @property
    def total_bytes(self) -> int:
        return sum(file.source.size for file in self.files)

    @property
    def remaining_bytes(self) -> int:
        return self.total_bytes - sum(file.bytes_here for file in self.files)


def default_folder() -> Path:
    """`$INSTANTID_HOME`, or ~/.cache/instantid."""
    return Path(os.environ.get("INSTANTID_HOME") or "~/.cache/instantid").expanduser()


def resolve_base(text: str | Path) -> BaseSource:
    """What a person means by `text`: a name of `BASE_MODELS`, a diffusers folder, a .safetensors file, a hub
    repository "owner/name", one file of it "owner/name/file.safetensors", or the address of either on the hub.

    Raises: UserError with near names.
    """
    text = str(text).strip()
    if text in BASE_MODELS:
        return BaseSource(repo_id=BASE_MODELS[text].repo_id)
    path = Path(text).expanduser()
    if text and path.exists():
        if path.is_file() and path.suffix != ".safetensors":
            raise user_error("weights.base_not_usable", path=path)
        return BaseSource(path=path.absolute())
    address = _HUB_ADDRESS.match(text)
    repo_id, file = (address["repo"], address["file"]) if address else ("", None)
    if is_repo_id(repo_id) and not repo_id.endswith(_WEIGHT_SUFFIXES) and ".." not in (file or "").split("/"):
        return BaseSource(repo_id=repo_id, file=file)
    if text.endswith(_WEIGHT_SUFFIXES) or text.startswith((".", "/", "~")):
        raise user_error("weights.base_not_found", path=path)
    names = {name.lower(): name for name in BASE_MODELS}
    near = difflib.get_close_matches(text.lower(), names, n=2, cutoff=0.3)
    suggested = ", ".join(names[name] for name in near) or DEFAULT_BASE
    raise user_error("weights.unknown_base", text=text, known=", ".join(BASE_MODELS), near=suggested)


def plan_download(
    base: str | Path | BaseSource, folder: Path, *, token: str | None = None, endpoint: str | None = None
) -> DownloadPlan:
    """Ask the hub which files are needed and how large they are; downloads nothing.

    Args:
        base: see `resolve_base`.
        folder: the bundle to be.
        token, endpoint: of the hub; None = huggingface_hub's own.

    Raises: UserError if the base model cannot be used, MachineError if the hub cannot be asked.
    """
    source = base if isinstance(base, BaseSource) else resolve_base(base)
    folder = Path(folder).expanduser().absolute()
    hub = Hub(endpoint, token)
    files: list[PlannedFile] = []
    licences: list[tuple[str, str | None]] = []

    def add(repo_id: str, into: Path, choose: Callable[[Repository], Sequence[str]]) -> None:
        repository = list_repository(repo_id, hub)
        for name in choose(repository):
            if name not in repository.files:
                raise machine_error("weights.file_not_found", repo=repo_id, file=name)
            path = into if name == source.file else into / name
            files.append(PlannedFile(repository.files[name], path, default_folder() / path.relative_to(folder)))
        if choose is not _description_files:
            licences.append((repo_id, _licence(repository)))

    if source.path:
        check_base(source.path)
    elif source.file:
        add(source.repo_id, source.place(folder), lambda repository: [source.file])
    else:
        add(source.repo_id, source.place(folder), _base_files)
    if source.is_single_file:
        add(SDXL_REPO, folder / "base_config", _description_files)
    add(IDENTITY_REPO, folder, lambda repository: IDENTITY_FILES)
    add(FACE_REPO, folder / "antelopev2", lambda repository: FACE_MODELS)
    return DownloadPlan(folder, source.place(folder), tuple(files), tuple(licences), _free_bytes(folder), hub)


def announcement(plan: DownloadPlan, language: str = DEFAULT_LANGUAGE) -> list[str]:
    """The lines to show before the first byte: sizes, free disk, one licence per repository."""
    sizes = {"remaining": plan.remaining_bytes, "total": plan.total_bytes, "free": plan.free_bytes}
    readable = {name: readable_size(size) for name, size in sizes.items()}
    lines = [say("weights.announce_size", language, folder=plan.folder, **readable)]
    for repo_id, licence in plan.licences:
        if licence is None or licence.startswith("weights."):
            licence = say(licence or "weights.licence_on_page", language, repo=repo_id)
        lines.append(say("weights.announce_licence", language, repo=repo_id, licence=licence))
    return lines


def download(
    plan: DownloadPlan,
    on_progress: OnDownload | None = None,
    language: str = DEFAULT_LANGUAGE,
    write: Callable[[str], None] = print,
) -> Bundle:
    """Fetch what is not there yet, after saying sizes and licences, and check the bundle.

    Args:
        on_progress: called on this thread a few times a second; raise in it to stop. None: lines of text.
        language: of the lines.
        write: takes each line.

    Raises: MachineError naming repository and file. Whatever arrived is kept for the next call.
    """
    _fetch(plan, on_progress, language, write)
    return open_bundle(plan.folder, plan.base)


def obtain_file(
    repo_id: str,
    name: str,
    folder: Path,
    *,
    endpoint: str | None = None,
    on_progress: OnDownload | None = None,
    language: str = DEFAULT_LANGUAGE,
    write: Callable[[str], None] = print,
) -> Path:
    """One file of a repository, downloaded into `folder` if it is not there; arguments as of `download`.

    Raises: MachineError naming repository and file.
    """
    place = Path(repo_id.replace("/", "--")) / PurePosixPath(name).name
    if (folder / place).is_file():
        return folder / place
    hub = Hub(endpoint)
    repository = list_repository(repo_id, hub)
    if name not in repository.files:
        raise machine_error("weights.file_not_found", repo=repo_id, file=name)
    elsewhere = default_folder() / folder.name / place
    file = PlannedFile(repository.files[name], folder / place, elsewhere if elsewhere != folder / place else None)
    licences = ((repo_id, _licence(repository)),)
    _fetch(
        DownloadPlan(folder, folder / place, (file,), licences, _free_bytes(folder), hub), on_progress, language, write
    )
    return folder / place


def _free_bytes(folder: Path) -> int:
    """On the disk where `folder` is, or will be."""
    return shutil.disk_usage(next(parent for parent in (folder, *folder.parents) if parent.exists())).free


def _fetch(plan: DownloadPlan, on_progress: OnDownload | None, language: str, write: Callable[[str], None]) -> None:
    for line in announcement(plan, language):
        write(line)
    if plan.remaining_bytes > plan.free_bytes:
        needed, free = readable_size(plan.remaining_bytes), readable_size(plan.free_bytes)
        raise machine_error("weights.does_not_fit", needed=needed, free=free, folder=plan.folder)
    fetch_files(plan.files, plan.folder, plan.hub, on_progress or _progress_lines(language, write))


def obtain_bundle(
    source: str | Path | None = None,
    base: str | Path | None = None,
    folder: str | Path | None = None,
    *,
    token: str | None = None,
    endpoint: str | None = None,
    on_progress: OnDownload | None = None,
    language: str = DEFAULT_LANGUAGE,
    write: Callable[[str], None] = print,
) -> Bundle:
    """A checked bundle: the one in `source`, or else the published weights in `folder`, downloaded if need be.

    When everything is there the network is not touched.

    Args:
        source: a bundle on this machine; it is only read.
        base: see `resolve_base`; None = the bundle's own base, or `DEFAULT_BASE`.
        folder: where downloads go; None = `default_folder()`. What lies there already is copied into another folder.

    Raises: UserError, MachineError; see `open_bundle`, `plan_download`, `download`.
    """
    wanted = resolve_base(base) if base else None
    if source:
        source = Path(source).expanduser()
        return open_bundle(source, wanted and wanted.place(source))
    folder = Path(folder).expanduser() if folder else default_folder()
    wanted = wanted or resolve_base(DEFAULT_BASE)
    try:
        bundle = open_bundle(folder, wanted.place(folder))
    except UserError:
        bundle = None
    if bundle is None or (wanted.is_single_file and bundle.base_config is None):
        bundle = download(plan_download(wanted, folder, token=token, endpoint=endpoint), on_progress, language, write)
    return replace(bundle, description=f"InstantID · {wanted.name}")


def _base_files(repository: Repository) -> list[str]:
    """The files of an SDXL repository in diffusers format that a pipeline needs."""
    files = _description_files(repository)
    for model in MODELS:
        inside = [name.removeprefix(f"{model}/") for name in repository.files if name.startswith(f"{model}/")]
        weights = weight_files(inside)
        if not weights:
            raise user_error("weights.repo_no_safetensors", repo=repository.repo_id, component=model)
        files += [f"{model}/{name}" for name in weights]
    return files


def _description_files(repository: Repository) -> list[str]:
    """The small ones: index, scheduler, tokenizers, configs of the models."""
    files = ["model_index.json", "scheduler/scheduler_config.json", *(f"{model}/config.json" for model in MODELS)]
    missing = [name for name in files if name not in repository.files]
    for tokenizer in TOKENIZERS:
        found = [name for name in repository.files if re.fullmatch(rf"{tokenizer}/[^/]+\.(json|txt)", name)]
        files += found
        missing += [] if found else [f"{tokenizer}/"]
    if missing:
        raise user_error("weights.repo_not_sdxl", repo=repository.repo_id, missing=", ".join(missing))
    return files


def _licence(repository: Repository) -> str | None:
    """The key of a sentence, or what the repository's card or our table says; None if neither does."""
    if repository.repo_id in (IDENTITY_REPO, FACE_REPO):
        return "weights.licence_research"
    known = {model.repo_id: model.licence for model in BASE_MODELS.values()}
    return repository.licence or known.get(repository.repo_id)


def _progress_lines(language: str, write: Callable[[str], None]) -> OnDownload:
    told = -1

    def report(progress: DownloadProgress) -> None:
        nonlocal told
        percent = 100 * progress.done_bytes // max(progress.total_bytes, 1)
        if percent // PROGRESS_STEP > told:
            told = percent // PROGRESS_STEP
            sizes = {"done": readable_size(progress.done_bytes), "total": readable_size(progress.total_bytes)}
            write(say("weights.progress", language, percent=percent, **sizes))

    return report

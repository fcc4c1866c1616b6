"""From a bundle on disk to models ready to generate. The same way for every bundle: published, shipped or random."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import diffusers
import transformers

from instantid.assembly import assemble, large_files, reading
from instantid.bundle import SHIPPED_BUNDLE, Bundle, open_bundle
from instantid.compiled_code import code_file, keep_code, read_code
from instantid.component_sizes import component_sizes
from instantid.expected_memory import Picture
from instantid.faces import FaceAnalyser
from instantid.few_steps import FEW_STEPS, NO_FEW_STEPS
from instantid.hardware import (
    Hardware,
    detect_hardware,
    free_memory,
    is_out_of_memory,
    limit_vram,
    prepare_allocator,
)
from instantid.hub import OnDownload
from instantid.live_line import live_line
from instantid.memory_plan import GRAPHED, MemoryPlan, PlanOptions, choose_plan
from instantid.messages import DEFAULT_LANGUAGE, LANGUAGES, machine_error, say
from instantid.monitor import MemoryMonitor
from instantid.random_bundle import write_random_bundle
from instantid.streaming import reading_ahead
from instantid.weights import default_folder, obtain_bundle, obtain_file
from ip_adapter.errors import InstantIDError, MachineError
from ip_adapter.recent import Recent
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline

DEMO = "demo"  # in the place of a base model: the small bundle, whatever the machine
RECENT_TEXTS = 8  # prompts whose embeddings are kept: a megabyte each


class Models:
    """Everything that `generate_image` needs, and the plan that it was loaded by.

    Attributes:
        pipeline: None once released.
        faces: None once released.
        plan: what is in force; a lower rung after a step down.
        hardware: before loading.
        scheduler_config: the base model's own; each request lays its scheduler over it.
        folder: where downloads go.
        texts: the embeddings of the last few prompts.
        lock: one generation at a time.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: PlanOptions,
        hardware: Hardware | None,
        faces_on: str,
        language: str,
        write: Callable[[str], None],
    ) -> None:
        self.bundle, self.options = bundle, options
        self.language, self.write = language, write
        self.hardware = hardware or detect_hardware(bundle.identitynet)
        self.lock = threading.Lock()
        self.faces: FaceAnalyser | None = None
        self.pipeline: StableDiffusionXLInstantIDPipeline | None = None
        self.scheduler_config: dict = {}
        self.texts: Recent[tuple] = Recent(RECENT_TEXTS)
        self.folder = default_folder()
        self._few_steps = NO_FEW_STEPS  # whose LoRA is on the UNet
        self._has_read_code = False
        self._faces_on = faces_on
        self._sizes = component_sizes(bundle)
        self.plan = choose_plan(self.hardware, self._sizes, options)

    @property
    def native_size(self) -> int:
        """Pixels: the square side that the base model was made for; 1024 for SDXL."""
        return self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor

    def load(self) -> None:
        """Read everything by the plan; where that turns out too large, by the next rung below.

        Raises: InstantIDError in one sentence; nothing is left on the GPU then.
        """
        self.write(say("loading.description", self.language, description=self.bundle.described(self.language)))
        self.write(self.plan.text(self.language))
        try:
            with reading_ahead(large_files(self.bundle, self.plan)):
                if failure := self._within_memory(self._load_faces):
                    raise failure
                while failure := self._assemble():
                    self._take_next_rung(failure)
        except InstantIDError:
            self.release()
            raise

    def use_few_steps(self, name: str, on_progress: OnDownload) -> None:
        """Have the LoRA of `name` on the UNet, a key of `FEW_STEPS`, or none of them; downloaded at its first use.

        A LoRA of the person's own stays. The caller holds the lock.

        Raises: MachineError if it cannot be downloaded, UserError if it does not fit the base model.
        """
        if name == self._few_steps:
            return
        if self._few_steps in FEW_STEPS:
            ours = _adapter_name(self._few_steps)
            if self.pipeline.get_active_adapters() == [ours]:
                self.pipeline.unload_lora_weights()
            else:
                self.pipeline.delete_adapters(ours)
            self._few_steps = NO_FEW_STEPS
        if name in FEW_STEPS:
            wanted = FEW_STEPS[name]
            options = {"on_progress": on_progress, "language": self.language, "write": self.write}
            file = obtain_file(wanted.repo_id, wanted.file, self.folder / "loras", **options)
            with reading(file, "loading.lora_failed"), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # peft's, where there is a LoRA already
                others = self.pipeline.get_active_adapters()
                self.pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=_adapter_name(name))
                self.pipeline.set_adapters([*others, _adapter_name(name)])
            self._few_steps = name

    @contextmanager
    def kept_code(self) -> Iterator[None]:
        """Around a generation: what an earlier session compiled is used, and what this one compiles is kept."""
        compiled, graphs = self.pipeline.compiled_blocks, self.pipeline.cuda_graphs
        file = code_file(self.folder, self.hardware.name)
        if compiled and not self._has_read_code:
            self._has_read_code = True
            read_code(file)
        before = graphs.captures if graphs else 0
        yield
        if compiled and not compiled.failure and graphs and graphs.captures > before:  # a size that is new
            keep_code(file)

    def step_down(self, picture: Picture) -> None:
        """Load again by the next rung that uses less memory, for `picture` to fit. The caller holds the lock.

        Raises: MachineError if there is none; then what was loaded stays.
        """
        if self.plan.speed in GRAPHED:  # its graphs go first: that costs time, and hardly anything else
            self.plan = self.plan.slower()
            self.pipeline.disable_cuda_graphs()
            self.pipeline.disable_compilation()
            free_memory()
            return
        before = self.plan
        self.plan = self._next_rung(picture)
        self.pipeline = None
        while failure := self._assemble():
            try:
                self._take_next_rung(failure, picture)
            except InstantIDError:
                self.plan = before  # it had been loaded: smaller pictures go on
                if again := self._assemble():
                    raise again from None
                raise

    def release(self) -> None:
        """Give the memory back, once a running generation has ended; pages that still hold these models then say so."""
        with self.lock:
            self.pipeline = self.faces = None
            self.texts = Recent(RECENT_TEXTS)
        free_memory()

    def about(self) -> dict[str, str]:
        """One line for the head of the page, in each language."""
        device = self.hardware.name if self.plan.device == self.hardware.device else self.plan.device
        facts = {"device": device, "precision": self.plan.precision}
        return {
            language: say("loading.about", language, description=self.bundle.described(language), **facts)
            for language in LANGUAGES
        }

    def _load_faces(self, monitor: MemoryMonitor) -> None:
        monitor.stage("start")
        self.faces = FaceAnalyser(self.bundle.face_pack, self._faces_on)
        monitor.write(say("loading.faces_on", self.language, provider=self.faces.provider))
        monitor.stage("faces")

    def _load_pipeline(self, monitor: MemoryMonitor) -> None:
        self.texts, self._few_steps = Recent(RECENT_TEXTS), NO_FEW_STEPS
        self.pipeline = assemble(self.bundle, self.plan, monitor)
        monitor.stage("ready")
        self.scheduler_config = dict(self.pipeline.scheduler.config)

    def _assemble(self) -> MachineError | None:
        """The pipeline by the plan, or what a person is told if memory is too small; then none of it is left."""
        if self.plan.device == "cuda" and self.plan.memory_fraction:
            limit_vram(self.plan.memory_fraction * self.hardware.vram_total_gib)
        return self._within_memory(self._load_pipeline)

    def _within_memory(self, load: Callable[[MemoryMonitor], None]) -> MachineError | None:
        """Runs a part of the loading. Where memory is too small, what a person is told; then nothing of it is left."""
        try:
            with MemoryMonitor(self.write, self.language, show=live_line()) as monitor:
                load(monitor)
        except Exception as error:
            if not is_out_of_memory(error):
                if isinstance(error, InstantIDError):  # its frames hold what had been loaded
                    error.__cause__ = error.__context__ = error.__traceback__ = None
                raise
            detail = str(error).split(". ")[0] or type(error).__name__
            failure = machine_error("loading.out_of_memory", device=self.plan.device, detail=detail)
        else:
            return None
        free_memory()  # outside the handler: the traceback held what had been loaded
        return failure

    def _take_next_rung(self, failure: MachineError, picture: Picture | None = None) -> None:
        try:
            self.plan = self._next_rung(picture)
        except MachineError:
            raise failure from None
        self.write(say("loading.stepped_down", self.language))
        self.write(self.plan.text(self.language))

    def _next_rung(self, picture: Picture | None) -> MemoryPlan:
        return choose_plan(self.hardware, self._sizes, self.options, picture, below=self.plan.rung)


def load_models(
    source: str | Path | None = None,
    base: str | Path | None = None,
    *,
    folder: str | Path | None = None,
    options: PlanOptions | None = None,
    faces_on: str = "cpu",
    language: str = DEFAULT_LANGUAGE,
    write: Callable[[str], None] = print,
) -> Models:
    """Obtain a bundle (download it if need be), plan the memory, and load, with a memory line at each stage.

    Args:
        source, base, folder: which bundle, see `choose_bundle`.
        options: what the person decides about memory themselves.
        faces_on: "cpu" or "cuda".
        language: of the lines.
        write: takes each line.

    Raises: InstantIDError in one sentence; nothing is left on the GPU then.
    """
    prepare_allocator()
    bundle = choose_bundle(source, base, folder, language=language, write=write)
    return load_bundle(bundle, folder=folder, options=options, faces_on=faces_on, language=language, write=write)


def choose_bundle(
    source: str | Path | None = None,
    base: str | Path | None = None,
    folder: str | Path | None = None,
    *,
    language: str = DEFAULT_LANGUAGE,
    write: Callable[[str], None] = print,
) -> Bundle:
    """The bundle to load: the one that is asked for, else the published weights, else one small enough for anywhere.

    Args:
        source: a bundle folder; None = the published weights, downloaded to `folder`. Without a GPU and without `base`,
            and where there is no network to download them through, the small bundle instead.
        base: base model: a name of `weights.BASE_MODELS`, a hub id, a diffusers folder or a .safetensors file; or
            `DEMO`, the small bundle.

    Raises: UserError, MachineError; see `obtain_bundle`.
    """
    if not source and (base == DEMO or (not base and detect_hardware().device == "cpu")):
        return open_bundle(_small_bundle())
    try:
        return obtain_bundle(source, base, folder, language=language, write=write)
    except MachineError as error:
        if source or base or error.code != "weights.network" or not SHIPPED_BUNDLE.is_dir():
            raise
        write(say("loading.no_network", language))
        return open_bundle(SHIPPED_BUNDLE)


def load_bundle(
    bundle: Bundle,
    *,
    folder: str | Path | None = None,
    options: PlanOptions | None = None,
    hardware: Hardware | None = None,
    faces_on: str = "cpu",
    language: str = DEFAULT_LANGUAGE,
    write: Callable[[str], None] = print,
) -> Models:
    """As `load_models`, from a bundle that is on disk already. `hardware`: to plan for; None = this machine."""
    start = time.perf_counter()
    quiet_libraries()
    prepare_allocator()
    models = Models(bundle, options or PlanOptions(), hardware, faces_on, language, write)
    models.folder = Path(folder).expanduser() if folder else models.folder
    models.load()
    write(say("loading.ready", language, seconds=round(time.perf_counter() - start, 1)))
    return models


def _adapter_name(few_steps: str) -> str:
    """As peft knows it: a name may hold no dots, and must not meet one of the person's own."""
    return f"instantid-{few_steps}"


def _small_bundle() -> Path:
    """The published weights take minutes a picture on a processor; a small bundle shows the whole way in seconds.

    The trained one where it came with the code, else one of random weights.
    """
    return SHIPPED_BUNDLE if SHIPPED_BUNDLE.is_dir() else write_random_bundle(default_folder() / "random-bundle")


def quiet_libraries() -> None:
    """Our memory lines tell how far loading is, our errors what is wrong; bars and remarks between them disturb."""
    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()

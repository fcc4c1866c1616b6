"""Do the installed versions work together, does PyTorch see the GPU, and what mends it if not.

Works when packages are missing, half uninstalled or broken: versions come from metadata, and whatever needs an import
is asked of a child process (`instantid.probe`).
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

from instantid.cures import DRIVER, GPU, INSTALLER, NEW_ENVIRONMENT, RESTART, Cure, pip, reinstall
from instantid.messages import LANGUAGES, say
from instantid.probe import ask_libraries, can_be_found, nvidia_gpu
from instantid.requirements import (
    ONNXRUNTIME,
    OPENCV,
    Requirement,
    fits,
    half_installed,
    installed_versions,
    module_of,
    needs_of,
    parsed,
    project_requirements,
    read_requirements,
    suited,
)

OLDEST_PYTHON = (3, 10)

# Newest versions that the tests ran with. A newer one is welcome and said to be newer.
TESTED: dict[str, str] = {
    "torch": "2.13",
    "diffusers": "0.42.1",
    "transformers": "5.23.0",
    "accelerate": "1.15.0",
    "huggingface-hub": "2.4.0",
    "insightface": "2.1",
    "gradio": "6.31.0",
    "psutil": "7.2",
    "peft": "0.21",
    **dict.fromkeys(ONNXRUNTIME, "1.32"),
    **dict.fromkeys(OPENCV, "5.0.0"),
}
SHOWN_NAMES = {"torch": "PyTorch"}
BASIC = ("torch", "diffusers", "transformers", "accelerate", "huggingface-hub")

# Compiled: the ones that break although their files are there. torchvision is not needed, but a broken one keeps
# transformers from being imported.
IMPORTED = ("torch", "onnxruntime", "cv2", "insightface", "torchvision")
# What insightface imports first of all: package -> module. Asked only when insightface itself cannot be imported.
INSIGHTFACE_IMPORTS = {
    "numpy": "numpy",
    "protobuf": "google.protobuf.json_format",  # most of protobuf; the package itself is next to empty
    "onnx": "onnx",
    "scipy": "scipy.spatial",
    "scikit-image": "skimage.transform",
    "requests": "requests",
    "tqdm": "tqdm",
}

ENOUGH_RAM_GIB = 6.0  # weights go straight to the GPU: what stays is Python, its libraries and what waits its turn
WHOLE_VRAM_GIB = 12.0  # everything resident at 1024×1024; below that the memory plan finds another way
WEIGHTS_GIB = 10.0  # base model, IdentityNet, adapter and face models in fp16

HARDWARE = "instantid.hardware"  # asked in the same child as the libraries

CUDA = "CUDAExecutionProvider"  # onnxruntime's name for it
MARKS = {"ok": "✅", "warning": "⚠️", "error": "❌"}


class HardwareFacts(Protocol):
    """What the check reads of the machine; each is None where it is unknown."""

    ram_gib: float | None  # all of the machine
    vram_gib: float | None  # of the GPU in use
    disk_gib: float | None  # free, where the weights go


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str  # package name, "python", "cuda", "ram", "vram" or "disk"
    level: str  # "ok", "warning" or "error"
    version: str | None
    sentence: dict[str, str]  # language -> what was found
    cure: Cure | None = None

    def command(self, language: str) -> str | None:
        """The one command, cell or menu entry that mends it, where this is read."""
        return self.cure.text(language) if self.cure else None

    def text(self, language: str) -> str:
        """The line for a person, and the cure on an indented line of its own."""
        cure = f"\n   → {self.command(language)}" if self.cure else ""
        return f"{MARKS[self.level]} {self.sentence[language]}{cure}"


@dataclass(frozen=True)
class CheckReport:
    """What the check found."""

    findings: tuple[Finding, ...]
    versions: dict[str, str | None]  # name -> version of the basic packages, None where missing
    gpu: str | None  # "Tesla T4 (14.7 GiB)"
    no_gpu: dict[str, str]  # language -> why there is none
    language: str = "es"

    @property
    def ok(self) -> bool:
        """Nothing found that keeps InstantID from working."""
        return all(finding.level != "error" for finding in self.findings)

    @property
    def data(self) -> dict[str, Any]:
        """Everything, ready for JSON; sentences in the report's language."""
        findings = [
            {
                "subject": finding.subject,
                "level": finding.level,
                "version": finding.version,
                "sentence": finding.sentence[self.language],
                "command": finding.command(self.language),
            }
            for finding in self.findings
        ]
        return {"ok": self.ok, "versions": self.versions, "gpu": self.gpu, "findings": findings}

    def text(self, language: str | None = None) -> str:
        """The report for a person, in `language` or the report's own."""
        language = language or self.language
        versions = " · ".join(
            f"{SHOWN_NAMES.get(name, name)} {version or say('check.absent', language)}"
            for name, version in self.versions.items()
        )
        if self.gpu:
            gpu = say("check.gpu", language, gpu=self.gpu)
        else:
            gpu = say("check.no_gpu", language, reason=self.no_gpu[language])
        head = [say("check.title", language), say("check.versions", language, versions=versions), gpu]
        lines = [finding.text(language) for finding in self.findings]
        return "\n".join([*head, say("check.compatibility", language), *lines])


def check_environment(
    language: str = "es", hardware: HardwareFacts | None = None, search_path: Sequence[str] | None = None
) -> CheckReport:
    """Looks at everything that is installed; never imports it here.

    Args:
        hardware: memory and disk; None = this machine's, if its libraries can be asked.
        search_path: folders to look for packages in, instead of where this Python looks.
    """
    installed = installed_versions(search_path)
    requirements = project_requirements()
    lost = half_installed(installed, search_path)
    modules = {module_of(name) for name in installed}
    present = [module for module in IMPORTED if module in modules and can_be_found(module, search_path)]
    ask_machine = hardware is None and search_path is None and present
    asked = [*present, HARDWARE] if ask_machine else present
    answers = ask_libraries(asked, search_path) if asked else {}
    if "ram_gib" in answers.get(HARDWARE, {}):
        hardware = SimpleNamespace(**answers[HARDWARE])
    torch = answers.get("torch", {})
    works = "cuda" in torch
    card = None if torch.get("gpu") else nvidia_gpu()
    cuda = torch.get("cuda") if torch.get("vram_gib") else None
    findings = [_python_finding()]
    for requirement in requirements:
        item = suited(requirement, installed, cuda)
        answer = {"lost": True} if item.name in lost else answers.get(module_of(item.name), {})
        if item.name == "insightface" and "error" in answer and fits(item, installed):
            findings.append(_insightface_finding(installed, answers, search_path))
        else:
            findings.append(_package_finding(requirement, item, installed, cuda, answer))
    if works:
        findings.append(_cuda_finding(torch, card))
    if works and (trouble := _trouble(answers.get("torchvision", {}))):
        facts = {"version": installed["torchvision"], "error": trouble}
        findings.append(
            _finding("torchvision", "error", "check.torchvision", pip("uninstall --yes torchvision"), **facts)
        )
    if len(rivals := _onnxruntimes(installed)) > 1:
        facts = {"names": ", ".join(rivals)}
        findings.append(_finding("onnxruntime", "warning", "check.two_onnxruntimes", INSTALLER, **facts))
    return CheckReport(
        findings=(*findings, *_hardware_findings(hardware)),
        versions={"Python": platform.python_version()} | {name: installed.get(name) for name in BASIC},
        gpu=_gpu_words(torch),
        no_gpu=_no_gpu_words(works, card),
        language=language,
    )


def _finding(subject: str, level: str, key: str, cure: Cure | None = None, /, **facts: object) -> Finding:
    sentence = {language: say(key, language, **facts) for language in LANGUAGES}
    return Finding(subject, level, facts.get("version"), sentence, cure)


def _python_finding() -> Finding:
    version, needed = platform.python_version(), ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return _finding("python", "error", "check.python_old", NEW_ENVIRONMENT, version=version, needed=needed)
    return _finding("python", "ok", "check.fits", name="Python", version=version)


def _package_finding(
    asked: Requirement, item: Requirement, installed: Mapping[str, str], cuda: str | None, answer: Mapping[str, Any]
) -> Finding:
    """One package: `asked` by the project, `item` as that reads here, `answer` what its import ended with."""
    name, version = item.name, installed.get(item.name)
    shown = {"name": SHOWN_NAMES.get(name, name), "version": version, "needed": str(item)}
    there = _onnxruntimes(installed)
    if name == "onnxruntime-gpu" and version is None and there:
        plain = shown | {"name": there[0], "version": installed[there[0]]}
        return _finding(there[0], "warning", "check.onnxruntime_cpu", INSTALLER, **plain)
    if version is None:
        return _finding(name, "error", "check.missing", INSTALLER, **shown)
    if not fits(item, installed):
        return _unfit_finding(asked, item, installed, cuda, shown)
    if name == "torch" and (trouble := _trouble(answer)):
        return _finding(name, "error", "check.torch_broken", NEW_ENVIRONMENT, **shown, error=trouble)
    if broken := _broken_finding(name, version, answer, shown, alone=len(there) < 2):
        return broken
    if name == "onnxruntime-gpu" and cuda and CUDA not in answer.get("providers", ()):
        return _finding(name, "warning", "check.onnxruntime_cpu", _cuda_cure(item, installed, answer), **shown)
    number, tested = parsed(version), parsed(TESTED.get(name, version))
    if number.release[: len(tested.release)] > tested.release:
        return _finding(name, "ok", "check.newer", **shown, tested=tested)
    return _finding(name, "ok", "check.fits", **shown)


def _unfit_finding(
    asked: Requirement, item: Requirement, installed: Mapping[str, str], cuda: str | None, shown: Mapping[str, Any]
) -> Finding:
    """A package out of its range. Where only this machine narrowed the range, the sentence says what narrowed it."""
    name = item.name
    in_general = fits(Requirement(f"{name}{asked.specifier}"), installed)
    if name == "torch":
        return _finding(name, "error", "check.torch_old", NEW_ENVIRONMENT, **shown)
    if in_general and name == "onnxruntime-gpu":
        return _finding(name, "warning", "check.onnxruntime_generation", INSTALLER, **shown, cuda=cuda)
    if in_general and name == "insightface":
        return _finding(name, "error", "check.insightface_numpy", INSTALLER, **shown, numpy=installed["numpy"])
    return _finding(name, "error", "check.out_of_range", INSTALLER, **shown)


def _onnxruntimes(installed: Mapping[str, str]) -> list[str]:
    return [name for name in ONNXRUNTIME if name in installed]


def _cuda_cure(item: Requirement, installed: Mapping[str, str], answer: Mapping[str, Any]) -> Cure:
    """For an onnxruntime-gpu that runs on the CPU: another flavour overwrote it, or it finds no CUDA libraries."""
    if len(_onnxruntimes(installed)) > 1:
        return INSTALLER
    if CUDA not in answer.get("offered", ()):
        return reinstall(item.name, installed[item.name])
    return pip(f'install "{item.name}[cuda,cudnn]{item.specifier}"')


def _trouble(answer: Mapping[str, Any]) -> str | None:
    """What an import ended with, in words that need no translation."""
    if "died" in answer:
        return f"exit code {answer['died']}"
    if "hung" in answer:
        return f"> {answer['hung']:.0f} s"
    return "ModuleNotFoundError" if "lost" in answer else answer.get("error")


def _broken_finding(
    name: str, version: str, answer: Mapping[str, Any], shown: Mapping[str, Any], alone: bool
) -> Finding | None:
    """A package that is there and does not work, or None; `alone`: no other flavour may have overwritten it."""
    again = reinstall(name, version) if alone or name not in ONNXRUNTIME else INSTALLER
    if "lost" in answer:
        return _finding(name, "error", "check.no_files", INSTALLER, **shown)
    if "died" in answer:
        return _finding(name, "error", "check.import_died", again, **shown, code=answer["died"])
    if "hung" in answer:
        return _finding(name, "error", "check.import_hung", RESTART, **shown, seconds=answer["hung"])
    if "error" not in answer:
        return None
    if name in OPENCV and ".so" in answer["error"]:
        # The flavours share their versions up to the last number; numpy and whatever uses both stay as they are.
        flavour = f"{name.removesuffix('-headless')}-headless~={parsed(version).base_version.rpartition('.')[0]}"
        headless = pip(f'install --ignore-installed --no-deps "{flavour}"')
        return _finding(name, "error", "check.opencv_screen", headless, **shown, error=answer["error"])
    return _finding(name, "error", "check.import_fails", again, **shown, error=answer["error"])


def _insightface_finding(
    installed: Mapping[str, str], answers: Mapping[str, Mapping[str, Any]], search_path: Sequence[str] | None
) -> Finding:
    """Its own files are seldom at fault: what it needs is missing, damaged or does not fit."""
    version, error = installed["insightface"], answers["insightface"]["error"]
    facts = {"name": "insightface", "version": version, "error": error}
    for module, flavours in (("cv2", OPENCV), ("onnxruntime", ONNXRUNTIME)):
        if _trouble(answers.get(module, {"lost": True})):  # that has a finding of its own, with its cure
            culprit = next((name for name in flavours if name in installed), flavours[0])
            return _finding("insightface", "error", "check.import_need", **facts, culprit=culprit)
    if _unmet("insightface", installed, search_path):
        return _finding("insightface", "error", "check.import_fails", INSTALLER, **facts)
    there = {name: module for name, module in INSIGHTFACE_IMPORTS.items() if name in installed}
    asked = ask_libraries(list(there.values()), search_path)
    culprit = next((name for name, module in there.items() if _trouble(asked.get(module, {}))), None)
    if culprit is None:
        return _finding("insightface", "error", "check.import_fails", reinstall("insightface", version), **facts)
    unmet = " ".join(f'"{need}"' for need in _unmet(culprit, installed, search_path))
    cure = pip(f"install {unmet}") if unmet else reinstall(culprit, installed[culprit])
    return _finding("insightface", "error", "check.import_need", cure, **facts, culprit=culprit)


def _unmet(name: str, installed: Mapping[str, str], search_path: Sequence[str] | None) -> list[str]:
    """What an installed package asks for and does not find, flavours aside."""
    needs = read_requirements("\n".join(needs_of([name], search_path).get(name, ())))
    unmet = [need for need in needs if need.name not in ONNXRUNTIME + OPENCV and not fits(need, installed)]
    return [f"{need.name}{need.specifier}" for need in unmet]


def _cuda_finding(torch: Mapping[str, Any], card: str | None) -> Finding:
    """Does a working PyTorch see a GPU, and if not, why?"""
    if torch["gpu"]:
        what = f"CUDA {torch['cuda']}" if torch["cuda"] else torch["gpu"]
        return _finding("cuda", "ok", "check.cuda", what=what, version=torch["cuda"])
    if card is None:
        return _finding("cuda", "warning", "check.cuda.no_card", GPU)
    if torch["cuda"] is None:
        return _finding("cuda", "error", "check.cuda.cpu_torch", NEW_ENVIRONMENT, card=card)
    return _finding("cuda", "error", "check.cuda.driver", DRIVER, card=card, version=torch["cuda"])


def _gpu_words(torch: Mapping[str, Any]) -> str | None:
    memory = f" ({torch['vram_gib']:.1f} GiB)" if torch.get("vram_gib") else ""
    return f"{torch['gpu']}{memory}" if torch.get("gpu") else None


def _no_gpu_words(torch_works: bool, card: str | None) -> dict[str, str]:
    key = ("unseen" if card else "no_card") if torch_works else "no_torch"
    return {language: say(f"check.no_gpu.{key}", language, card=card) for language in LANGUAGES}


def _hardware_findings(hardware: HardwareFacts | None) -> list[Finding]:
    """Memory and disk against what the models take."""
    if hardware is None:
        return []
    limits = (
        ("ram", hardware.ram_gib, ENOUGH_RAM_GIB),
        ("vram", hardware.vram_gib, WHOLE_VRAM_GIB),
        ("disk", hardware.disk_gib, WEIGHTS_GIB),
    )
    return [
        _finding(
            subject,
            "ok" if gib >= needed else "warning",
            f"check.{subject}" if gib >= needed else f"check.{subject}_low",
            gib=gib,
            needed=needed,
        )
        for subject, gib, needed in limits
        if gib is not None
    ]

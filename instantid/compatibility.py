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

from instantid.messages import LANGUAGES, say
from instantid.probe import ask_libraries, can_be_found, nvidia_gpu
from instantid.requirements import (
    ONNXRUNTIME,
    OPENCV,
    Requirement,
    fits,
    installed_versions,
    onnxruntime_generation,
    parsed,
    project_requirements,
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

# Package -> module, where they differ.
MODULES = (
    {"huggingface-hub": "huggingface_hub"} | dict.fromkeys(ONNXRUNTIME, "onnxruntime") | dict.fromkeys(OPENCV, "cv2")
)
IMPORTED = (
    "torch",
    "onnxruntime",
    "cv2",
    "insightface",
)  # compiled: the ones that break although their files are there

ENOUGH_RAM_GIB = 10.0  # a free Colab has 12.7 and is enough when components go straight to the GPU
WHOLE_VRAM_GIB = 11.0  # everything resident at 1024×1024; below that the memory plan offloads
WEIGHTS_GIB = 10.0  # base model, IdentityNet, adapter and face models in fp16

RESTART = "Runtime → Restart session"
NEW_RUNTIME = "Runtime → Disconnect and delete runtime"
CHANGE_RUNTIME = "Runtime → Change runtime type"
INSTALLER = "python -m instantid.installation"

HARDWARE = "instantid.hardware"  # asked in the same child as the libraries

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
    command: str | None = None  # the one command, or menu entry, that mends it

    def text(self, language: str) -> str:
        """The line for a person, and the cure on an indented line of its own."""
        cure = f"\n   → {self.command}" if self.command else ""
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
        findings = [vars(finding) | {"sentence": finding.sentence[self.language]} for finding in self.findings]
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
    modules = {name: module_of(name) for name in installed}
    present = [m for m in IMPORTED if m in modules.values() and can_be_found(m, search_path)]
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
        lost = item.name in installed and not can_be_found(modules[item.name], search_path)
        answer = {"lost": True} if lost else answers.get(module_of(item.name), {})
        findings.append(_package_finding(requirement, item, installed, cuda, answer))
    if works:
        findings.append(_cuda_finding(torch, card))
    rivals = [name for name in ONNXRUNTIME if name in installed]
    if len(rivals) > 1:
        facts = {"names": ", ".join(rivals)}
        findings.append(_finding("onnxruntime", "warning", "check.two_onnxruntimes", INSTALLER, **facts))
    return CheckReport(
        findings=(*findings, *_hardware_findings(hardware)),
        versions={"Python": platform.python_version()} | {name: installed.get(name) for name in BASIC},
        gpu=_gpu_words(torch),
        no_gpu=_no_gpu_words(works, card),
        language=language,
    )


def module_of(package: str) -> str:
    """The module that a package puts on disk."""
    return MODULES.get(package, package)


def _finding(subject: str, level: str, key: str, command: str | None = None, /, **facts: object) -> Finding:
    sentence = {language: say(key, language, **facts) for language in LANGUAGES}
    return Finding(subject, level, facts.get("version"), sentence, command)


def _python_finding() -> Finding:
    version, needed = platform.python_version(), ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return _finding("python", "error", "check.python_old", NEW_RUNTIME, version=version, needed=needed)
    return _finding("python", "ok", "check.fits", name="Python", version=version)


def _package_finding(
    asked: Requirement, item: Requirement, installed: Mapping[str, str], cuda: str | None, answer: Mapping[str, Any]
) -> Finding:
    """One package: `asked` by the project, `item` as that reads here, `answer` what its import ended with."""
    name, version = item.name, installed.get(item.name)
    shown = {"name": SHOWN_NAMES.get(name, name), "version": version, "needed": str(item)}
    there = [other for other in ONNXRUNTIME if other in installed]
    if name == "onnxruntime-gpu" and version is None and there:
        plain = shown | {"name": there[0], "version": installed[there[0]]}
        return _finding(there[0], "warning", "check.onnxruntime_cpu", INSTALLER, **plain)
    if version is None:
        return _finding(name, "error", "check.missing", _cure(item, installed, cuda), **shown)
    if name == "torch" and (trouble := _trouble(answer)):
        return _finding(name, "error", "check.torch_broken", NEW_RUNTIME, **shown, error=trouble)
    if broken := _broken_finding(name, version, answer, shown):
        return broken
    if not fits(item, installed):
        return _unfit_finding(asked, item, installed, cuda, shown)
    if name == "onnxruntime-gpu" and cuda and "CUDAExecutionProvider" not in answer.get("providers", ()):
        return _finding(name, "warning", "check.onnxruntime_cpu", RESTART, **shown)
    number, tested = parsed(version), parsed(TESTED.get(name, version))
    if number.release[: len(tested.release)] > tested.release:
        return _finding(name, "ok", "check.newer", **shown, tested=tested)
    return _finding(name, "ok", "check.fits", **shown)


def _unfit_finding(
    asked: Requirement, item: Requirement, installed: Mapping[str, str], cuda: str | None, shown: Mapping[str, Any]
) -> Finding:
    """A package out of its range. Where only this machine narrowed the range, the sentence says what narrowed it."""
    name, cure = item.name, _cure(item, installed, cuda)
    in_general = fits(Requirement(f"{name}{asked.specifier}"), installed)
    if name == "torch":
        return _finding(name, "error", "check.torch_old", NEW_RUNTIME, **shown)
    if in_general and name == "onnxruntime-gpu":
        return _finding(name, "warning", "check.onnxruntime_generation", cure, **shown, cuda=cuda)
    if in_general and name == "insightface":
        return _finding(name, "error", "check.insightface_numpy", cure, **shown, numpy=installed["numpy"])
    return _finding(name, "error", "check.out_of_range", cure, **shown)


def _cure(item: Requirement, installed: Mapping[str, str], cuda: str | None) -> str:
    """pip can put insightface right, unless its plain onnxruntime would come along and overwrite the one for CUDA."""
    gpu_flavour = onnxruntime_generation(cuda) or "onnxruntime-gpu" in installed
    return INSTALLER if item.name == "insightface" and gpu_flavour else f'pip install "{item}"'


def _trouble(answer: Mapping[str, Any]) -> str | None:
    """What an import ended with, in words that need no translation."""
    if "died" in answer:
        return f"exit code {answer['died']}"
    if "hung" in answer:
        return f"> {answer['hung']:.0f} s"
    return "ModuleNotFoundError" if "lost" in answer else answer.get("error")


def _broken_finding(name: str, version: str, answer: Mapping[str, Any], shown: Mapping[str, Any]) -> Finding | None:
    """A package that is there and does not work, or None."""
    again = f'pip install --force-reinstall --no-deps "{name}=={version}"'
    if "lost" in answer:
        return _finding(name, "error", "check.no_files", again, **shown)
    if "died" in answer:
        return _finding(name, "error", "check.import_died", again, **shown, code=answer["died"])
    if "hung" in answer:
        return _finding(name, "error", "check.import_hung", RESTART, **shown, seconds=answer["hung"])
    if "error" not in answer:
        return None
    if name in OPENCV and ".so" in answer["error"]:
        headless = "pip install --force-reinstall --no-deps opencv-python-headless"
        return _finding(name, "error", "check.opencv_screen", headless, **shown, error=answer["error"])
    if name == "insightface":  # its own files are seldom at fault: what it needs is missing or does not fit it
        again = INSTALLER
    return _finding(name, "error", "check.import_fails", again, **shown, error=answer["error"])


def _cuda_finding(torch: Mapping[str, Any], card: str | None) -> Finding:
    """Does a working PyTorch see a GPU, and if not, why?"""
    if torch["gpu"]:
        what = f"CUDA {torch['cuda']}" if torch["cuda"] else torch["gpu"]
        return _finding("cuda", "ok", "check.cuda", what=what, version=torch["cuda"])
    if card is None:
        return _finding("cuda", "warning", "check.cuda.no_card", CHANGE_RUNTIME)
    if torch["cuda"] is None:
        return _finding("cuda", "error", "check.cuda.cpu_torch", NEW_RUNTIME, card=card)
    return _finding("cuda", "error", "check.cuda.driver", RESTART, card=card, version=torch["cuda"])


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

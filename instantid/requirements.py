"""What the project needs and what is installed: ranges from requirements.txt, versions from the packages' metadata.

Nothing here imports a package to learn its version, so a missing or broken one is a plain fact and not a crash.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from instantid.probe import ROOT, can_be_found

try:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version
except ImportError:  # a bare Python has only the copy inside pip
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.specifiers import SpecifierSet
    from pip._vendor.packaging.utils import canonicalize_name
    from pip._vendor.packaging.version import InvalidVersion, Version

# Packages that put the same module on disk: one of them is enough, two overwrite each other's files.
OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")
ONNXRUNTIME = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-rocm")
# Package -> module, where they differ.
MODULES = (
    {"huggingface-hub": "huggingface_hub"} | dict.fromkeys(ONNXRUNTIME, "onnxruntime") | dict.fromkeys(OPENCV, "cv2")
)

NUMPY_2_INSIGHTFACE = ">=1.0.1"  # 0.7.x calls what numpy 2 took away


def read_requirements(text: str) -> list[Requirement]:
    """The requirements in the text of a requirements file that apply to this Python and platform."""
    lines = (line.strip() for line in text.splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [item for item in found if item.marker is None or item.marker.evaluate({"extra": ""})]


def project_requirements() -> list[Requirement]:
    """The project's own: from requirements.txt in a checkout, from the metadata where the project was installed."""
    file = ROOT / "requirements.txt"
    if file.is_file():
        return read_requirements(file.read_text(encoding="utf-8"))
    return read_requirements("\n".join(importlib.metadata.requires("instantid") or ()))


def installed_versions(search_path: Sequence[str] | None = None) -> dict[str, str]:
    """Canonical name -> version of every package on `search_path` (default: where this Python looks)."""
    versions: dict[str, str] = {}
    options = {} if search_path is None else {"path": list(search_path)}
    for distribution in importlib.metadata.distributions(**options):
        metadata = _metadata(distribution)
        if metadata and not _put_aside(distribution):
            versions.setdefault(canonicalize_name(metadata["Name"]), metadata["Version"])
    return versions


def _metadata(distribution: importlib.metadata.Distribution) -> importlib.metadata.PackageMetadata | None:
    """None where an uninstallation was cut short: then there is none, or it has no name."""
    metadata = distribution.metadata
    return metadata if metadata and metadata.get("Name") and metadata.get("Version") else None


def _put_aside(distribution: importlib.metadata.Distribution) -> bool:
    """Does it lie in a folder like `~orch-2.6.0.dist-info`, as an interrupted pip leaves the old version behind?"""
    return getattr(distribution, "_path", Path()).name.startswith("~")


def module_of(package: str) -> str:
    """The module that a package puts on disk."""
    return MODULES.get(package, package)


def half_installed(installed: Iterable[str], search_path: Sequence[str] | None = None) -> set[str]:
    """Those of the project's packages of which one half is there: metadata without a module, or without a name in it.

    Args:
        installed: the canonical names that `installed_versions` found.
    """
    names = {canonicalize_name(item.name) for item in project_requirements()}.union(ONNXRUNTIME, OPENCV)
    lost = {name for name in names & set(installed) if not can_be_found(module_of(name), search_path)}
    options = {} if search_path is None else {"path": list(search_path)}
    found = {name: importlib.metadata.distributions(name=name, **options) for name in names - set(installed)}
    nameless = {name for name, there in found.items() if any(not _metadata(distribution) for distribution in there)}
    return lost | nameless


def needs_of(names: Iterable[str], search_path: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Canonical name -> requirement lines of those of `names` that are installed."""
    options = {} if search_path is None else {"path": list(search_path)}
    needs = {}
    for name in names:
        for distribution in importlib.metadata.distributions(name=name, **options):
            needs.setdefault(canonicalize_name(name), distribution.requires or [])
    return needs


def parsed(version: str) -> Version | None:
    """The version in comparable form, or None if it is not one (some old packages have a free text there)."""
    try:
        return Version(version)
    except InvalidVersion:
        return None


def fits(requirement: Requirement, installed: Mapping[str, str]) -> bool:
    """Is the package installed, and in its range? Nightly builds count like releases."""
    version = parsed(installed.get(canonicalize_name(requirement.name), ""))
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def suited(
    requirement: Requirement, installed: Mapping[str, str], cuda: str | None, opencv: str = "opencv-python"
) -> Requirement:
    """`requirement` as it reads on a machine with these packages.

    Args:
        installed: canonical name -> version.
        cuda: CUDA version of PyTorch, "12.8"; None without CUDA.
        opencv: the flavour to take where there is none yet.
    """
    name = canonicalize_name(requirement.name)
    if name in OPENCV:
        return _as(requirement, _flavour_there(OPENCV, installed) or opencv)
    if name in ONNXRUNTIME:
        generation = onnxruntime_generation(cuda)
        if generation and name == "onnxruntime-gpu":  # where no GPU build exists, the project asks for the plain one
            return _as(requirement, name, generation)
        return _as(requirement, _flavour_there(ONNXRUNTIME, installed) or "onnxruntime")
    if name == "insightface" and needs_new_insightface(installed):
        return Requirement(f"{name}{NUMPY_2_INSIGHTFACE}")
    return _as(requirement, name)


def onnxruntime_generation(cuda: str | None) -> str | None:
    """The range of onnxruntime-gpu that was built for this CUDA; None where no published one was."""
    major = int(cuda.split(".")[0]) if cuda else 0
    if major < 12:
        return None
    return "<1.27" if major == 12 else ">=1.27"


def needs_new_insightface(installed: Mapping[str, str]) -> bool:
    """Does the installed numpy rule out insightface 0.7.x?"""
    numpy = parsed(installed.get("numpy", ""))
    return numpy is not None and numpy.major >= 2


def rivals(installed: Mapping[str, str], wanted: str) -> tuple[str, ...]:
    """The installed flavours of onnxruntime when they are not exactly `wanted`: all of them have to make way."""
    there = tuple(name for name in ONNXRUNTIME if name in installed)
    return there if set(there) - {wanted} else ()


def _as(requirement: Requirement, name: str, further: str = "") -> Requirement:
    return Requirement(f"{name}{requirement.specifier & SpecifierSet(further)}")


def _flavour_there(flavours: Sequence[str], installed: Mapping[str, str]) -> str | None:
    return next((name for name in flavours if name in installed), None)

"""Installation by difference: only what is missing or outside its range, everything else held where it is.

`python -m instantid.installation [--dry-run] [--language es|en]` runs on a bare Python: nothing here needs the packages
that it installs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ctypes.util import find_library
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

from instantid.messages import LANGUAGES, InstantIDError, explain, machine_error, say, system_language
from instantid.probe import machine_cuda
from instantid.requirements import (
    ONNXRUNTIME,
    OPENCV,
    Requirement,
    canonicalize_name,
    fits,
    half_installed,
    installed_versions,
    needs_of,
    parsed,
    project_requirements,
    read_requirements,
    rivals,
    suited,
)

# What insightface 1.0 to 2.1 needs besides OpenCV and onnxruntime; once it is installed its own metadata is asked.
INSIGHTFACE_NEEDS = ("numpy", "onnx>=1.13", "tqdm", "requests", "scipy", "scikit-image")
NEVER_CHANGED = {"torch", "numpy"}  # compiled packages all over the machine are built against these two
BUILD_TOOLS = {"pip", "setuptools", "wheel"}  # a fresh environment has old ones that new packages refuse
TAIL_LINES = 12  # of pip's output, in an error
SHOWN = ("Downloading ", "Building ")  # the lines of pip's output worth showing while it runs: they take long


@dataclass(frozen=True)
class InstallationPlan:
    """What pip has to do; empty when everything fits."""

    remove: tuple[str, ...] = ()  # packages whose files overwrite those of another
    again: tuple[str, ...] = ()  # half installed: once more over what is there, in the same version if that is known
    bare: tuple[str, ...] = ()  # installed without their own requirements, because something stands in for one of them
    packages: tuple[str, ...] = ()  # installed together, in one call
    constraints: tuple[str, ...] = ()  # `name==version` of everything that stays, and what that accepts beside it
    old_torch: str | None = None  # version of a PyTorch that is too old; it is reported, never replaced

    @property
    def empty(self) -> bool:
        return not (self.remove or self.again or self.bare or self.packages)

    def text(self, language: str) -> str:
        """What would be done, one line per step."""
        steps = (("remove", self.remove), ("again", self.again), ("bare", self.bare), ("packages", self.packages))
        lines = [say(f"install.{step}", language, packages=", ".join(names)) for step, names in steps if names]
        if self.old_torch:
            lines.append(say("install.old_torch", language, version=self.old_torch))
        return "\n".join(lines or [say("install.nothing", language)])


def installation_plan(
    requirements: Iterable[Requirement],
    installed: Mapping[str, str],
    cuda: str | None = None,
    needs: Mapping[str, Sequence[str]] | None = None,
    opencv: str = "opencv-python",
    lost: Collection[str] = (),
) -> InstallationPlan:
    """What is missing on a machine, from facts alone.

    Args:
        requirements: the project's, as `requirements.project_requirements` reads them.
        installed: canonical name -> version of everything installed.
        cuda: CUDA version of PyTorch, "12.8"; None without CUDA.
        needs: canonical name -> requirement lines of installed packages (`requirements.needs_of`).
        opencv: the flavour to take where there is none.
        lost: canonical names of what is half installed (`requirements.half_installed`).
    """
    needs, requirements = needs or {}, list(requirements)
    wanted = [suited(item, installed, cuda, opencv) for item in requirements]
    remove = tuple(rival for item in wanted if item.name in ONNXRUNTIME for rival in rivals(installed, item.name))
    kept = {name: version for name, version in installed.items() if name not in remove}
    wanted = [suited(item, kept, cuda, opencv) for item in requirements]
    halves = set(lost) - {"torch"}
    again = [item for item in wanted if item.name in halves and (item.name not in kept or fits(item, kept))]
    missing = [item for item in wanted if not fits(item, kept) and item not in again]
    old_torch = next((kept["torch"] for item in missing if item.name == "torch" and "torch" in kept), None)
    missing = [item for item in missing if item.name != "torch" or not old_torch]
    names = {item.name for item in wanted}
    stood_in_for = not {"onnxruntime", "opencv-python"} <= names  # insightface would bring both along
    bare = [item for item in missing if item.name == "insightface" and stood_in_for]
    missing = [item for item in missing if item not in bare]
    if "insightface" in names - {item.name for item in missing}:
        lines = INSIGHTFACE_NEEDS if bare else needs.get("insightface", ())
        further = [suited(item, kept, cuda, opencv) for item in read_requirements("\n".join(lines))]
        missing += [item for item in further if item.name not in ONNXRUNTIME + OPENCV and not fits(item, kept)]
    replaced = {canonicalize_name(item.name) for item in missing + bare}
    staying = names - replaced
    free = replaced | BUILD_TOOLS | (_companions(replaced, needs) - staying - NEVER_CHANGED)
    held = [f"{name}=={kept[name]}" for name in sorted(set(kept) - free) if parsed(kept[name])]
    return InstallationPlan(
        remove=remove,
        again=tuple(f"{item.name}=={kept[item.name]}" if item.name in kept else str(item) for item in again),
        bare=tuple(map(str, bare)),
        packages=tuple(dict.fromkeys(map(str, missing))),
        constraints=tuple(held + _accepted_beside(staying, replaced, needs)) if missing else (),
        old_torch=old_torch,
    )


def _companions(replaced: set[str], needs: Mapping[str, Sequence[str]]) -> set[str]:
    """Packages that the old version of a replaced one holds below some version: they move together (tokenizers)."""
    lines = "\n".join(line for name in replaced for line in needs.get(name, ()))
    return {
        canonicalize_name(item.name)
        for item in read_requirements(lines)
        if any(part.operator in ("<", "<=", "==", "~=") for part in item.specifier)
    }


def _accepted_beside(staying: set[str], replaced: set[str], needs: Mapping[str, Sequence[str]]) -> list[str]:
    """The ranges in which staying packages accept the new ones; pip by itself looks only at what it installs."""
    lines = "\n".join(line for name in sorted(staying) for line in needs.get(name, ()))
    found = ((canonicalize_name(item.name), item.specifier) for item in read_requirements(lines))
    return sorted({f"{name}{specifier}" for name, specifier in found if name in replaced and str(specifier)})


def plan_for_this_machine(further: Iterable[Requirement] = ()) -> InstallationPlan:
    """`installation_plan` with the facts of this machine; `further` requirements go beside the project's own."""
    requirements = [*project_requirements(), *further]
    installed = installed_versions()
    return installation_plan(
        requirements,
        installed,
        cuda=machine_cuda(),
        needs=needs_of(canonicalize_name(item.name) for item in requirements),
        opencv=_fresh_opencv() if not set(OPENCV) & set(installed) else "opencv-python",
        lost=half_installed(installed),
    )


def _fresh_opencv() -> str:
    """Linux without a screen often lacks the libraries without which opencv-python cannot be imported."""
    screen = not sys.platform.startswith("linux") or all(find_library(name) for name in ("GL", "gthread-2.0", "xcb"))
    return "opencv-python" if screen else "opencv-python-headless"


@dataclass(frozen=True)
class InstallationReport:
    """What an installation did."""

    plan: InstallationPlan
    changed: dict[str, str] = field(default_factory=dict)  # canonical name -> version that is new here
    restart: tuple[str, ...] = ()  # changed packages that this process had already imported

    def text(self, language: str) -> str:
        """The report, one line per fact."""
        if self.plan.empty or not self.changed:
            return self.plan.text(language)
        lines = self.plan.again + self.plan.bare + self.plan.packages
        asked = {canonicalize_name(Requirement(line).name) for line in lines}
        named = [f"{name} {version}" for name, version in sorted(self.changed.items()) if name in asked]
        others = len(self.changed) - len(named)  # what those brought along
        packages = ", ".join(named) + (f" (+{others})" if others else "")
        lines = [
            say("install.done", language, packages=packages),
            say(
                "install.restart" if self.restart else "install.no_restart", language, packages=", ".join(self.restart)
            ),
        ]
        if self.plan.old_torch:
            lines.append(say("install.old_torch", language, version=self.plan.old_torch))
        return "\n".join(lines)


def install(
    language: str = "es",
    dry_run: bool = False,
    *,
    further: Iterable[Requirement] = (),
    constraint_files: Sequence[str | Path] = (),
    modules: Mapping[str, ModuleType] | None = None,
    tell: Callable[[str], None] = print,
) -> InstallationReport:
    """Installs what is missing, in one call of pip where that is possible, and says what it did.

    Args:
        dry_run: only say what would be done.
        further: requirements beside the project's own.
        constraint_files: given to pip besides the versions that stay.
        modules: what this process has imported; default `sys.modules`.
        tell: receives every line for the person.

    Raises: MachineError with pip's last lines if pip fails.
    """
    further = list(further)
    plan = plan_for_this_machine(further)
    if plan.empty or dry_run:
        tell(plan.text(language))
        return InstallationReport(plan)
    before = installed_versions()
    tell(plan.text(language))
    if plan.remove:
        _pip(["uninstall", "--yes"], plan.remove, tell)
    rest = plan
    if plan.again:  # not uninstalled first: pip refuses that where its list of files is gone too
        _pip(["install", "--no-deps", "--ignore-installed"], plan.again, tell)
    if plan.bare:
        _pip(["install", "--no-deps"], plan.bare, tell)
        rest = plan_for_this_machine(further)  # now the requirements of what came bare can be read
    if rest.packages:
        with tempfile.TemporaryDirectory() as folder:
            held = Path(folder, "constraints.txt")
            held.write_text("\n".join(rest.constraints), encoding="utf-8")
            files = [argument for file in (held, *constraint_files) for argument in ("--constraint", str(file))]
            _pip(["install", *files], rest.packages, tell)
    importlib.invalidate_caches()  # so that this process can import the new packages without a restart
    again = {canonicalize_name(Requirement(line).name) for line in plan.again}
    now = installed_versions()
    changed = {name: version for name, version in now.items() if before.get(name) != version or name in again}
    restart = imported_among(set(changed) - BUILD_TOOLS, sys.modules if modules is None else modules)
    report = InstallationReport(plan, changed, restart)
    tell(report.text(language))
    return report


def imported_among(names: Iterable[str], modules: Mapping[str, ModuleType]) -> tuple[str, ...]:
    """Those of the installed packages `names` of which a file is already imported in `modules`."""
    loaded = {str(file) for file in (getattr(module, "__file__", None) for module in modules.values()) if file}
    return tuple(
        name
        for name in sorted(names)
        if loaded & {str(distribution(name).locate_file(file)) for file in distribution(name).files or ()}
    )


def _pip(command: Sequence[str], packages: Sequence[str], tell: Callable[[str], None]) -> None:
    """Runs pip of this Python, shows where it is, and raises MachineError with its last lines if it fails."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pip", *command, *packages],
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_INPUT": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with process:
        for line in process.stdout or ():
            tail.append(line.rstrip())
            if line.lstrip().startswith(SHOWN) and "kB)" not in line:
                tell("  " + line.strip())
    if process.returncode:
        named = ", ".join(packages)
        raise machine_error("install.pip_failed", packages=named, exit_code=process.returncode, tail="\n".join(tail))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 2 where something is left that a person has to mend."""
    parser = argparse.ArgumentParser(prog="python -m instantid.installation", description=__doc__.split("\n")[0])
    parser.add_argument("--dry-run", action="store_true", help="only say what would be installed")
    parser.add_argument("--language", choices=LANGUAGES, default=system_language())
    parser.add_argument("--also", metavar="FILE", action="append", default=[], help="a further requirements file")
    parser.add_argument("--constraint", metavar="FILE", action="append", default=[], help="a constraints file for pip")
    options = parser.parse_args(arguments)
    try:
        further = [item for file in options.also for item in read_requirements(Path(file).read_text(encoding="utf-8"))]
        report = install(
            options.language,
            options.dry_run,
            further=further,
            constraint_files=options.constraint,
            modules={},  # this process ends here: nothing in it has to be restarted
        )
    except OSError as error:
        parser.error(str(error))
    except InstantIDError as error:
        print(explain(error, options.language), file=sys.stderr)
        return 2
    return 2 if report.plan.old_torch else 0


if __name__ == "__main__":
    sys.exit(main())

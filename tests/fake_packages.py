"""Packages made of a few lines, as installed in a folder or as a wheel that the real pip installs."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from instantid.requirements import module_of


def package_files(
    name: str, version: str, needs: Sequence[str] = (), modules: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Path -> text of a package whose `modules` (path -> source) default to the one that it is imported by, empty."""
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    files = dict(modules) if modules is not None else {f"{module_of(name).replace('-', '_')}/__init__.py": ""}
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {n}" for n in needs)]
    files[f"{info}/METADATA"] = "\n".join(metadata) + "\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    return files


def lay_out(folder: Path, name: str, version: str, **options) -> None:
    """The package as it is once installed in `folder`; options as in `package_files`."""
    for path, text in package_files(name, version, **options).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def write_wheel(folder: Path, name: str, version: str, **options) -> None:
    """The package as a wheel in `folder`; options as in `package_files`."""
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in package_files(name, version, **options).items():
            wheel.writestr(path, text)

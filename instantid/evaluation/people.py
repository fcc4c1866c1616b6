"""Who is evaluated: of each person some photos to draw from, and others to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from instantid.images import ImageSource
from instantid.messages import user_error

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Person:
    """One person. With a single photo there is nothing else to compare with, and `others` is that photo too."""

    name: str
    references: tuple[ImageSource, ...]  # what pictures are made from
    others: tuple[ImageSource, ...]  # what they are compared with


def people_in(folder: Path, references: int = 1) -> list[Person]:
    """The people of a folder: a sub-folder for each, or a photo for each. In each the first photos are the references.

    Args:
        references: how many photos of each person pictures may be made from.

    Raises: UserError if there are no photos, or too few of somebody.
    """
    _check_folder(folder)
    people = []
    for path in sorted(folder.iterdir()):
        photos = photos_in(path) if path.is_dir() else [path] if _is_photo(path) else []
        if photos:
            people.append(_person(path.stem if path.is_file() else path.name, photos, references))
    if not people:
        raise user_error("evaluate.no_photos", folder=folder, suffixes=" ".join(PHOTO_SUFFIXES))
    return people


def poses_in(folder: Path) -> list[Path]:
    """The photos of a folder. Raises: UserError if there are none."""
    _check_folder(folder)
    if photos := photos_in(folder):
        return photos
    raise user_error("evaluate.no_photos", folder=folder, suffixes=" ".join(PHOTO_SUFFIXES))


def photos_in(folder: Path) -> list[Path]:
    """By their names."""
    return sorted(path for path in folder.iterdir() if _is_photo(path))


def _person(name: str, photos: Sequence[Path], references: int) -> Person:
    if len(photos) == references == 1:
        return Person(name, tuple(photos), tuple(photos))
    if len(photos) <= references:
        raise user_error("evaluate.too_few_photos", person=name, count=len(photos), needed=references + 1)
    return Person(name, tuple(photos[:references]), tuple(photos[references:]))


def _is_photo(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise user_error("evaluate.no_folder", folder=folder)

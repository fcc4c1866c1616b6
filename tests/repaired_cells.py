"""Cells through every repair, for the tests of each."""

from instantid.migration import repair
from instantid.migration_cells import Cell


def cells_of(sources) -> list[Cell]:
    return [Cell(number, source) for number, source in enumerate(sources, start=1)]


def repaired(*sources: str) -> list[str]:
    """The cells after every repair. What was Python still is, and a second round changes nothing."""
    cells, _, _ = repair(cells_of(sources))
    again, changes, _ = repair(cells)
    assert ([cell.source for cell in again], changes) == ([cell.source for cell in cells], ())
    for before, after in zip(cells_of(sources), cells):
        assert (after.tree is None) == (before.tree is None)
    return [cell.source for cell in cells]


def only(source: str) -> str:
    """The one cell after every repair."""
    return repaired(source)[0]


def doubts(*sources: str) -> list[tuple[str, str]]:
    """What is left alone, and why; the cells themselves stay."""
    cells, _, left = repair(cells_of(sources))
    assert [cell.source for cell in cells] == list(sources)
    return [(item.what, item.reason.removeprefix("migration.")) for item in left]

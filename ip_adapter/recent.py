"""The results of the last few different inputs: the next picture of the same person or prompt needs them again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Recent(Generic[Result]):
    """Keeps `most` results; the one not asked for longest goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._results: OrderedDict[Hashable, Result] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """What `make` returned when `key` was first asked for. `key` has to name everything that it depends on."""
        if key not in self._results:
            self._results[key] = make()
            if len(self._results) > self._most:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return self._results[key]

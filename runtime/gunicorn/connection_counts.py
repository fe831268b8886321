"""How many connections each of gunicorn's workers has, in memory that all of them see.

The worker that looks first takes a new connection, and of sixteen one may get fourteen: its
interpreter is busy then, and another one's idle.
"""

import mmap

# WEB_CONCURRENCY may be half of that: those that take over after a HUP have places besides.
PLACES = 512
NONE = 2**31 - 1


class ConnectionCounts:
    """A number for each place; each worker writes its own. To be made before the fork."""

    def __init__(self):
        self._counts = memoryview(mmap.mmap(-1, 4 * PLACES)).cast("i")
        for place in range(PLACES):
            self.leave(place)

    def put(self, place: int, connections: int) -> None:
        """Say how many the worker at `place` has; one beyond the last place says nothing."""
        if place < PLACES:
            self._counts[place] = connections

    def leave(self, place: int) -> None:
        """The worker at `place` takes no more."""
        self.put(place, NONE)

    def has_more_than_another(self, place: int) -> bool:
        """Whether another worker has fewer than the one at `place`."""
        return place < PLACES and min(self._counts) < self._counts[place]

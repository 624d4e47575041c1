"""Times in which the whole process stood still: the step that was going on says nothing of the job's speed."""

from __future__ import annotations

from ..wire import IDLE


class Stops:
    """Agent thread."""

    def __init__(self):
        self._stops = []

    def add(self, began, ended):
        """Nothing ran in between."""
        self._stops.append((began, ended))

    def sort_out(self, rows, closed):
        """(rows, those with a stop in them tagged; marks of armed steps without one)."""
        for stop in self._stops:
            rows = [
                (*row[:2], row[2] | IDLE, *row[3:]) if _holds(row[0] - row[1], row[0], stop) else row for row in rows
            ]
            closed = [marks for marks in closed if not _holds(marks.step[0], marks.step[1], stop)]
        if rows:
            self._stops = [stop for stop in self._stops if stop[1] > rows[-1][0]]
        return rows, closed


def _holds(began, ended, stop):
    """Whether most of a stop lies in this step."""
    return min(ended, stop[1]) - max(began, stop[0]) > 0.5 * (stop[1] - stop[0])

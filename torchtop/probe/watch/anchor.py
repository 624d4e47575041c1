"""Which optimizer's step ends a step of the job: among several, the one that steps least often."""

from __future__ import annotations

_RARER = 2  # times that an optimizer has to be seen before a more frequent one loses its place as the anchor to it
_TIMES = 1.7  # as often, for that; twice as often is meant, whatever step the count began with
_RECOUNT = 512  # optimizer steps after which their frequencies are counted anew

NO, YES, RESTART = range(3)


class Anchor:
    """Told of every optimizer step, by the optimizer's id."""

    def __init__(self):
        self._anchor = None
        self._posts = {}
        self._in_a_row = {}
        self._most_in_a_row = 0

    def stepped(self, key, alive):
        """Whether the step of optimizer `key` ends a step: NO, YES, or RESTART when those counted before were none.

        alive: ids of all optimizers that still exist.
        """
        posts = self._posts
        posts[key] = posts.get(key, 0) + 1
        answer = NO
        if self._anchor is None:
            # Until now calls of the root may have been taken for steps: a long first step looks like a loop without
            # an optimizer.
            answer = self._choose(key, RESTART)
        elif key == self._anchor:
            self._most_in_a_row = max(self._in_a_row.values(), default=0)
            self._in_a_row.clear()
            answer = YES
        else:
            count = self._in_a_row[key] = self._in_a_row.get(key, 0) + 1
            often = posts.get(self._anchor, 0)
            if self._anchor not in alive or count > 2 * self._most_in_a_row + 1:
                answer = self._choose(key, YES)  # the program goes on with another optimizer
            elif posts[key] >= _RARER and often >= _TIMES * posts[key]:
                self._most_in_a_row = often // posts[key] + 1
                answer = self._choose(key, RESTART)  # those were parts of steps
        if sum(posts.values()) > _RECOUNT:
            posts.clear()
        return answer

    def _choose(self, key, answer):
        self._anchor = key
        self._in_a_row.clear()
        if answer == YES:
            self._posts.clear()
        return answer

"""The text of tokens that come one by one: whole characters alone, ended by a stop string wherever tokens divide it."""

from collections.abc import Callable, Sequence

HEAD_TOKENS = 6  # of the prompt: what a tokenizer makes of a first token (a blank, or none) depends on them
CUT_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class GrowingText:
    """`text` is what may be passed on: it only ever grows, and in the end it is all."""

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int], stop: Sequence[str]) -> None:
        self._decode = decode
        self._stop = stop
        self._ids = list(prompt[-HEAD_TOKENS:])
        self._begin = 0  # of `_ids`: from here on they are decoded together
        self._told = len(self._ids)  # of `_ids`: the text of those before is in `_all` already
        self._all = ""
        self.text = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """What may be passed on now, beside what was before."""
        self._ids.append(token)
        before = self._decode(self._ids[self._begin : self._told])
        now = self._decode(self._ids[self._begin :])
        if now.endswith(CUT_CHARACTER) or len(now) <= len(before):
            return ""
        self._begin, self._told = self._told, len(self._ids)
        return self._grow(now[len(before) :], final=False)

    def end(self) -> str:
        """No more tokens: what was held back, a cut character included."""
        before = self._decode(self._ids[self._begin : self._told])
        rest = self._decode(self._ids[self._begin :])[len(before) :]
        self._begin = self._told = len(self._ids)
        return self._grow(rest, final=True)

    def _grow(self, more: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        self._all += more
        begin = len(self.text)
        found = [at for stop in self._stop if (at := self._all.find(stop, begin)) >= 0]
        if found:
            self.stopped = True
            self._all = self._all[: min(found)]
        held = 0 if final or self.stopped else self._may_begin_a_stop()
        self.text = self._all[: len(self._all) - held]
        return self.text[begin:]

    def _may_begin_a_stop(self) -> int:
        """How many characters at the end may turn out to be the beginning of a stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._all)), longest, -1):
                if self._all.endswith(stop[:length]):
                    longest = length
                    break
        return longest

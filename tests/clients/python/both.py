"""One test for both clients: the one with asyncio, called as the other is."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from model_api_client import AsyncClient, Client

KINDS = ("sync", "async")


class Awaiting:
    """What an object offers, awaited on one event loop."""

    def __init__(self, wrapped: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._wrapped = wrapped
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        if name == "jobs":
            return Awaiting(found, self._loop)
        return self._waits(found) if callable(found) else found

    def _waits(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            found = call(*arguments, **options)
            if isinstance(found, AsyncIterator):
                return self._items(found)
            return self._loop.run_until_complete(found) if inspect.isawaitable(found) else found

        return called

    def _items(self, found: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._loop.run_until_complete(found.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run_until_complete(found.aclose())


def open_client(kind: str, url: str, **options: Any) -> Iterator[Any]:
    """A client of the kind, for a fixture: closed afterwards."""
    if kind == "sync":
        with Client(url, **options) as client:
            yield client
        return
    with asyncio.Runner() as runner:

        async def made() -> AsyncClient:
            return AsyncClient(url, **options)

        awaited = runner.run(made())
        yield Awaiting(awaited, runner.get_loop())
        runner.run(awaited.close())

"""Stores with keys, for tests of who may call."""

from pathlib import Path

from model_api.publishing import keys
from model_api.publishing.changes import init
from model_api.repository.keys import Key, Rate
from model_api.repository.layout import Layout


class KeyStore:
    """A store at `root`, which is set up, and its keys."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        if not self.layout.marker.exists():
            root.mkdir(parents=True, exist_ok=True)
            init(root)

    def create(
        self, *scopes: str, models: tuple[str, ...] | None = None, expires: float | None = None, rates: str = ""
    ) -> str:
        """A key, whole."""
        wanted = Key(
            id="",
            sha256="",
            name="test",
            scopes=frozenset(scopes),
            models=None if models is None else frozenset(models),
            expires=expires,
            rates=tuple(Rate.parse(rate.strip()) for rate in rates.split(",") if rate),
        )
        return keys.create(self.layout, wanted)[1]

    def revoke(self, token: str) -> None:
        keys.revoke(self.layout, token)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}

"""Names that are nobody's: what desktops, file servers and editors leave in folders by themselves.

They belong to no model, wherever they appear and whenever they come and go; a name that begins with a dot is ignored
in a model anyway. Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

_NOBODYS = frozenset(
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information"}
    | {".ds_store", ".localized", "__macosx", "icon\r", "network trash folder", "temporary items"}
    | {"@eadir", "#recycle", "#snapshot", "lost+found"}
)


def is_nobodys(name: str) -> bool:
    """Whether a file or folder of this name is no part of a model. `name` is one part of a path."""
    return name.lower() in _NOBODYS or name.startswith(("._", ".nfs", ".fuse_hidden", ".~lock.")) or name.endswith("~")


def is_ignored(path: str) -> bool:
    """Whether a file at this relative path is left out of a model: hidden or nobody's, or in such a folder."""
    return any(part.startswith(".") or is_nobodys(part) for part in path.split("/"))

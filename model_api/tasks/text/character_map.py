"""sentencepiece's normalization table, as tokenizer.json's `Precompiled` holds it: how long may it make a text?

Its layout is sentencepiece's: four bytes of length, a double-array trie of 32-bit units (darts-clone), and the
replacements, each ended by a zero byte. Every key is found by walking the trie as a reader of it does.
"""

import base64
import binascii

import numpy as np

MAX_BYTES = 2**20  # sentencepiece's own tables have 240 kB
MAX_KEY_BYTES = 64
MAX_NODES = 500_000


def worst_growth(encoded: str) -> float | None:
    """The most by which a replacement is longer than its key, in bytes (at least 1.0); None if the table isn't whole:
    readers then leave its bounds. sentencepiece's own come to 11."""
    try:
        table = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    trie_bytes = int.from_bytes(table[:4], "little")
    if not 4 < 4 + trie_bytes <= len(table) <= MAX_BYTES or trie_bytes % 4:
        return None
    units = np.frombuffer(table, np.uint32, trie_bytes // 4, 4).astype(np.int64)
    replacements = table[4 + trie_bytes :]
    ends = np.flatnonzero(np.frombuffer(replacements, np.uint8) == 0)
    offsets = (units >> 10) << ((units & 0x200) >> 6)
    labels = units & 0x800000FF
    # A unit is the child, by its label, of whichever node lies at its place exclusive-or its label.
    named = np.flatnonzero((labels >= 1) & (labels <= 255))
    parents = named ^ labels[named]
    nodes, n_visited, worst = offsets[:1], 0, 1.0
    if nodes[0] >= len(units):
        return None
    for key_bytes in range(1, MAX_KEY_BYTES + 1):
        is_node = np.zeros(len(units) + 256, bool)
        is_node[nodes] = True
        places = named[is_node[parents]]
        if not len(places):
            return worst
        n_visited += len(places)
        nodes = places ^ offsets[places]
        if n_visited > MAX_NODES or (nodes >= len(units)).any():
            return None
        values = units[nodes[(units[places] >> 8) & 1 == 1]] & 0x7FFFFFFF
        if len(values):
            places_of_ends = np.searchsorted(ends, values)
            if (values >= len(replacements)).any() or (places_of_ends >= len(ends)).any():
                return None
            worst = max(worst, float((ends[places_of_ends] - values).max()) / key_bytes)
    return None  # keys without an end: it runs in a circle

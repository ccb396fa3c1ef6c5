"""Where the special tokens of a pair of texts stand: a pair's ids are those of its texts, put into that frame.

So a query that is compared with a hundred texts is tokenised once, and wherever the tokenizer runs it only ever sees
single texts. The frame follows from tokenizer.json and its class; a child of the leader's writes it down.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from model_api.errors import Refused
from model_api.repository.bounded_json import read_json
from model_api.repository.loaded_files import TOKENIZER_FILE
from model_api.tasks.text.settled_tokenizer import library_tokenizer, plain_document, read_object
from model_api.tasks.text.tokenizer_agreement import is_bert_class, is_whole_class

_FILE = "pair-frame-1.json"
Ids = Sequence[int] | npt.NDArray[np.int32]


@dataclass(frozen=True)
class PairFrame:
    """Special tokens before, between and after two texts, each [ids, token types]; and the types of the texts."""

    before: tuple[list[int], list[int]]
    between: tuple[list[int], list[int]]
    after: tuple[list[int], list[int]]
    types: tuple[int, int]

    @property
    def n_special(self) -> int:
        return len(self.before[0]) + len(self.between[0]) + len(self.after[0])

    def put(self, first: Ids, second: Ids) -> npt.NDArray[np.int32]:
        """[2, length]: ids and token types."""
        parts = [self.before, (first, [self.types[0]] * len(first)), self.between]
        parts += [(second, [self.types[1]] * len(second)), self.after]
        return np.array([[i for part in parts for i in part[row]] for row in (0, 1)], np.int32)


def cut(n_first: int, n_second: int, room: int) -> tuple[int, int]:
    """How many tokens of each text are kept where `room` is all there is: the longer one gives first, as the library's
    strategy longest_first."""
    if n_first + n_second <= room:
        return n_first, n_second
    short = min(n_first, n_second)
    if 2 * short <= room:
        return (n_first, room - n_first) if n_first <= n_second else (room - n_second, n_second)
    half, longer = room // 2, room - room // 2
    return (half, longer) if n_first <= n_second else (longer, half)


def write_frame(root: Path) -> None:
    """Write down the frame of the tokenizer in `root`, once that is settled, beside the verified copy. In a process
    that ends afterwards. Raises Refused for a tokenizer that frames no pairs; OSError."""
    path = root / ".converted" / _FILE
    if path.exists():
        return
    plain = plain_document(root)
    frame = None if plain is None else _plain_frame(plain, root)
    if frame is None:
        pair = library_tokenizer(root)("a", "a")
        # Types that the class doesn't give (ALBERT's, MPNet's) aren't given to the model, whatever tokenizer.json says.
        types = pair.get("token_type_ids") or [0] * len(pair["input_ids"])
        frame = _frame_of(pair.sequence_ids(0), pair["input_ids"], types)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(asdict(frame)))
    partial.rename(path)


def _plain_frame(plain: Mapping[str, Any], root: Path) -> PairFrame | None:
    """What the library would make of a tokenizer that is plainly its own, without importing it, which takes seconds.
    None for a class whose rules aren't known here."""
    how, config = read_object(root / "tokenizer_config.json"), read_object(root / "config.json")
    given = how.get("model_input_names")
    if is_whole_class(how, config):
        made = Tokenizer.from_file(str(root / TOKENIZER_FILE))
        made.no_truncation()
        made.no_padding()
        pair = made.encode("a", "a")
        has_types = isinstance(given, list) and "token_type_ids" in given
        return _frame_of(pair.sequence_ids, pair.ids, pair.type_ids if has_types else [0] * len(pair.ids))
    if not is_bert_class(how, config) or given is not None:
        return None
    # BertTokenizer's own template, whatever tokenizer.json says of pairs.
    names = [how.get("cls_token", "[CLS]"), how.get("sep_token", "[SEP]")]
    cls, sep = (plain["model"]["vocab"][name["content"] if isinstance(name, dict) else name] for name in names)
    return PairFrame(([cls], [0]), ([sep], [0]), ([sep], [1]), (0, 1))


def _frame_of(owners: Sequence[int | None], ids: Sequence[int], types: Sequence[int]) -> PairFrame:
    first = [place for place, owner in enumerate(owners) if owner == 0]
    second = [place for place, owner in enumerate(owners) if owner == 1]
    if not first or not second or first[-1] > second[0]:
        raise Refused("tokenizer.json", "it makes no pair of two texts, one after the other")

    def part(start: int, end: int) -> tuple[list[int], list[int]]:
        return list(ids[start:end]), list(types[start:end])

    between = part(first[-1] + 1, second[0])
    return PairFrame(part(0, first[0]), between, part(second[-1] + 1, len(ids)), (types[first[0]], types[second[0]]))


def has_frame(root: Path) -> bool:
    """Whether one was written down. Any process."""
    return (root / ".converted" / _FILE).exists()


def read_frame(root: Path) -> PairFrame:
    """What was written down. Any process. Raises Refused where nothing was."""
    try:
        document = read_json(root / ".converted" / _FILE, 2**20)
        return PairFrame(**{name: tuple(value) for name, value in document.items()})
    except (FileNotFoundError, TypeError, AttributeError) as error:
        raise Refused("tokenizer.json", "how it puts two texts together wasn't written down") from error

"""The byte-pair tokenizer: learnt by `tokenizers`, applied by `tiktoken`. Part of the fixed half."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from sources import HarnessError, Progress, read_texts  # type: ignore[import-not-found]

if TYPE_CHECKING:
    import tiktoken

BOS = "<|bos|>"  # begins every document and every row; the last id of the vocabulary

# What a token may span at most: a word with the character before it, two digits, a run of signs with the line
# break and indentation after it, a line break with its indentation, spaces. There is no look-ahead, so that
# any text is cut in linear time.
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+(?:[\r\n]+[ \t]*)?|\s*[\r\n][ \t]*|\s+"


def learn_ranks(shards: list[Path], vocabulary: int, characters: int) -> dict[bytes, int]:
    """The ids of all tokens but the special one, learnt from that many characters, an equal share a shard."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    if not 257 < vocabulary <= 2**16:
        raise HarnessError(
            f"VOCAB_SIZE is {vocabulary}, and must be 258 to 65536: tokens are kept as uint16."
        )
    progress = Progress("learning the vocabulary", len(shards))

    def texts() -> Iterator[str]:
        for shard in shards:
            left = characters // len(shards)
            for text in itertools.chain.from_iterable(read_texts(shard)):
                yield text
                left -= len(text)
                if left <= 0:
                    break
            progress.advance(1)

    words = pre_tokenizers.Split(Regex(WORDS), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - 1, show_progress=False, initial_alphabet=alphabet)
    with progress:  # in a thread, so that Ctrl-C is heard meanwhile
        ThreadPoolExecutor(1).submit(tokenizer.train_from_iterator, texts(), trainer).result()
    ids = tokenizer.get_vocab()
    merged = [token for token in sorted(ids, key=ids.__getitem__) if len(token) > 1]
    tokens = [bytes([byte]) for byte in range(256)] + [bytes_behind(token) for token in merged]
    if len(tokens) != vocabulary - 1:
        raise HarnessError(
            f"There is too little text for VOCAB_SIZE {vocabulary}: it gives {len(tokens) + 1} tokens."
        )
    return {token: rank for rank, token in enumerate(tokens)}


def bytes_behind(token: str) -> bytes:
    """What a token of `tokenizers` stands for: there each byte is written as a visible character.

    Visible Latin-1 stands for itself, and U+0100 and the characters after it for the other bytes in order.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in visible]
    return bytes(others[ord(letter) - 0x100] if ord(letter) >= 0x100 else ord(letter) for letter in token)


def encoding_of(ranks: dict[bytes, int]) -> tiktoken.Encoding:
    """The tokenizer of these ranks, with the special token after them."""
    import tiktoken

    special = {BOS: len(ranks)}
    return tiktoken.Encoding("autoresearch", pat_str=WORDS, mergeable_ranks=ranks, special_tokens=special)


def save(ranks: dict[bytes, int], folder: Path) -> None:
    """Write `ranks.tiktoken`, and `token_bytes.npy`: the UTF-8 bytes of each token, 0 for the special one."""
    import numpy as np

    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()]
    (folder / "ranks.tiktoken").write_bytes(b"".join(lines))
    np.save(folder / "token_bytes.npy", np.array([*map(len, ranks), 0], dtype=np.int64))


def load(folder: Path) -> tiktoken.Encoding:
    """The tokenizer that was saved in a folder."""
    pairs = (line.split() for line in (folder / "ranks.tiktoken").read_bytes().splitlines())
    return encoding_of({base64.b64decode(token): int(rank) for token, rank in pairs})

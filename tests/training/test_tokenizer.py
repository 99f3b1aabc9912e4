from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import HarnessError, parquet, prose
from training import tokenizer

VOCABULARY = 300


def shard(folder: Path, *texts: str) -> Path:
    return parquet(folder / f"{len(list(folder.iterdir()))}.parquet", texts)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, int]:
    folder = tmp_path_factory.mktemp("text")
    return tokenizer.learn_ranks([shard(folder, prose(300)), shard(folder, prose(300, 1))], VOCABULARY, 10**6)


@pytest.fixture(scope="module")
def encoding(ranks: dict[bytes, int]) -> tiktoken.Encoding:
    return tokenizer.encoding_of(ranks)


@given(text=st.text() | st.text("\n\t \r'aé１😀_.", min_size=1))
def test_any_text_comes_back(encoding: tiktoken.Encoding, text: str) -> None:
    assert encoding.decode(encoding.encode_ordinary(text)) == text


def test_the_vocabulary_has_exactly_the_asked_size(
    ranks: dict[bytes, int], encoding: tiktoken.Encoding
) -> None:
    assert encoding.n_vocab == VOCABULARY
    assert encoding.encode(tokenizer.BOS, allowed_special="all") == [VOCABULARY - 1]
    assert sorted(ranks.values()) == list(range(VOCABULARY - 1))
    assert all(ranks[bytes([byte])] == byte for byte in range(256))


def test_frequent_words_are_one_token(encoding: tiktoken.Encoding) -> None:
    assert len(encoding.encode_ordinary(" winter")) == 1
    assert len(encoding.encode_ordinary(" élan")) == 1


def test_the_special_token_written_in_a_text_is_only_text(encoding: tiktoken.Encoding) -> None:
    tokens = encoding.encode_ordinary(f"a {tokenizer.BOS} b")
    assert VOCABULARY - 1 not in tokens
    assert encoding.decode(tokens) == f"a {tokenizer.BOS} b"


@pytest.mark.parametrize("text", ["a" * 10**6, " " * 10**6, "\n" * 10**6, "é" * 10**6, "=-" * 10**6])
def test_a_monotonous_text_takes_no_forever(encoding: tiktoken.Encoding, text: str) -> None:
    assert encoding.decode(encoding.encode_ordinary(text)) == text


def test_learning_twice_gives_the_same(ranks: dict[bytes, int], tmp_path: Path) -> None:
    shards = [shard(tmp_path, prose(300)), shard(tmp_path, prose(300, 1))]
    assert tokenizer.learn_ranks(shards, VOCABULARY, 10**6) == ranks


def test_only_the_asked_number_of_characters_is_read(tmp_path: Path) -> None:
    shards = [shard(tmp_path, prose(300), "zqzqzqzq " * 10_000), shard(tmp_path, prose(300))]
    ranks = tokenizer.learn_ranks(shards, 280, 2 * len(prose(300)))
    assert b"zq" not in ranks


def test_what_is_saved_is_loaded(
    ranks: dict[bytes, int], encoding: tiktoken.Encoding, tmp_path: Path
) -> None:
    tokenizer.save(ranks, tmp_path)
    loaded = tokenizer.load(tmp_path)
    assert loaded.n_vocab == VOCABULARY
    assert loaded.encode_ordinary(prose(50, 2)) == encoding.encode_ordinary(prose(50, 2))
    sizes = np.load(tmp_path / "token_bytes.npy")
    assert sizes[-1] == 0
    assert all(sizes[rank] == len(token) for token, rank in ranks.items())


def test_every_byte_has_its_visible_character() -> None:
    from tokenizers import pre_tokenizers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    assert {tokenizer.bytes_behind(letter) for letter in alphabet} == {bytes([byte]) for byte in range(256)}


@pytest.mark.parametrize("size", [257, 2**16 + 1])
def test_a_vocabulary_that_cannot_be_stored_is_refused(size: int, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=f"VOCAB_SIZE is {size}"):
        tokenizer.learn_ranks([shard(tmp_path, prose(10))], size, 10**6)


def test_too_little_text_for_the_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="too little text for VOCAB_SIZE 300"):
        tokenizer.learn_ranks([shard(tmp_path, "hello hello")], VOCABULARY, 10**6)

"""The content hash agrees with its definition however the bytes arrive."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core import content_hash as module
from dbxfs.core.content_hash import BLOCK, EMPTY, ContentHasher, content_hash, hash_blocks


def by_definition(data: bytes) -> str:
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    return hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks)).hexdigest()


def test_empty_content_is_the_hash_of_nothing() -> None:
    assert EMPTY == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert content_hash(b"") == EMPTY
    assert hash_blocks([]) == EMPTY


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 7])
def test_sizes_around_the_block_follow_the_definition(size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    assert content_hash(data[:size]) == by_definition(data[:size])


def test_one_block_is_hashed_twice() -> None:
    assert content_hash(b"hello") == hashlib.sha256(hashlib.sha256(b"hello").digest()).hexdigest()


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_any_cutting_of_the_stream_gives_the_same_hash(pieces: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", 16)
        hasher = ContentHasher()
        for piece in pieces:
            hasher.update(piece)
        whole = b"".join(pieces)
        digests = [hashlib.sha256(whole[i : i + 16]).digest() for i in range(0, len(whole), 16)]
        assert hasher.hexdigest() == hash_blocks(digests) == content_hash(whole)


def test_a_digest_may_be_asked_for_midway_without_disturbing_the_stream() -> None:
    hasher = ContentHasher()
    hasher.update(b"abc")
    assert hasher.digest().hex() == content_hash(b"abc")
    hasher.update(b"def")
    assert hasher.hexdigest() == content_hash(b"abcdef")


def test_a_copy_goes_on_by_itself() -> None:
    first = ContentHasher()
    first.update(b"x" * (BLOCK + 5))
    second = first.copy()
    second.update(b"y")
    assert first.hexdigest() == content_hash(b"x" * (BLOCK + 5))
    assert second.hexdigest() == content_hash(b"x" * (BLOCK + 5) + b"y")


def test_views_of_any_item_size_are_read_as_bytes() -> None:
    data = bytes(range(64))
    assert content_hash(memoryview(data).cast("I")) == content_hash(data)

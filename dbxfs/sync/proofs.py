"""Whether a large content that came in pieces, in any order, is the one that Dropbox names.

Each 4 MiB of it are hashed once all of their blocks have come; when all have, the digests together
must give the content hash. What has another one is dropped and fetched again; if that is wrong too,
it is *damaged*, and no program gets it.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from dbxfs.core.content_hash import BLOCK as HASHED
from dbxfs.core.recent import keep_recent
from dbxfs.store.blocks import BLOCK, BlockCache

from .memory import Memory
from .version import Version

log = logging.getLogger(__name__)

GROUP = HASHED // BLOCK
"""Blocks that are hashed together (core.content_hash)."""
AT_ONCE = 64
"""Contents whose digests are kept."""


@dataclass(slots=True)
class _Proof:
    """What is known of a content's hash so far."""

    done: set[int] = field(default_factory=set)
    digests: dict[int, bytes] = field(default_factory=dict)


class Proofs:
    """Holds what has come against the hashes that Dropbox names."""

    def __init__(self, memory: Memory, cache: BlockCache, drop: Callable[[Version], None]) -> None:
        """`drop`: a content came with another hash, and is to be fetched anew."""
        self._memory = memory
        self._cache = cache
        self._drop = drop
        self._proofs: OrderedDict[str, _Proof] = OrderedDict()
        self._suspects: set[str] = set()
        self._damaged: set[str] = set()

    def is_damaged(self, version: Version) -> bool:
        """Whether what Dropbox sends was wrong twice."""
        return version.key in self._damaged

    def forget(self, content: str) -> None:
        """What has come of a content is gone again."""
        self._proofs.pop(content, None)

    def loaded(self, version: Version, number: int) -> None:
        """The disk cache had a block whole."""
        if version.blocks > 1:
            self._proof(version).done.add(number)

    async def came(self, version: Version, number: int) -> None:
        """Hash what can be hashed; when all of a large file has come, hold it against its hash."""
        if version.blocks == 1 or version.hash is None:
            return
        proof = self._proof(version)
        proof.done.add(number)
        groups = -(-version.blocks // GROUP)
        complete = len(proof.done) == version.blocks
        for group in range(groups) if complete else [number // GROUP]:
            blocks = range(group * GROUP, min((group + 1) * GROUP, version.blocks))
            if group not in proof.digests and proof.done.issuperset(blocks):
                digest = await trio.to_thread.run_sync(self.digest(version, blocks))
                if digest is None:
                    proof.done.difference_update(blocks)
                    return
                proof.digests[group] = digest
        if len(proof.digests) == groups and self._proofs.get(version.key) is proof:
            self._judge(version, proof)

    def digest(self, version: Version, blocks: range) -> Callable[[], bytes | None]:
        """What hashes some blocks, for a thread; gives None where one of them is gone again.

        Only the loop looks into memory: a thread would find it changing.
        """
        held = [self._memory.whole(version.key, number) for number in blocks]

        def hashed() -> bytes | None:
            hasher = hashlib.sha256()
            for number, data in zip(blocks, held, strict=True):
                found = self._cache.get(version.key, number) if data is None else data
                if found is None:
                    return None
                hasher.update(found)
            return hasher.digest()

        return hashed

    def _proof(self, version: Version) -> _Proof:
        proof = self._proofs.get(version.key) or _Proof()
        return keep_recent(self._proofs, version.key, proof, AT_ONCE)

    def _judge(self, version: Version, proof: _Proof) -> None:
        digests = b"".join(proof.digests[group] for group in sorted(proof.digests))
        if hashlib.sha256(digests).hexdigest() == version.hash:
            self._suspects.discard(version.key)
        else:
            log.error("revision %s arrived with another content hash", version.rev)
            self._drop(version)
            if version.key in self._suspects:
                self._damaged.add(version.key)
            self._suspects.add(version.key)
        self._proofs.pop(version.key, None)

"""A large upload that is killed goes on with what is missing; one that Dropbox forgot starts over.

What was sent is counted by the server, in bytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from tests.durability.ambush import (
    EXPECTED,
    MIB,
    MOMENTS,
    SESSION,
    THOROUGH,
    Moment,
    hold,
    wait_held,
)
from tests.mount.mounted import Mounted, eventually

SIZE = 40 * MIB
PART = 8 * MIB
"""Bytes of one append (`sync.uploader.SMALLEST_PART`)."""
AROUND = 128 * 1024
"""Bytes that all other calls may have in their bodies."""
CONTENT = b"".join(number.to_bytes(4, "big") * 1024 for number in range(SIZE // 4096))


@pytest.fixture
def killed(make_mount: Callable[..., Mounted], moment: Moment) -> Mounted:
    """A mount whose daemon was killed when the third part of five was still to be answered."""
    mounted = make_mount()
    mounted.announce(*EXPECTED)
    mounted.sync()
    hold(mounted, moment, [f"{SESSION}/append_v2"], [2])
    (mounted.path / "large").write_bytes(CONTENT)
    assert wait_held(mounted) == f"{SESSION}/append_v2"
    eventually(lambda: mounted.status()["uploading"]["sent"] == SIZE - PART, 20, "the other parts")
    mounted.kill()
    mounted.server.faults()
    mounted.server.reset_counters()
    return mounted


def arrives(mounted: Mounted) -> tuple[dict[str, int], int]:
    """The file must be on Dropbox, once and right; gives the session calls and bytes it took."""
    mounted.start()
    assert mounted.sync() == []
    counters = mounted.server.counters()
    assert mounted.server.paths() == ["/large"]
    assert mounted.server.content("/large") == CONTENT
    assert (mounted.path / "large").read_bytes() == CONTENT
    assert list((mounted.state / "staging").iterdir()) == []
    assert mounted.trouble() == []
    calls = {
        route.removeprefix(f"{SESSION}/"): count
        for route, count in counters["requests"].items()
        if route.startswith(f"{SESSION}/")
    }
    return calls, counters["bytes_in"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_a_kill_only_the_missing_parts_are_sent(killed: Mounted, moment: Moment) -> None:
    """One part either way: if it arrived unseen, it is sent again and not taken twice."""
    calls, sent = arrives(killed)
    assert calls == {"append_v2": 1, "finish": 1}
    assert sent < PART + AROUND


@pytest.mark.parametrize("moment", MOMENTS if THOROUGH else ["after"])
def test_a_session_that_dropbox_no_longer_knows_starts_over(
    killed: Mounted, moment: Moment
) -> None:
    server = killed.server
    server.stop()
    with sqlite3.connect(server.data / "account.sqlite") as account:
        (count,) = account.execute("SELECT count(*) FROM sessions").fetchone()
        account.execute("UPDATE sessions SET created = 0")
    account.close()
    assert count == 1
    server.start()
    calls, sent = arrives(killed)
    assert calls == {"append_v2": 6, "start": 1, "finish": 1}
    assert sent < SIZE + PART + AROUND, "more was sent than all of it and one part in vain"


@pytest.mark.parametrize("moment", ["before"])
def test_other_content_does_not_go_on_with_the_session_of_what_it_replaced(
    killed: Mounted, moment: Moment
) -> None:
    killed.server.faults([{"route": f"{SESSION}/append_v2", "kind": "stall"}])
    killed.start()
    with (killed.path / "large").open("r+b") as file:
        file.write(b"changed")
    killed.kill()
    killed.server.faults()
    killed.start()
    assert killed.sync() == []
    assert killed.server.content("/large") == b"changed" + CONTENT[7:]
    assert killed.server.paths() == ["/large"]

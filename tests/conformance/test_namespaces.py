"""The path root header, and a team account whose root and home differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from dropbox import Dropbox, common
from dropbox.common import PathRoot
from dropbox.exceptions import PathRootError

from tests.conformance.place import Place, listed, private_place
from tests.conformance.service import refusal


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The account of a team's member, with a file in its home folder."""
    with private_place(tmp_path_factory.mktemp("team") / "account") as place:
        place.write("file", b"at home")
        place.server.control("team", {"on": True})
        yield place


def _rejected(call: Callable[[], object]) -> common.PathRootError:
    with pytest.raises(PathRootError) as caught:
        call()
    return caught.value.error


def _root(dbx: Dropbox) -> Dropbox:
    info = dbx.users_get_current_account().root_info
    return dbx.with_path_root(PathRoot.root(info.root_namespace_id))


def test_root_and_home_differ(team: Place) -> None:
    info = team.dbx.users_get_current_account().root_info
    assert isinstance(info, common.TeamRootInfo)
    assert info.root_namespace_id != info.home_namespace_id
    assert info.home_path.startswith("/")


def test_without_the_header_paths_start_at_home(team: Place) -> None:
    assert team.read("file") == b"at home"
    home = team.dbx.with_path_root(PathRoot.home)
    assert home.files_get_metadata(team("file")) == team.dbx.files_get_metadata(team("file"))


def test_the_root_shows_home_below_the_teams_space(team: Place) -> None:
    info = team.dbx.users_get_current_account().root_info
    root = _root(team.dbx)
    names = [entry.path_display for entry in listed(root, "")[0]]
    assert info.home_path in names
    entry = root.files_get_metadata(f"{info.home_path}{team('file')}")
    assert entry.id == team.dbx.files_get_metadata(team("file")).id
    assert entry.path_display == f"{info.home_path}{team('file')}"


def test_what_is_written_from_the_root_is_seen_from_home(team: Place) -> None:
    info = team.dbx.users_get_current_account().root_info
    root = _root(team.dbx)
    root.files_upload(b"new", f"{info.home_path}{team('new')}")
    assert team.read("new") == b"new"
    paths = [e.path_display for e in listed(root, info.home_path, recursive=True)[0]]
    assert f"{info.home_path}{team('new')}" in paths


def test_the_home_namespace_may_be_the_root(team: Place) -> None:
    info = team.dbx.users_get_current_account().root_info
    home = team.dbx.with_path_root(PathRoot.namespace_id(info.home_namespace_id))
    assert home.files_get_metadata(team("file")).name == "file"


def test_the_root_of_a_plain_account_is_its_home(place: Place) -> None:
    assert place.hello
    assert _root(place.dbx).files_get_metadata(place("hello.txt")) == place.hello


def test_a_root_that_changed_is_told_with_the_new_one(team: Place) -> None:
    info = team.dbx.users_get_current_account().root_info
    old = team.dbx.with_path_root(PathRoot.root(info.home_namespace_id))
    error = _rejected(lambda: old.files_list_folder(""))
    assert error.is_invalid_root()
    told = error.get_invalid_root()
    assert isinstance(told, common.TeamRootInfo)
    assert told.root_namespace_id == info.root_namespace_id
    assert told.home_namespace_id == info.home_namespace_id
    assert told.home_path == info.home_path


@pytest.mark.parametrize("unknown", ["1", "999999999999"])
def test_a_namespace_without_access_is_refused(place: Place, unknown: str) -> None:
    elsewhere = place.dbx.with_path_root(PathRoot.namespace_id(unknown))
    assert _rejected(lambda: elsewhere.files_list_folder("")).is_no_permission()


def test_the_header_counts_for_every_route(team: Place) -> None:
    wrong = team.dbx.with_path_root(PathRoot.namespace_id("999999999999"))
    for call in (
        lambda: wrong.files_upload(b"", "/x"),
        lambda: wrong.files_download("/x"),
        lambda: wrong.files_get_metadata("/x"),
        lambda: wrong.files_create_folder_v2("/x"),
    ):
        assert _rejected(call).is_no_permission()


def test_a_header_that_is_no_json_is_a_malformed_call(place: Place) -> None:
    reply = place.service.rpc(
        "files/list_folder", {"path": ""}, headers={"Dropbox-API-Path-Root": "{"}
    )
    assert reply.status_code == 400


@pytest.mark.embedded
def test_a_shared_folder_is_a_namespace_of_its_own(place: Place) -> None:
    path = place.shared("s", "editor")
    shared_id = place.dbx.files_get_metadata(path).sharing_info.shared_folder_id
    entry = place.dbx.files_get_metadata(f"ns:{shared_id}/file")
    assert entry.id == place.dbx.files_get_metadata(f"{path}/file").id
    inside = place.dbx.with_path_root(PathRoot.namespace_id(shared_id))
    assert [e.name for e in listed(inside, "")[0]] == ["file"]


def test_an_unknown_namespace_in_a_path_is_not_found(place: Place) -> None:
    error = refusal(lambda: place.dbx.files_get_metadata("ns:999999999999/x"))
    assert error == "path/not_found"

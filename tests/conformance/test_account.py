"""users and check: who is asking, how much space there is, what the account can do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dropbox import Dropbox, common, users
from dropbox.files import WriteMode

from tests.conformance.place import Place
from tests.conformance.service import Service, bad_call, refusal


def test_the_account_is_described(dbx: Dropbox) -> None:
    account = dbx.users_get_current_account()
    assert isinstance(account, users.FullAccount)
    assert len(account.account_id) == 40
    assert account.account_id.startswith("dbid:")
    assert "@" in account.email
    assert account.name.display_name
    assert not account.disabled
    assert account.root_info.root_namespace_id
    assert account.root_info.home_namespace_id


@pytest.mark.embedded
def test_a_plain_account_has_one_namespace(dbx: Dropbox) -> None:
    info = dbx.users_get_current_account().root_info
    assert isinstance(info, common.UserRootInfo)
    assert info.root_namespace_id == info.home_namespace_id


def test_space_is_told_in_bytes(dbx: Dropbox) -> None:
    usage = dbx.users_get_space_usage()
    assert usage.used >= 0
    if usage.allocation.is_individual():
        assert usage.allocation.get_individual().allocated > 0
    else:
        assert usage.allocation.get_team().allocated > 0


@pytest.mark.embedded
def test_what_is_stored_counts(place: Place) -> None:
    def used() -> int:
        return int(place.dbx.users_get_space_usage().used)

    before = used()
    place.write("file", b"x" * 1000)
    assert used() == before + 1000
    place.write("file", b"x" * 400)
    assert used() == before + 400
    place.dbx.files_copy_v2(place("file"), place("folder/copy"))
    assert used() == before + 800
    place.dbx.files_delete_v2(place("folder"))
    place.dbx.files_upload(b"x" * 400, place("file"), mode=WriteMode.overwrite)
    assert used() == before + 400


@pytest.mark.embedded
def test_the_quota_is_told(place: Place, allowance: Callable[[int], None]) -> None:
    allowance(123_456)
    usage = place.dbx.users_get_space_usage()
    assert usage.allocation.get_individual().allocated == usage.used + 123_456


FEATURES = [
    users.UserFeature.paper_as_files,
    users.UserFeature.file_locking,
    users.UserFeature.team_shared_dropbox,
    users.UserFeature.distinct_member_home,
]


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: str(feature._tag))
def test_a_feature_is_told(dbx: Dropbox, feature: users.UserFeature) -> None:
    (value,) = dbx.users_features_get_values([feature]).values
    assert value._tag == feature._tag


def test_features_are_told_in_the_order_asked(dbx: Dropbox) -> None:
    values = dbx.users_features_get_values(FEATURES[::-1]).values
    assert [value._tag for value in values] == [feature._tag for feature in FEATURES[::-1]]


def test_no_feature_at_all_is_refused(dbx: Dropbox) -> None:
    assert refusal(lambda: dbx.users_features_get_values([])) == "empty_features_list"


@pytest.mark.parametrize("query", ["", "foo", "ÄÖ 🎈", "x" * 500])
def test_check_user_echoes(dbx: Dropbox, query: str) -> None:
    assert dbx.check_user(query).result == query


def test_a_long_echo_is_a_malformed_call(service: Service) -> None:
    bad_call(service.rpc("check/user", {"query": "x" * 501}))

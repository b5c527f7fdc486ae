"""Attributes as property fields and back, and what follows when two sides change them."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dbxfs.core.attributes import (
    FIELDS,
    LARGEST,
    LONGEST_VALUE,
    NOTHING,
    SYMLINK_INFO,
    Attributes,
    decode,
    delta,
    encode,
    fits,
    merge,
    pack_xattrs,
    unpack_xattrs,
    without_setuid,
)
from dbxfs.core.content_hash import content_hash

SECOND = 1_000_000_000
WRITTEN = 1_500_000_000 * SECOND
MOST_FIELDS = 32
"""Of a template (API reference)."""

names = st.binary(min_size=1, max_size=20).map(lambda raw: b"user." + raw.replace(b"\0", b"x"))
targets = st.binary(min_size=1, max_size=300).map(lambda raw: raw.replace(b"\0", b"/"))
ids = st.none() | st.integers(0, 0xFFFFFFFE)
attributes = st.builds(
    Attributes,
    mode=st.none() | st.integers(0, 0o7777),
    mtime_ns=st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
    uid=ids,
    gid=ids,
    link=st.none() | targets,
    xattrs=st.dictionaries(names, st.binary(max_size=100), max_size=4),
)


def hash_of(kept: Attributes) -> str:
    return content_hash(b"" if kept.link is None else kept.link)


@pytest.mark.parametrize(
    ("kept", "fields"),
    [
        (NOTHING, {}),
        (Attributes(mode=0o755), {"mode": "0755"}),
        (Attributes(mode=0), {"mode": "0000"}),
        (
            Attributes(mtime_ns=WRITTEN + 7),
            {"mtime_ns": "1500000000000000007", "mtime_of": "1500000000"},
        ),
        (Attributes(uid=1000, gid=0), {"uid": "1000", "gid": "0"}),
    ],
)
def test_what_people_may_want_to_read_has_a_field_of_its_own(
    kept: Attributes, fields: dict[str, str]
) -> None:
    assert encode(kept, WRITTEN) == fields


def test_a_folders_time_refers_to_nothing() -> None:
    assert encode(Attributes(mtime_ns=7), None) == {"mtime_ns": "7"}
    assert decode({"mtime_ns": "7"}, None, None) == Attributes(mtime_ns=7)


@given(attributes, st.integers(-(10**9), 10**10).map(lambda second: second * SECOND))
def test_everything_comes_back(kept: Attributes, written: int) -> None:
    assume(fits(kept))
    assert decode(encode(kept, written), written, hash_of(kept)) == kept


@given(attributes)
def test_fields_are_those_of_the_template_and_not_too_long(kept: Attributes) -> None:
    assume(fits(kept))
    fields = encode(kept, 0)
    assert fields.keys() <= FIELDS.keys()
    assert all(len(value.encode()) <= LONGEST_VALUE for value in fields.values())


def test_the_template_has_no_more_fields_than_dropbox_takes() -> None:
    assert len(FIELDS) <= MOST_FIELDS


def test_a_time_does_not_outlive_the_content_that_it_was_set_for() -> None:
    fields = encode(Attributes(mtime_ns=7, mode=0o755), WRITTEN)
    assert decode(fields, WRITTEN + SECOND, None) == Attributes(mode=0o755)


def test_a_link_that_was_written_over_elsewhere_is_a_plain_file() -> None:
    fields = encode(Attributes(link=b"../a", mode=0o777), WRITTEN)
    assert decode(fields, WRITTEN, content_hash(b"../a")).link == b"../a"
    assert decode(fields, WRITTEN, content_hash(b"other")) == Attributes(mode=0o777)
    assert decode(fields, WRITTEN, None).link is None


def test_a_link_that_dropbox_itself_has_is_taken_as_it_is() -> None:
    assert decode({SYMLINK_INFO: "/etc/x"}, WRITTEN, content_hash(b"")).link == b"/etc/x"
    assert decode({SYMLINK_INFO: "a\0b"}, WRITTEN, content_hash(b"")).link is None


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "rwx"},
        {"mode": "17777"},
        {"mode": "-1"},
        {"mode": "٧٥٥"},
        {"uid": "4294967295"},
        {"gid": "-1"},
        {"mtime_ns": "1" * 5000, "mtime_of": "1500000000"},
        {"mtime_ns": "5"},
        {"mtime_ns": "yesterday", "mtime_of": "1500000000"},
        {"type": "symlink"},
        {"type": "socket"},
        {"data00": "not base64"},
        {"data00": "AAAA"},
        {"other": "field"},
    ],
)
def test_what_makes_no_sense_counts_as_not_there(fields: dict[str, str]) -> None:
    assert decode(fields, WRITTEN, content_hash(b"")) == NOTHING


@given(st.dictionaries(st.sampled_from([*FIELDS, SYMLINK_INFO]), st.text(max_size=60)))
def test_no_field_from_outside_breaks_anything(fields: dict[str, str]) -> None:
    found = decode(fields, WRITTEN, content_hash(b""))
    assert found.mode is None or 0 <= found.mode <= 0o7777


def test_a_bomb_is_not_unpacked() -> None:
    fields = encode(Attributes(xattrs={b"user.a": bytes(4 << 20)}), 0)
    assert decode(fields, 0, None) == NOTHING


def test_more_than_dropbox_keeps_does_not_fit() -> None:
    assert fits(Attributes(xattrs={b"user.a": _random(12_000)}))
    assert not fits(Attributes(xattrs={b"user.a": _random(13_000)}))


def test_as_much_as_fits_can_be_sent_however_random_it_is() -> None:
    largest = Attributes(xattrs={b"user.a": _random(LARGEST - 16)})
    assert fits(largest)
    assert encode(largest, 0)
    assert not fits(Attributes(xattrs={b"user.a": bytes(LARGEST)}))


def test_regression_a_value_can_be_replaced_by_a_shorter_one_when_there_is_no_more_room() -> None:
    xattrs: dict[bytes, bytes] = {}
    number = 0
    while fits(Attributes(xattrs=xattrs | {b"user.var_%d" % number: b"orig-value-%d" % number})):
        xattrs[b"user.var_%d" % number] = b"orig-value-%d" % number
        number += 1
    for replaced in range(number):
        xattrs[b"user.var_%d" % replaced] = b"value-%d" % replaced
        assert fits(Attributes(xattrs=xattrs))


def _random(size: int) -> bytes:
    state, out = 1, bytearray()
    for _ in range(size):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        out.append(state >> 56)
    return bytes(out)


@pytest.mark.parametrize(
    ("base", "local", "remote", "expected"),
    [
        (None, None, 0o755, 0o755),
        (0o644, 0o644, 0o755, 0o755),
        (0o644, 0o644, None, None),
        (0o644, 0o600, 0o644, 0o600),
        (0o644, 0o600, 0o755, 0o600),
        (0o644, None, 0o755, None),
    ],
)
def test_what_is_not_changed_here_follows_dropbox(
    base: int | None, local: int | None, remote: int | None, expected: int | None
) -> None:
    merged = merge(Attributes(mode=base), Attributes(mode=local), Attributes(mode=remote))
    assert merged == Attributes(mode=expected)


@given(attributes, attributes)
def test_a_change_on_one_side_alone_is_what_is_seen(base: Attributes, changed: Attributes) -> None:
    assert merge(base, base, changed) == changed
    assert merge(base, changed, base) == changed
    assert merge(base, changed, changed) == changed


@given(attributes, attributes, attributes)
def test_a_merge_done_twice_changes_nothing(
    base: Attributes, local: Attributes, remote: Attributes
) -> None:
    merged = merge(base, local, remote)
    assert merge(remote, merged, remote) == merged


def test_extended_attributes_are_merged_one_by_one() -> None:
    base = Attributes(xattrs={b"user.a": b"1", b"user.b": b"1", b"user.c": b"1"})
    local = Attributes(xattrs={b"user.a": b"2", b"user.b": b"1", b"user.c": b"1"})
    remote = Attributes(xattrs={b"user.a": b"1", b"user.b": b"2", b"user.d": b"1"})
    assert merge(base, local, remote).xattrs == {
        b"user.a": b"2",
        b"user.b": b"2",
        b"user.d": b"1",
    }


@given(attributes, attributes, st.integers(0, 10**9).map(lambda second: second * SECOND))
def test_a_delta_leads_from_one_set_of_fields_to_the_other(
    old: Attributes, new: Attributes, written: int
) -> None:
    assume(fits(old) and fits(new))
    before, after = encode(old, written), encode(new, written)
    wanted, gone = delta(before, after)
    assert {n: v for n, v in (before | wanted).items() if n not in gone} == after
    assert not wanted.keys() & set(gone)
    assert set(gone) <= before.keys()


def test_a_delta_of_nothing_is_empty_and_leaves_others_fields_alone() -> None:
    assert delta({"mode": "0600"}, {"mode": "0600"}) == ({}, [])
    assert delta({"mode": "0600", "uid": "7"}, {"mode": "0755", "uid": "7"}) == (
        {"mode": "0755"},
        [],
    )


def test_a_time_goes_with_what_it_stands_for() -> None:
    old = encode(Attributes(mtime_ns=WRITTEN + 7), WRITTEN)
    new = encode(Attributes(mtime_ns=WRITTEN + 8), WRITTEN)
    assert delta(old, new) == (new, [])


def test_setuid_bits_can_be_left_out() -> None:
    assert without_setuid(Attributes(mode=0o6755)) == Attributes(mode=0o755)
    assert without_setuid(Attributes(mode=0o1777)) == Attributes(mode=0o1777)
    assert without_setuid(NOTHING) == NOTHING


@given(st.dictionaries(names, st.binary(max_size=50)))
def test_the_database_gives_extended_attributes_back(xattrs: dict[bytes, bytes]) -> None:
    assert unpack_xattrs(pack_xattrs(xattrs)) == xattrs


@given(st.binary(max_size=50))
def test_what_the_database_garbled_is_no_extended_attribute(packed: bytes) -> None:
    assert isinstance(unpack_xattrs(packed), dict)

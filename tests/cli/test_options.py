"""What `-o` and SOURCE may say, and how what they may not say is named."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.cli.options import (
    MountOptions,
    UsageError,
    parse_options,
    parse_size,
    parse_source,
    split_options,
)

BASE = MountOptions(mountpoint=Path("/mnt"))


def parsed(*texts: str) -> MountOptions:
    return parse_options(BASE, split_options(texts))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("1k", 1024),
        ("500M", 500 << 20),
        ("10G", 10 << 30),
        ("2T", 2 << 40),
    ],
)
def test_sizes_are_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1.5G", "10 G", "10GB", "ten", "9999999999T"])
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "account", "folder"),
    [
        ("none", "default", ""),
        ("dbxfs", "default", ""),
        ("dbxfs:", "default", ""),
        ("dbxfs:work", "work", ""),
        ("dbxfs:joe@example.org", "joe@example.org", ""),
        ("dbxfs:work/", "work", ""),
        ("dbxfs:work/a/b c", "work", "/a/b c"),
        ("dbxfs:/Photos", "default", "/Photos"),
        ("dbxfs:work//a//Größe", "work", "/a/Größe"),
    ],
)
def test_a_source_is_an_account_and_maybe_a_folder(source: str, account: str, folder: str) -> None:
    assert parse_source(source) == (account, folder)


@pytest.mark.parametrize(
    "source",
    [
        "work",
        "dropbox:work",
        "dbxfs:../etc",
        "dbxfs:.hidden",
        "dbxfs:demo",
        "dbxfs:Mounts",
        "dbxfs:work/..",
        "dbxfs:work/a\\b",
        "/dev/sda1",
    ],
)
def test_what_is_no_source_is_refused(source: str) -> None:
    with pytest.raises(UsageError):
        parse_source(source)


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("cache_size=2G", "cache_size", 2 << 30),
        ("upload_limit=500K", "upload_limit", 500 << 10),
        ("download_limit=2M", "download_limit", 2 << 20),
        ("upload_limit=0", "upload_limit", None),
        ("state_dir=/s", "state_dir", Path("/s")),
        ("cache_dir=/c", "cache_dir", Path("/c")),
        ("api_url=http://127.0.0.1:8080/", "api_url", "http://127.0.0.1:8080"),
        ("sync=remote", "sync_remote", True),
        ("sync=local", "sync_remote", False),
        ("inotify=always", "inotify", "always"),
        ("inotify=never", "inotify", "never"),
        ("uid=1000", "uid", 1000),
        ("gid=0", "gid", 0),
        ("fmask=0137", "fmask", 0o137),
        ("dmask=27", "dmask", 0o27),
        ("demo", "demo", True),
        ("export_extension", "export_extension", True),
    ],
)
def test_each_option_sets_its_field(option: str, field: str, value: object) -> None:
    assert getattr(parsed(option), field) == value


def test_umask_is_for_files_and_folders() -> None:
    options = parsed("umask=077")
    assert (options.fmask, options.dmask) == (0o077, 0o077)


def test_a_folder_may_be_given_relative_or_below_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/joe")
    options = parsed("state_dir=s,cache_dir=~/c")
    assert (options.state_dir, options.cache_dir) == (tmp_path / "s", Path("/home/joe/c"))


def test_later_options_win_and_several_lists_are_one() -> None:
    options = parsed("uid=1,cache_size=1G", "uid=2,,ro")
    assert (options.uid, options.cache_size) == (2, 1 << 30)
    assert "ro" in options.kernel


def test_without_options_it_is_the_callers_and_safe() -> None:
    options = parsed()
    assert (options.uid, options.gid) == (os.getuid(), os.getgid())
    assert options.kernel == {"nosuid", "nodev"}


def test_what_a_line_of_fstab_brings_along_is_tolerated() -> None:
    line = (
        "rw,noauto,user=joe,users,owner,group,nofail,_netdev,defaults,exec,relatime,"
        "x-systemd.automount,x-systemd.idle-timeout=60,x-gvfs-show,comment=mine"
    )
    assert parsed(line).kernel == {"rw", "relatime", "nosuid", "nodev"}


def test_mount_with_s_leaves_out_what_is_unknown_and_nothing_else() -> None:
    parsed = parse_options(BASE, ["rsize=4096", "cache_size=1G", "whatever"], sloppy=True)
    assert parsed == parse_options(BASE, ["cache_size=1G"])
    with pytest.raises(UsageError, match="lots"):
        parse_options(BASE, ["cache_size=lots"], sloppy=True)


def test_options_of_the_kernel_are_passed_on() -> None:
    assert {"allow_other", "noexec", "ro"} <= parsed("allow_other,noexec,ro").kernel
    assert parsed("suid,dev").kernel == frozenset()


@pytest.mark.parametrize(
    "option",
    [
        "bogus",
        "bogus=1",
        "ro=1",
        "demo=yes",
        "export_extension=md",
        "uid",
        "cache_size=",
        "upload_limit=10",
        "download_limit=fast",
        "uid=joe",
        "uid=-1",
        "uid=4294967295",
        "fmask=8",
        "umask=01000",
        "sync=later",
        "inotify=sometimes",
        "inotify",
        "sync",
        "cache_size=much",
        "api_url=ftp://x",
        "api_url=http://example.org",
    ],
)
def test_a_wrong_option_is_named(option: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(option)
    name = option.partition("=")[0]
    assert name in str(caught.value) or repr(option.partition("=")[2]) in str(caught.value)


def test_plain_http_to_another_machine_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="only for a server on this machine"):
        parsed("api_url=http://example.org:80")


@pytest.mark.parametrize("options", ["allow_other,allow_root", "demo,api_url=https://example.org"])
def test_options_that_exclude_each_other_are_refused(options: str) -> None:
    with pytest.raises(UsageError):
        parsed(options)


@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_options_are_either_taken_or_refused(texts: list[str]) -> None:
    with contextlib.suppress(UsageError):
        assert parsed(*texts).mountpoint == BASE.mountpoint


@given(st.text(max_size=30))
def test_any_source_is_either_taken_or_refused(source: str) -> None:
    with contextlib.suppress(UsageError):
        account, folder = parse_source(source)
        assert "/" not in account
        assert not folder.endswith("/")

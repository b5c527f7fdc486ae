"""The older program of this name is noticed and named, and never advised."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from dbxfs.cli import older
from tests.cli.commands import Home


def install_older(prefix: Path, packages: str = "site-packages") -> Path:
    """What `pip install` of the older program leaves, as far as it is looked at."""
    command = prefix / "bin" / "dbxfs"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    (prefix / "lib" / "python3.9" / packages / "dbxfs-2.1.2.dist-info").mkdir(parents=True)
    return command


@pytest.mark.parametrize("packages", ["site-packages", "dist-packages"])
def test_the_older_program_on_the_path_is_named(tmp_path: Path, packages: str) -> None:
    command = install_older(tmp_path, packages)
    assert older.older_on_path(str(command.parent)) == (str(command), "2.1.2")


def test_a_link_to_the_older_program_is_followed(tmp_path: Path) -> None:
    command = install_older(tmp_path / "venv")
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin" / "dbxfs"
    link.symlink_to(command)
    assert older.older_on_path(str(link.parent)) == (str(link), "2.1.2")


def test_this_program_is_not_taken_for_the_older_one(tmp_path: Path) -> None:
    command = install_older(tmp_path)
    packages = tmp_path / "lib" / "python3.9" / "site-packages"
    (packages / "dbxfs-2.1.2.dist-info").rename(packages / "dbxfs_mount-0.1.0.dist-info")
    assert older.older_on_path(str(command.parent)) is None
    assert older.older_on_path(str(tmp_path / "nowhere")) is None


def test_in_one_environment_with_this_one_it_is_to_be_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        assert name == "dbxfs"
        return "2.1.2"

    monkeypatch.setattr(metadata, "version", version)
    older.warn_of_older_program()
    said = capsys.readouterr()
    assert "dbxfs 2.1.2" in said.err
    assert "pip uninstall dbxfs" in said.err
    assert "pip install" not in said.err
    assert said.out == ""


def test_the_commands_say_that_the_shell_finds_the_older_one(home: Home, tmp_path: Path) -> None:
    command = install_older(tmp_path / "old")
    ran = home.run("dbxfs", "status", env={"PATH": str(command.parent)})
    assert ran.code == 0
    assert str(command) in ran.err
    assert "dbxfs 2.1.2" in ran.err


def test_without_it_nothing_is_said(home: Home) -> None:
    assert home.run("dbxfs", "status").err == ""

"""A home for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home; commands run in it see nothing of ours."""
    path = tmp_path / "home"
    path.mkdir()
    return Home(path)


@pytest.fixture
def own_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The same for code that is called in this process."""
    monkeypatch.setenv("HOME", str(home.path))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("ACCESS_TOKEN", "REFRESH_TOKEN", "APP_KEY", "APP_SECRET"):
        monkeypatch.delenv(f"DBXFS_{name}", raising=False)
    return home

"""Where Dropbox is: what addresses are taken, what the environment adds."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from dbxfs.api.auth import StaticToken
from dbxfs.api.lanes import Lanes
from dbxfs.api.settings import Settings, check_url, http_client

AUTH = StaticToken("hush")


def test_dropbox_itself_is_the_default() -> None:
    settings = Settings.for_dropbox(AUTH)
    assert settings.api_url == "https://api.dropboxapi.com"
    assert settings.content_url == "https://content.dropboxapi.com"
    assert settings.notify_url == "https://notify.dropboxapi.com"
    assert settings.local is False


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080",
        "http://127.3.2.1",
        "http://localhost:1/",
        "http://[::1]:8080",
        "https://dropbox.example:8443",
        "https://localhost:8443",
    ],
)
def test_one_server_may_play_all_hosts(url: str) -> None:
    settings = Settings.for_url(url, AUTH)
    assert settings.api_url == settings.content_url == settings.notify_url == url.rstrip("/")
    assert settings.local is url.startswith("http://")


@pytest.mark.parametrize("url", ["http://example.com", "http://10.0.0.1:80", "http://127.0.0.1.x"])
def test_plain_http_is_for_this_machine_only(url: str) -> None:
    with pytest.raises(ValueError, match="use https"):
        Settings.for_url(url, AUTH)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "127.0.0.1:80",
        "ftp://localhost",
        "https://",
        "https://a:b",
        "https://a:99999",
        "http://[::1",
        "https://dröpbox.com",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        check_url(url)


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="scheme, host and port") as caught:
        check_url("https://user:hush@example.com")
    assert "hush" not in str(caught.value)


def test_the_path_root_is_checked_and_may_be_changed() -> None:
    assert Settings.for_dropbox(AUTH).with_path_root("7").path_root == "7"
    with pytest.raises(ValueError, match="path root"):
        Settings.for_dropbox(AUTH, path_root="7\n8")


def test_no_repr_shows_the_token() -> None:
    assert "hush" not in repr(Settings.for_dropbox(AUTH))


def pool_of(client: httpx.AsyncClient, url: str) -> object:
    return client._transport_for_url(httpx.URL(url))._pool  # type: ignore[attr-defined]


async def test_idle_connections_are_kept_as_many_as_there_may_be() -> None:
    async with http_client(Settings.for_dropbox(AUTH), Lanes().connections) as client:
        pool = pool_of(client, "https://api.dropboxapi.com")
        assert pool._max_connections == pool._max_keepalive_connections  # type: ignore[attr-defined]
        assert pool._max_connections > Lanes().connections  # type: ignore[attr-defined]
        assert all(value is not None for value in client.timeout.as_dict().values())


async def test_the_proxy_of_the_environment_is_used_but_not_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with http_client(Settings.for_dropbox(AUTH), 4) as client:
        assert "Proxy" in type(pool_of(client, "https://api.dropboxapi.com")).__name__
    async with http_client(Settings.for_url("http://127.0.0.1:1", AUTH), 4) as client:
        assert "Proxy" not in type(pool_of(client, "http://127.0.0.1:1")).__name__


@pytest.mark.parametrize(
    ("name", "value"),
    [("HTTPS_PROXY", "gopher://x"), ("HTTPS_PROXY", "socks5://x"), ("SSL_CERT_FILE", "/no/such")],
)
def test_an_unusable_environment_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="from the environment"):
        http_client(Settings.for_dropbox(AUTH), 4)


def test_a_certificate_file_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "certs.pem").write_text("nonsense")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certs.pem"))
    with pytest.raises(ValueError, match="from the environment"):
        http_client(Settings.for_dropbox(AUTH), 4)


async def test_certificates_of_the_environment_hold_for_https_on_this_machine_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings.for_url("https://localhost:8443", AUTH)
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such")
    with pytest.raises(ValueError, match="from the environment"):
        http_client(settings, 4)

"""Where Dropbox is and how patiently to talk to it; and the httpx client made from that.

Dropbox is three hosts (calls, contents, longpoll); the embedded server is one that plays all of
them. Plain http is accepted for this machine only: a token must not cross a network in the clear,
and a mistyped address is the likeliest way for it to.

Proxy and certificates come from the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE,
SSL_CERT_DIR), which httpx reads by itself. For plain http to this machine they are left alone,
since a proxy's idea of "127.0.0.1" is another machine.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

import httpx

from dbxfs.api.auth import checked

API_URL = "https://api.dropboxapi.com"
CONTENT_URL = "https://content.dropboxapi.com"
NOTIFY_URL = "https://notify.dropboxapi.com"

KEEP_IDLE = 60.0
"""Seconds that an idle connection is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that `open_client` needs to know. URLs without a slash at the end; seconds."""

    auth: httpx.Auth
    api_url: str = API_URL
    content_url: str = CONTENT_URL
    notify_url: str = NOTIFY_URL
    path_root: str | None = None
    """The namespace that "/" means; None: the account's home."""
    patience: float = 20.0
    """How long a call goes on trying, unless it is told otherwise."""
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    """The longest silence from the other side."""
    commit_timeout: float = 120.0
    """The longest silence after an upload's last byte, in which Dropbox puts the file together."""
    call_timeout: float = 120.0
    """The longest that one attempt of a call without contents may take in all."""
    metadata_limit: int = 8
    download_limit: int = 20
    append_limit: int = 8
    upload_rate: int | None = None
    """Bytes a second that contents may take, all together; None: what the link has."""
    download_rate: int | None = None

    def __post_init__(self) -> None:
        for url in (self.api_url, self.content_url, self.notify_url):
            check_url(url)
        if self.path_root is not None:
            checked("path root", self.path_root)

    @classmethod
    def for_dropbox(cls, auth: httpx.Auth, **more: Any) -> Settings:
        """Dropbox itself. `more`: any other field."""
        return cls(auth=auth, **more)

    @classmethod
    def for_url(cls, url: str, auth: httpx.Auth, **more: Any) -> Settings:
        """One server that plays all three hosts. `more`: any other field.

        Raises ValueError for what is no address, and for plain http to another machine.
        """
        base = check_url(url)
        return cls(auth=auth, api_url=base, content_url=base, notify_url=base, **more)

    def with_path_root(self, namespace: str | None) -> Settings:
        """The same with another root namespace."""
        return replace(self, path_root=namespace)

    @property
    def local(self) -> bool:
        """Whether all hosts are this machine over plain http: no proxy, no certificates."""
        urls = (self.api_url, self.content_url, self.notify_url)
        return all(urlsplit(url).scheme == "http" for url in urls)


def check_url(url: str) -> str:
    """`url` without a slash at its end. ValueError with a reason for people if it is unusable."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in ("http", "https") or not url.isascii():
        raise ValueError(f"not an address of a server: {url!r} (like https://host[:port])")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("the server's address must be scheme, host and port only")
    if parts.scheme == "http" and not _is_loopback(url):
        raise ValueError(
            f"plain http is only for a server on this machine, not {parts.hostname}; use https"
        )
    return url.rstrip("/")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _version() -> str:
    try:
        return metadata.version("dbxfs-mount")
    except metadata.PackageNotFoundError:
        return "0"


def http_client(
    settings: Settings, connections: int, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """An httpx client with room for so many connections at once.

    Raises ValueError when the environment asks for what cannot be (a proxy's address, a missing
    certificate file).
    """
    most = connections + 2
    try:
        return httpx.AsyncClient(
            transport=transport,
            trust_env=not settings.local,
            follow_redirects=False,
            headers={"User-Agent": f"dbxfs/{_version()}"},
            timeout=httpx.Timeout(
                connect=settings.connect_timeout,
                read=settings.read_timeout,
                write=settings.read_timeout,
                pool=settings.read_timeout,
            ),
            # Equal: httpcore counts all connections, not the idle ones, against the second.
            limits=httpx.Limits(
                max_connections=most,
                max_keepalive_connections=most,
                keepalive_expiry=KEEP_IDLE,
            ),
        )
    except (OSError, ImportError, ValueError, httpx.InvalidURL) as error:
        raise ValueError(f"proxy or certificates from the environment: {error}") from error

"""Leads one program that knows only Dropbox's own hosts to the embedded server.

rclone, the older dbxfs and others speak to https://api.dropboxapi.com and nothing else. They all
honour a proxy and a certificate file from the environment, and this is enough:

    with private_hosts(server.url, tmp_path) as environment:
        subprocess.run(["rclone", …], env={**os.environ, **environment})

The proxy is asked to CONNECT to api.dropboxapi.com:443; it says yes, but is itself what answers
there: it ends the TLS with a throw-away certificate for Dropbox's names, made for the occasion,
and hands the bytes to the embedded server. A name that is not Dropbox's is refused, so nothing
can leave the machine by mistake. It runs in a process of its own, that a bench can measure the
others by, and ends with whoever started it.

Rejected: a mount and network namespace with its own /etc/hosts (`unshare`). It needs root, puts
the server and every client into the namespace, and hides from the rest of the machine just what a
bench wants to look at, the file system that the program mounts in there.

What passes through is not touched: a connection that the server resets is cut without TLS's
closing message, so that a truncated body looks truncated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import trio

from tests.embedded import END_WITHIN, first_line

HOSTS = (
    "api.dropboxapi.com",
    "content.dropboxapi.com",
    "notify.dropboxapi.com",
    "www.dropbox.com",
)

PIECE = 256 * 1024
"""Bytes that are passed on at once."""


@contextlib.contextmanager
def private_hosts(server_url: str, folder: Path) -> Iterator[dict[str, str]]:
    """The environment variables that lead a program's calls to Dropbox to `server_url`.

    The certificate and its key are put into `folder`. Raises FileNotFoundError without the
    `openssl` program.
    """
    certificate, key = make_certificate(folder)
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, server_url, str(certificate), str(key)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    try:
        proxy = json.loads(first_line(process))["proxy"]
        yield {
            "HTTPS_PROXY": proxy,
            "https_proxy": proxy,
            "NO_PROXY": "",
            "no_proxy": "",
            "SSL_CERT_FILE": str(certificate),
            "REQUESTS_CA_BUNDLE": str(certificate),
        }
    finally:
        process.communicate(timeout=END_WITHIN)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for Dropbox's hosts that vouches for itself, and its key; good for two days."""
    certificate, key = folder / "dropbox.crt", folder / "dropbox.key"
    names = ",".join(f"DNS:{host}" for host in HOSTS)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-subj", "/CN=the embedded Dropbox", "-addext", f"subjectAltName={names}"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


# the proxy


class RefusedError(Exception):
    """The client asked for something that this proxy does not lead to."""


async def _asked_for(client: trio.SocketStream) -> str:
    """Reads a CONNECT request; the host that it names. Raises RefusedError."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = await client.receive_some(4096)
        head += piece
        if not piece or len(head) > 65536:
            raise RefusedError("not an HTTP request")
    method, target, *_ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    host, _, port = target.partition(":")
    if method != "CONNECT" or port != "443":
        raise RefusedError(f"{method} {target}: only CONNECT to port 443")
    if host not in HOSTS:
        raise RefusedError(f"{host} is not one of Dropbox's hosts")
    return host


class _Tls:
    """The server's side of TLS on a stream, which takes all that has come at once.

    trio's own SSLStream gives one record, 16 KiB, at a time; passing these on one by one made the
    proxy the slowest part of a bench.
    """

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def do_handshake(self) -> None:
        """Raises ssl.SSLError, trio.BrokenResourceError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise trio.BrokenResourceError("gone during the handshake") from None
            else:
                await self._flush()
                return

    async def receive_some(self, max_bytes: int) -> bytes:
        """What has come, at least one byte; b"" at the end."""
        while True:
            pieces = []
            try:
                while piece := self._tls.read(max_bytes):
                    pieces.append(piece)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                pass
            if pieces:
                return b"".join(pieces)
            if not await self._fill():
                return b""

    async def send_all(self, data: bytes) -> None:
        """Sends `data`. Only one task may send."""
        self._tls.write(data)
        await self._flush()

    async def close(self) -> None:
        """Tells the other side that this is the end."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def _fill(self) -> bool:
        data = await self._stream.receive_some(PIECE)
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._stream.send_all(data)


async def _relay(client: trio.SocketStream, context: ssl.SSLContext, host: str, port: int) -> None:
    """Serves one connection until either side ends it."""
    try:
        await _asked_for(client)
    except RefusedError as error:
        await client.send_all(f"HTTP/1.1 403 Refused\r\n\r\n{error}\r\n".encode())
        return
    await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
    tls = _Tls(client, context)
    await tls.do_handshake()
    server = await trio.open_tcp_stream(host, port)
    async with server, trio.open_nursery() as nursery:

        async def upward() -> None:
            while piece := await tls.receive_some(PIECE):
                await server.send_all(piece)
            nursery.cancel_scope.cancel()

        nursery.start_soon(upward)
        while piece := await server.receive_some(PIECE):
            await tls.send_all(piece)
        await tls.close()
        nursery.cancel_scope.cancel()


async def _serve(server_url: str, certificate: str, key: str) -> None:
    """Prints the proxy's address as one line of JSON and serves until stdin closes."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    server = urlsplit(server_url)
    relay = partial(_relay, context=context, host=server.hostname or "", port=server.port or 80)

    async def connection(client: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, OSError):
            try:
                await relay(client)
            except BaseExceptionGroup as group:
                _, rest = group.split((trio.BrokenResourceError, OSError))
                if rest:
                    raise rest from None
            finally:
                await trio.aclose_forcefully(client)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, connection, listeners)
        port = listeners[0].socket.getsockname()[1]
        print(json.dumps({"proxy": f"http://127.0.0.1:{port}"}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Runs the proxy."""
    parser = argparse.ArgumentParser(prog="python -m tests.private_hosts")
    parser.add_argument("server_url", help="the embedded server, http://127.0.0.1:PORT")
    parser.add_argument("certificate")
    parser.add_argument("key")
    args = parser.parse_args()
    trio.run(_serve, args.server_url, args.certificate, args.key)


if __name__ == "__main__":
    main()

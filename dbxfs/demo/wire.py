"""How calls and answers look on the wire: arguments, errors, time stamps, JSON.

Arguments are decoded with the standard library's parser and converted to `msgspec` structs that
refuse unknown fields, wrong types and values out of bounds, as the real service does; its unions
("tagged" values, which may also come as a bare string) are small classes with a hook. The parser
is the standard one because `msgspec`'s refuses lone surrogates, which must get as far as
`malformed_path`.

An endpoint's error is a union value, 409; everything else that can be said to a client is one of
the other classes here. Handlers raise, the application catches.
"""

from __future__ import annotations

import json
import re
from calendar import timegm
from collections.abc import Mapping
from functools import lru_cache
from time import gmtime, strftime, strptime
from typing import Any, ClassVar, NoReturn, TypeVar

import msgspec

Json = dict[str, Any]
T = TypeVar("T")


class RefusedError(Exception):
    """An answer other than 200: status, body (text or JSON) and further headers."""

    def __init__(
        self, status: int, body: str | Json, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


class EndpointError(RefusedError):
    """409 with the endpoint's own error union."""

    def __init__(self, error: Json) -> None:
        super().__init__(409, {"error_summary": summary(error), "error": error})
        self.error = error


def union(*tags: str, **fields: Any) -> Json:
    """A nested union value; `fields` are those of the struct that the last tag carries.

    union("path", "conflict", "file") is
    {".tag": "path", "path": {".tag": "conflict", "conflict": {".tag": "file"}}}.
    """
    value: Json = {".tag": tags[-1], **fields}
    for tag in reversed(tags[:-1]):
        value = {".tag": tag, tag: value}
    return value


def summary(error: Json) -> str:
    """The line for people: the tags, and dots that tell programs not to rely on it."""
    tags: list[str] = []
    value: Any = error
    while isinstance(value, dict) and ".tag" in value:
        tag = value[".tag"]
        tags.append(tag)
        value = value.get(tag, value.get("reason"))
    return "/".join(tags) + "/.."


def fail(*tags: str, **fields: Any) -> NoReturn:
    """Raises the endpoint's error union."""
    raise EndpointError(union(*tags, **fields))


def bad_call(route: str, message: str) -> RefusedError:
    """400: the call itself is wrong."""
    return RefusedError(400, f'Error in call to API function "{route}": {message}')


def unauthorized(tag: str, **fields: Any) -> RefusedError:
    """401 with a value of AuthError."""
    error = union(tag, **fields)
    return RefusedError(401, {"error_summary": summary(error), "error": error})


def rate_limited(reason: str, retry_after: int) -> RefusedError:
    """429: `reason` is too_many_requests or too_many_write_operations, `retry_after` seconds."""
    body = {
        "error_summary": f"{reason}/..",
        "error": {"reason": {".tag": reason}, "retry_after": retry_after},
    }
    return RefusedError(429, body, {"Retry-After": str(retry_after)})


def bad_path_root(tag: str, **fields: Any) -> RefusedError:
    """422 with a value of PathRootError."""
    error = {".tag": tag, **fields}
    return RefusedError(422, {"error_summary": f"{tag}/..", "error": error})


# time stamps


@lru_cache(maxsize=4096)
def timestamp(seconds: int) -> str:
    """Seconds since the epoch as the service writes them."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))


class Timestamp:
    """A time stamp in an argument; `seconds` since the epoch."""

    __slots__ = ("seconds",)

    def __init__(self, text: object) -> None:
        if not isinstance(text, str):
            raise ValueError(f"expected timestamp, got {text!r}")  # noqa: TRY004
        try:
            self.seconds = timegm(strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
        except ValueError:
            raise ValueError(
                f"time data '{text}' does not match format '%Y-%m-%dT%H:%M:%SZ'"
            ) from None


# unions in arguments


def _tag_of(value: object) -> str:
    tag = value.get(".tag") if isinstance(value, dict) else value
    if not isinstance(tag, str):
        raise ValueError("expected a union: a string or an object with '.tag'")  # noqa: TRY004
    return tag


class Choice:
    """A union whose tags carry nothing. Subclasses name the tags."""

    tags: ClassVar[frozenset[str]]
    __slots__ = ("tag",)

    def __init__(self, value: object) -> None:
        self.tag = _tag_of(value)
        if self.tag not in self.tags:
            raise ValueError(f"invalid tag '{self.tag}'")


REV = re.compile(r"[0-9a-f]{9,}\Z")


class WriteMode:
    """add, overwrite or update; `rev` for update."""

    __slots__ = ("rev", "tag")

    def __init__(self, value: object = "add") -> None:
        self.tag = _tag_of(value)
        self.rev = ""
        if self.tag == "update":
            rev = value.get("update") if isinstance(value, dict) else None
            if not isinstance(rev, str) or not REV.match(rev):
                raise ValueError("update: expected a rev, at least 9 hexadecimal digits")
            self.rev = rev
        elif self.tag not in ("add", "overwrite"):
            raise ValueError(f"invalid tag '{self.tag}'")


class TemplateFilter:
    """filter_some: the template ids to be reported; filter_none: `ids` is None, all of them."""

    __slots__ = ("ids",)

    def __init__(self, value: object) -> None:
        tag = _tag_of(value)
        self.ids: list[str] | None = None
        if tag == "filter_some":
            ids = value.get("filter_some") if isinstance(value, dict) else None
            if not isinstance(ids, list) or not ids or not all(map(_is_template_id, ids)):
                raise ValueError("filter_some: expected a list of template ids")
            self.ids = ids
        elif tag != "filter_none":
            raise ValueError(f"invalid tag '{tag}'")


def _is_template_id(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("/", "ptid:"))


def _hook(kind: type, value: object) -> object:
    return kind(value)


def decode(kind: type[T], route: str, where: str, raw: bytes | str) -> T:
    """The argument of a call. `where` names its place for the message. Raises RefusedError."""
    try:
        value = json.loads(raw)
    except ValueError:
        raise bad_call(route, f"{where}: could not decode input as JSON") from None
    try:
        return msgspec.convert(value, kind, dec_hook=_hook)
    except msgspec.ValidationError as error:
        raise bad_call(route, f"{where}: {_in_their_words(str(error))}") from None


def _in_their_words(message: str) -> str:
    text, _, at = message.partition(" - at `$")
    field = at.rstrip("`").lstrip(".")
    text = re.sub(r"Object missing required field `(.*)`", r"missing required field '\1'", text)
    text = re.sub(r"Object contains unknown field `(.*)`", r"unknown field '\1'", text)
    return f"{field}: {text}" if field else text


_encoder = msgspec.json.Encoder()


def encode(value: object) -> bytes:
    """JSON, as bodies carry it."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def header_json(value: object) -> str:
    """JSON for a header: everything that is not printable ASCII as \\uXXXX."""
    return json.dumps(value).replace("\x7f", "\\u007f")

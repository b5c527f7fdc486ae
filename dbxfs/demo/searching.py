"""search_v2: names that hold all the words of the query.

A word matches a name in which one of the name's words begins with it, in any case; contents are
not searched, as on accounts of single members. A page's cursor holds the question, signed like
the cursors of listings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from dbxfs.demo.arguments import Continue, Search, SearchOptions
from dbxfs.demo.changes import InvalidCursorError, seal_text, unseal_text
from dbxfs.demo.metadata import describe
from dbxfs.demo.names import fold, name_of
from dbxfs.demo.places import read
from dbxfs.demo.routes import Call, route
from dbxfs.demo.tree import Node
from dbxfs.demo.wire import Json, bad_call, fail

SCOPE = "files.metadata.read"
MOST_MATCHES = 10_000

CATEGORIES = {
    "image": "jpg jpeg png gif svg bmp webp tif tiff heic",
    "document": "doc docx txt md odt rtf",
    "pdf": "pdf",
    "spreadsheet": "xls xlsx csv ods",
    "presentation": "ppt pptx key odp",
    "audio": "mp3 wav mid flac ogg m4a",
    "video": "mp4 mov wmv avi mkv webm",
    "paper": "paper",
}
_CATEGORY_OF = {
    extension: category for category, text in CATEGORIES.items() for extension in text.split()
}


class Question(msgspec.Struct, frozen=True, array_like=True):
    """What is searched for; `start` is how many matches were given already."""

    words: list[str]
    key: str
    limit: int
    by_time: bool
    extensions: list[str] | None
    categories: list[str] | None
    highlights: bool
    start: int


@dataclass(frozen=True)
class Found:
    """One page of matches."""

    nodes: list[Node]
    has_more: bool


@route("files/search_v2", Search, SCOPE)
async def search(call: Call, argument: Search) -> Json:
    options = argument.options or SearchOptions()
    words = fold(argument.query).split()
    if not words:
        fail("invalid_argument", invalid_argument="query: must hold a word")
    key = call.view.key
    if options.path:
        folder = read(call.account, call.view, options.path, "path")
        if not folder.folder:
            fail("path", "not_folder")
        key = folder.key
    wants_highlights = argument.match_field_options is not None and (
        argument.match_field_options.include_highlights
    )
    categories = options.file_categories
    question = Question(
        words,
        key,
        options.max_results,
        options.order_by is not None and options.order_by.tag == "last_modified_time",
        None if options.file_extensions is None else [e.lower() for e in options.file_extensions],
        None if categories is None else [category.tag for category in categories],
        bool(wants_highlights or argument.include_highlights),
        0,
    )
    if options.file_status.tag == "deleted":
        return {"matches": [], "has_more": False}
    return _answer(call, question)


@route("files/search/continue_v2", Continue, SCOPE)
async def search_continue(call: Call, argument: Continue) -> Json:
    try:
        raw = unseal_text(call.account, argument.cursor)
        question = msgspec.json.decode(raw, type=Question)
    except (InvalidCursorError, msgspec.MsgspecError):
        message = 'request body: cursor: Invalid "cursor" argument'
        raise bad_call(call.route, message) from None
    return _answer(call, question)


def _answer(call: Call, question: Question) -> Json:
    found = _find(call, question)
    answer: Json = {
        "matches": [_match(call, question, node) for node in found.nodes],
        "has_more": found.has_more,
    }
    if found.has_more:
        rest = msgspec.structs.replace(question, start=question.start + len(found.nodes))
        answer["cursor"] = seal_text(call.account, msgspec.json.encode(rest))
    return answer


def _find(call: Call, question: Question) -> Found:
    tree, account = call.account.tree, call.account
    nodes = [
        node
        for node in tree.below(question.key, "", -1)
        if _matches(question, node) and account.sees(node.key)
    ]
    if question.by_time:
        nodes.sort(key=lambda node: node.server_modified, reverse=True)
    nodes = nodes[:MOST_MATCHES]
    end = question.start + question.limit
    return Found(nodes[question.start : end], len(nodes) > end)


def _matches(question: Question, node: Node) -> bool:
    name = name_of(node.key)
    if not all(word in name for word in question.words):
        return False
    parts = [name, *re.split(r"[\W_]+", name)]
    if not all(any(part.startswith(word) for part in parts) for word in question.words):
        return False
    extension = "" if node.folder else name[name.rfind(".") + 1 :]
    if question.extensions is not None and extension not in question.extensions:
        return False
    if question.categories is None:
        return True
    category = "folder" if node.folder else _CATEGORY_OF.get(extension, "others")
    return category in question.categories


def _match(call: Call, question: Question, node: Node) -> Json:
    match: Json = {
        "metadata": {".tag": "metadata", "metadata": describe(call.account, call.view, node)},
        "match_type": {".tag": "filename"},
    }
    if question.highlights:
        pattern = "|".join(re.escape(word) for word in question.words)
        match["highlight_spans"] = [
            {"highlight_str": part, "is_highlighted": bool(index % 2)}
            for index, part in enumerate(re.split(f"({pattern})", node.name, flags=re.IGNORECASE))
            if part
        ]
    return match

"""File properties: templates of the user, and the groups of fields kept with files and folders.

Limits are those of the reference: names and keys 256 bytes, descriptions and values 1024, 32
fields in a template. A change of properties is reported by the feed with the entry as it is; its
rev does not change, because its content does not.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from dbxfs.demo.account import Account
from dbxfs.demo.arguments import Argument, PropertyField, PropertyGroup, TemplateId
from dbxfs.demo.places import read
from dbxfs.demo.routes import Call, route
from dbxfs.demo.tree import Node
from dbxfs.demo.wire import Choice, EndpointError, Json, fail, union

READ, WRITE = "files.metadata.read", "files.metadata.write"
LONGEST_KEY = 256
LONGEST_TEXT = 1024
MOST_FIELDS = 32

Fields = dict[str, str]


class PropertyType(Choice):
    tags = frozenset({"string"})


class FieldTemplate(Argument):
    name: str
    description: str
    type: PropertyType


class AddTemplate(Argument):
    name: str
    description: str
    fields: list[FieldTemplate]


class OneTemplate(Argument):
    template_id: TemplateId


class UpdateTemplate(Argument):
    template_id: TemplateId
    name: str | None = None
    description: str | None = None
    add_fields: list[FieldTemplate] | None = None


PropertiesPath = Annotated[str, Meta(pattern=r"\A(?:/(.|[\r\n])*|id:.*|(ns:[0-9]+(/.*)?))\Z")]


class AddProperties(Argument):
    path: PropertiesPath
    property_groups: list[PropertyGroup]


class OverwriteProperties(Argument):
    path: PropertiesPath
    property_groups: Annotated[list[PropertyGroup], Meta(min_length=1)]


class RemoveProperties(Argument):
    path: PropertiesPath
    property_template_ids: list[TemplateId]


class GroupUpdate(Argument):
    template_id: TemplateId
    add_or_update_fields: list[PropertyField] | None = None
    remove_fields: list[str] | None = None


class UpdateProperties(Argument):
    path: PropertiesPath
    update_property_groups: list[GroupUpdate]


# templates


def _template(account: Account, ident: str, *tags: str) -> Json:
    """Name, description and fields of a template. Raises template_not_found below `tags`."""
    row = account.db.execute(
        "SELECT name, description, fields FROM templates WHERE id = ?", (ident,)
    ).fetchone()
    if row is None:
        raise EndpointError(union(*tags, "template_not_found", template_not_found=ident))
    return {"name": row[0], "description": row[1], "fields": json.loads(row[2])}


def check_templates(account: Account, idents: Iterable[str], *tags: str) -> None:
    """Raises template_not_found below `tags` for the first that does not exist."""
    for ident in idents:
        _template(account, ident, *tags)


def _check_template(template: Json) -> None:
    keys = [field["name"] for field in template["fields"]]
    if len(keys) > MOST_FIELDS:
        fail("too_many_properties")
    if len(set(keys)) < len(keys):
        fail("conflicting_property_names")
    short = [template["name"], *keys]
    long = [template["description"], *(field["description"] for field in template["fields"])]
    if _too_long(short, LONGEST_KEY) or _too_long(long, LONGEST_TEXT):
        fail("template_attribute_too_large")


def _too_long(texts: Iterable[str], limit: int) -> bool:
    return any(len(text.encode()) > limit for text in texts)


def _plain(fields: Iterable[FieldTemplate]) -> list[Json]:
    return [
        {"name": field.name, "description": field.description, "type": {".tag": field.type.tag}}
        for field in fields
    ]


def _save(account: Account, ident: str, template: Json) -> Json:
    row = (ident, template["name"], template["description"], json.dumps(template["fields"]))
    account.db.execute("INSERT OR REPLACE INTO templates VALUES (?, ?, ?, ?)", row)
    return {"template_id": ident}


@route("file_properties/templates/add_for_user", AddTemplate, WRITE)
async def add_template(call: Call, argument: AddTemplate) -> Json:
    template = {
        "name": argument.name,
        "description": argument.description,
        "fields": _plain(argument.fields),
    }
    _check_template(template)
    return _save(call.account, "ptid:" + secrets.token_urlsafe(18), template)


@route("file_properties/templates/get_for_user", OneTemplate, READ)
async def get_template(call: Call, argument: OneTemplate) -> Json:
    return _template(call.account, argument.template_id)


@route("file_properties/templates/list_for_user", None, READ)
async def list_templates(call: Call, _argument: None) -> Json:
    rows = call.account.db.execute("SELECT id FROM templates ORDER BY rowid")
    return {"template_ids": [ident for (ident,) in rows]}


@route("file_properties/templates/update_for_user", UpdateTemplate, WRITE)
async def update_template(call: Call, argument: UpdateTemplate) -> Json:
    template = _template(call.account, argument.template_id)
    if argument.name is not None:
        template["name"] = argument.name
    if argument.description is not None:
        template["description"] = argument.description
    template["fields"] += _plain(argument.add_fields or [])
    _check_template(template)
    return _save(call.account, argument.template_id, template)


@route("file_properties/templates/remove_for_user", OneTemplate, WRITE)
async def remove_template(call: Call, argument: OneTemplate) -> None:
    account, ident = call.account, argument.template_id
    _template(account, ident)
    with account.tree.change():
        holders = account.db.execute("SELECT fid FROM properties WHERE template = ?", (ident,))
        for (fid,) in holders.fetchall():
            node = account.tree.by_fid(fid)
            if node:
                account.tree.touch(node)
        account.db.execute("DELETE FROM properties WHERE template = ?", (ident,))
        account.db.execute("DELETE FROM templates WHERE id = ?", (ident,))


# properties


def _check_fields(template: Json, fields: Fields, *tags: str) -> None:
    known = {field["name"] for field in template["fields"]}
    if not known.issuperset(fields):
        raise EndpointError(union(*tags, "does_not_fit_template"))
    if _too_long(fields, LONGEST_KEY) or _too_long(fields.values(), LONGEST_TEXT):
        raise EndpointError(union(*tags, "property_field_too_large"))


def check_groups(account: Account, groups: list[PropertyGroup], *tags: str) -> None:
    """Raises InvalidPropertyGroupError values below `tags`."""
    if len({group.template_id for group in groups}) < len(groups):
        raise EndpointError(union(*tags, "duplicate_property_groups"))
    for group in groups:
        template = _template(account, group.template_id, *tags)
        _check_fields(template, _fields(group.fields), *tags)


def _fields(fields: Iterable[PropertyField]) -> Fields:
    return {field.name: field.value for field in fields}


def write_groups(account: Account, node: Node, groups: list[PropertyGroup]) -> None:
    """Sets groups of an entry, within a change. They were checked."""
    for group in groups:
        _write(account, node, group.template_id, _fields(group.fields))


def _write(account: Account, node: Node, template: str, fields: Fields) -> None:
    account.db.execute(
        "INSERT OR REPLACE INTO properties VALUES (?, ?, ?)",
        (node.fid, template, json.dumps(fields)),
    )


def _held(account: Account, node: Node, template: str) -> Fields | None:
    row = account.db.execute(
        "SELECT fields FROM properties WHERE fid = ? AND template = ?", (node.fid, template)
    ).fetchone()
    found: Fields | None = json.loads(row[0]) if row else None
    return found


def _target(call: Call, path: str) -> Node:
    node = read(call.account, call.view, path, "path")
    if node.key == call.view.key:
        fail("path", "malformed_path", malformed_path=path)
    return node


@route("file_properties/properties/add", AddProperties, WRITE)
async def add_properties(call: Call, argument: AddProperties) -> None:
    account, groups = call.account, argument.property_groups
    node = _target(call, argument.path)
    check_groups(account, groups)
    if any(_held(account, node, group.template_id) is not None for group in groups):
        fail("property_group_already_exists")
    with account.tree.change():
        write_groups(account, node, groups)
        account.tree.touch(node)


@route("file_properties/properties/overwrite", OverwriteProperties, WRITE)
async def overwrite_properties(call: Call, argument: OverwriteProperties) -> None:
    account = call.account
    node = _target(call, argument.path)
    check_groups(account, argument.property_groups)
    with account.tree.change():
        write_groups(account, node, argument.property_groups)
        account.tree.touch(node)


@route("file_properties/properties/update", UpdateProperties, WRITE)
async def update_properties(call: Call, argument: UpdateProperties) -> None:
    account, updates = call.account, argument.update_property_groups
    node = _target(call, argument.path)
    if len({update.template_id for update in updates}) < len(updates):
        fail("duplicate_property_groups")
    wanted = []
    for update in updates:
        template = _template(account, update.template_id)
        fields = _held(account, node, update.template_id)
        if fields is None:
            fail("property_group_lookup", "property_group_not_found")
        fields |= _fields(update.add_or_update_fields or [])
        for name in update.remove_fields or []:
            fields.pop(name, None)
        _check_fields(template, fields)
        wanted.append((update.template_id, fields))
    with account.tree.change():
        for template_id, fields in wanted:
            _write(account, node, template_id, fields)
        account.tree.touch(node)


@route("file_properties/properties/remove", RemoveProperties, WRITE)
async def remove_properties(call: Call, argument: RemoveProperties) -> None:
    account, idents = call.account, argument.property_template_ids
    node = _target(call, argument.path)
    check_templates(account, idents)
    if any(_held(account, node, ident) is None for ident in idents):
        fail("property_group_lookup", "property_group_not_found")
    with account.tree.change():
        for ident in idents:
            account.db.execute(
                "DELETE FROM properties WHERE fid = ? AND template = ?", (node.fid, ident)
            )
        account.tree.touch(node)

"""File properties: small texts that Dropbox keeps with a file or folder, and their templates.

A template names the fields that a group may have; it is made once for a user and app. Groups come
back with listings that ask for them, and go with the commit of a content. For what has no content
to commit there is one call for each entry: the API has no batch of them, so they may run beside
each other, in a lane of their own.

A group that is there is changed field by field (`properties/update`), so that what another machine
has set in the meantime stays; one that is not is made by `properties/overwrite`, which does not
mind when its reply was lost and it is there after all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbxfs.api import wire
from dbxfs.api.exchange import Exchange
from dbxfs.core.model import PropertyGroup, PropertyTemplate, RemotePath


class Properties:
    """The calls about properties. `patience`: seconds; None: the settings' own."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def templates(self, *, patience: float | None = None) -> list[str]:
        """The ids of the user's templates that this app may use."""
        return await self._exchange.call(
            self._exchange.lanes.metadata,
            "file_properties/templates/list_for_user",
            None,
            wire.template_ids,
            patience=patience,
        )

    async def template(self, ident: str, *, patience: float | None = None) -> PropertyTemplate:
        """One template. EndpointError with ("template_not_found",)."""
        return await self._exchange.call(
            self._exchange.lanes.metadata,
            "file_properties/templates/get_for_user",
            {"template_id": ident},
            wire.template,
            patience=patience,
        )

    async def add_template(
        self,
        name: str,
        description: str,
        fields: Mapping[str, str],
        *,
        patience: float | None = None,
    ) -> str:
        """Make a template; `fields`: descriptions by name, at most 32. Gives its id.

        A second call makes a second template: names are not unique.
        """
        described = [
            {"name": field, "description": text, "type": "string"} for field, text in fields.items()
        ]
        return await self._exchange.call(
            self._exchange.lanes.metadata,
            "file_properties/templates/add_for_user",
            {"name": name, "description": description, "fields": described},
            wire.template_id,
            writing=True,
            patience=patience,
        )

    async def set_properties(
        self, path: RemotePath, group: PropertyGroup, *, patience: float | None = None
    ) -> None:
        """Keep this group with what is at a path or id, in the place of what it has of it.

        EndpointError with ("template_not_found",), ("path", "not_found"), ("unsupported_folder",)…
        """
        await self._exchange.call(
            self._exchange.lanes.properties,
            "file_properties/properties/overwrite",
            {"path": path, "property_groups": [wire.property_group(group)]},
            wire.nothing,
            patience=patience,
        )

    async def update_properties(
        self,
        path: RemotePath,
        group: PropertyGroup,
        removed: Sequence[str],
        *,
        patience: float | None = None,
    ) -> None:
        """Set these fields of a group that is there, and remove others by name.

        EndpointError as above, or with ("property_group_lookup", "property_group_not_found").
        """
        fields = [{"name": name, "value": value} for name, value in group.fields.items()]
        update = {
            "template_id": group.template,
            "add_or_update_fields": fields,
            "remove_fields": list(removed),
        }
        await self._exchange.call(
            self._exchange.lanes.properties,
            "file_properties/properties/update",
            {"path": path, "update_property_groups": [update]},
            wire.nothing,
            patience=patience,
        )

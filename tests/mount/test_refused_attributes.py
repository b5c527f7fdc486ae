"""Where Dropbox keeps no attributes, or not those of one file: what is said, and sent later."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.mount.conftest import finish
from tests.mount.mounted import Mounted
from tests.mount.test_kept_attributes import MOMENT, call, mode_of

MakeMount = Callable[..., Mounted]

KEPT_HERE = "kept on this computer only"
ONE_KEPT_HERE = "are kept here only"
UPDATE = "file_properties/properties/update"
OVERWRITE = "file_properties/properties/overwrite"


def test_without_the_scope_attributes_are_kept_here_and_that_is_said(
    make_mount: MakeMount,
) -> None:
    mounted = make_mount(start=False)
    mounted.server.faults(
        [
            {"kind": "error", "route": f"file_properties/{route}", "status": 403}
            for route in ("templates/list_for_user", "templates/add_for_user")
        ]
    )
    mounted.announce(KEPT_HERE)
    mounted.start()
    path = mounted.path / "f"
    path.write_text("x")
    path.chmod(0o755)
    (mounted.path / "link").symlink_to("f")
    os.setxattr(path, "user.a", b"1")
    os.utime(path, ns=(MOMENT, MOMENT))
    assert mounted.sync() == []
    path.chmod(0o700)
    assert mounted.sync() == []
    assert mounted.status()["attributes"]
    assert "kept here only" in mounted.dbxfs("status").stdout
    assert mounted.log().count(KEPT_HERE) == 1
    mounted.remount()
    mounted.sync()
    assert mode_of(path) == 0o700
    assert os.stat(path).st_mtime_ns == MOMENT
    assert os.readlink(mounted.path / "link") == "f"
    assert os.getxattr(path, "user.a") == b"1"
    mounted.server.faults()
    mounted.remount()
    mounted.sync()
    mounted.sync()
    assert mounted.status()["attributes"] is None
    other = make_mount(server=mounted.server)
    other.sync()
    assert mode_of(other.path / "f") == 0o700
    assert os.readlink(other.path / "link") == "f"
    finish(mounted)


def test_a_template_that_somebody_removes_stops_nothing(make_mount: MakeMount) -> None:
    mounted = make_mount()
    (mounted.path / "f").write_text("x")
    mounted.sync()
    mounted.announce(KEPT_HERE)
    (template,) = call(mounted, "file_properties/templates/list_for_user", None)["template_ids"]
    call(mounted, "file_properties/templates/remove_for_user", {"template_id": template})
    (mounted.path / "new").write_text("y")
    (mounted.path / "new").chmod(0o755)
    assert mounted.sync() == []
    assert mounted.server.content("/new") == b"y"
    (mounted.path / "f").chmod(0o700)
    assert mounted.sync() == []
    assert mounted.status()["attributes"]
    mounted.remount()
    mounted.sync()
    mounted.sync()
    assert mounted.status()["attributes"] is None
    other = make_mount(server=mounted.server)
    other.sync()
    assert (mode_of(other.path / "f"), mode_of(other.path / "new")) == (0o700, 0o755)
    finish(mounted)


def modes(mounted: Mounted, *names: str) -> list[str | None]:
    """The modes that Dropbox keeps with these files."""
    templates = call(mounted, "file_properties/templates/list_for_user", None)["template_ids"]
    asked = {".tag": "filter_some", "filter_some": templates}
    found = []
    for name in names:
        argument = {"path": f"/{name}", "include_property_groups": asked}
        groups = call(mounted, "files/get_metadata", argument).get("property_groups", [])
        fields = {field["name"]: field["value"] for group in groups for field in group["fields"]}
        found.append(fields.get("mode"))
    return found


def test_once_all_are_refused_what_is_set_is_sent_after_the_next_mount(
    make_mount: MakeMount,
) -> None:
    mounted = make_mount()
    for name in ("sent", "f", "g", "touched"):
        (mounted.path / name).write_text(name)
    (mounted.path / "sent").chmod(0o700)
    mounted.sync()
    mounted.announce(KEPT_HERE)
    fault = {"kind": "error", "status": 401, "reason": "missing_scope"}
    mounted.server.faults([{"route": route, **fault} for route in (UPDATE, OVERWRITE)])
    (mounted.path / "f").chmod(0o711)
    assert mounted.sync() == []
    (mounted.path / "sent").chmod(0o750)
    (mounted.path / "g").chmod(0o755)
    os.utime(mounted.path / "touched", ns=(MOMENT, MOMENT))
    (mounted.path / "new").write_text("new")
    (mounted.path / "new").chmod(0o600)
    assert mounted.sync() == []
    assert mounted.status()["attributes"]
    assert mounted.log().count(KEPT_HERE) == 1
    mounted.server.faults()
    mounted.kill()
    mounted.start()
    mounted.sync()
    mounted.sync()
    assert mounted.status()["attributes"] is None
    names = ("sent", "f", "g", "new")
    assert modes(mounted, *names) == ["0750", "0711", "0755", "0600"]
    other = make_mount(server=mounted.server)
    other.sync()
    assert [mode_of(other.path / name) for name in names] == [0o750, 0o711, 0o755, 0o600]
    assert os.stat(other.path / "touched").st_mtime_ns == MOMENT


def test_the_refusal_of_one_files_attributes_is_its_own(mounted: Mounted) -> None:
    for name in ("one", "other"):
        (mounted.path / name).write_text(name)
    mounted.sync()
    mounted.announce(ONE_KEPT_HERE)
    mounted.server.faults([{"kind": "error", "status": 400, "route": UPDATE, "count": 1}])
    (mounted.path / "one").chmod(0o700)
    assert mounted.sync() == []
    assert mode_of(mounted.path / "one") == 0o700
    assert ONE_KEPT_HERE in os.getxattr(mounted.path / "one", "user.dbxfs.error").decode()
    assert mounted.status()["attributes"] is None
    (mounted.path / "other").chmod(0o711)
    assert mounted.sync() == []
    assert modes(mounted, "one", "other") == ["0644", "0711"]
    (mounted.path / "one").chmod(0o750)
    assert mounted.sync() == []
    assert modes(mounted, "one") == ["0750"]


@pytest.mark.parametrize(
    ("refusal", "then"),
    [({"status": 401, "reason": "missing_scope"}, None), ({"status": 400}, "0600")],
)
def test_content_is_committed_without_the_attributes_that_are_refused(
    make_mount: MakeMount, refusal: dict[str, object], then: str | None
) -> None:
    """`then`: the mode that is kept with the next file."""
    mounted = make_mount()
    mounted.sync()
    mounted.announce(KEPT_HERE, ONE_KEPT_HERE)
    mounted.server.faults([{"kind": "error", "route": "files/upload", "count": 1, **refusal}])
    (mounted.path / "f").write_text("content")
    (mounted.path / "f").chmod(0o700)
    assert mounted.sync() == []
    assert mounted.server.content("/f") == b"content"
    assert mode_of(mounted.path / "f") == 0o700
    (mounted.path / "next").write_text("next")
    (mounted.path / "next").chmod(0o600)
    assert mounted.sync() == []
    assert modes(mounted, "f", "next") == [None, then]

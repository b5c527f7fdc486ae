"""Editors as people use them: Vim with its swap and undo files, Emacs in a terminal, LibreOffice.

That a save is one more revision of the file on Dropbox is in tests/mount/test_programs.py. Here it
is what the programs themselves do: lock files, backups, recovery files, saving in place.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mount.mounted import needs
from tests.programs.conftest import Both
from tests.programs.outcome import Desk, nothing

TERMINAL = {"TERM": "xterm"}


def note(desk: Desk) -> Path:
    """A file for one user only, with an attribute."""
    path = desk.folder / "note.txt"
    path.write_text("one\ntwo\nthree\n")
    path.chmod(0o640)
    os.setxattr(path, "user.colour", b"red")
    return path


def edit_with_vim(desk: Desk) -> None:
    """Two saves, and a look at the swap file."""
    note(desk)
    settings = ("-c", "set swapfile directory=. undofile undodir=. backup backupskip=")
    vim = ("vim", "-N", "-u", "NONE", "-i", "viminfo", "-es", *settings)
    swap = "call writefile(glob('.note*.swp', 0, 1), 'seen')"
    # Vim may hold a terminal that is none, so its status says nothing.
    desk.run(*vim, "-c", "%s/two/2/", "-c", "preserve", "-c", swap, "-c", "wq", "note.txt")
    assert (desk.folder / "seen").read_text() == ".note.txt.swp\n"
    desk.run(*vim, "-c", "undo", "-c", "$s/three/3/", "-c", "wq", "note.txt")
    desk.run("cat", "note.txt", "note.txt~")


VIM_UNLIKE = {"viminfo": "has times in it", "*.un~": "has times in it"}


@needs("vim")
def test_vim_leaves_its_undo_file_and_no_swap_file(both: Both) -> None:
    both(edit_with_vim, unlike=VIM_UNLIKE)


@needs("emacs")
@needs("script")
def test_emacs_keeps_a_backup_and_no_lock(both: Both) -> None:
    def work(desk: Desk) -> None:
        note(desk)
        lock = '(write-region (or (file-symlink-p ".#note.txt") "") nil "lock")'
        for lisp in (
            f'(progn (insert "zero\\n") {lock} (do-auto-save) (save-buffer) (kill-emacs))',
            '(progn (insert "more\\n") (setq backup-by-copying t) (save-buffer) (kill-emacs))',
            '(progn (insert "crash\\n") (do-auto-save) (signal-process (emacs-pid) 9))',
        ):
            (desk.spare / "do.el").write_text(lisp)
            emacs = f"emacs -nw -Q note.txt -l {desk.spare / 'do.el'}; true"
            desk.run("script", "-qec", emacs, "/dev/null", env=TERMINAL, said=nothing)
            desk.run("cat", "note.txt")
        assert "@" in (desk.folder / "lock").read_text(), "it made no lock"
        assert os.path.lexists(desk.folder / ".#note.txt"), "the killed one left no lock"
        (desk.folder / ".#note.txt").unlink()
        desk.run("cat", "#note.txt#")

    both(work, unlike={"lock": "names the process"})


MODULE = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE script:module PUBLIC "-//OpenOffice.org//DTD OfficeDocument 1.0//EN" "module.dtd">
<script:module xmlns:script="http://openoffice.org/2000/script" script:name="Module1"
 script:language="StarBasic">Sub Save(folder As String)
    On Error Goto failed
    Dim none()
    Dim opened As Object
    opened = StarDesktop.loadComponentFromURL(ConvertToURL(folder &amp; "/note.odt"), \
"_blank", 0, none())
    Open folder &amp; "/seen" For Output As #1
    Print #1, FileExists(folder &amp; "/.~lock.note.odt#")
    Close #1
    opened.Text.insertString(opened.Text.getStart(), "saved ", False)
    opened.store()
    opened.close(True)
    Exit Sub
failed:
    Open folder &amp; "/seen" For Output As #1
    Print #1, Error
    Close #1
End Sub
</script:module>
"""

LIBRARY = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE library:library PUBLIC "-//OpenOffice.org//DTD OfficeDocument 1.0//EN" "library.dtd">
<library:library xmlns:library="http://openoffice.org/2000/library" library:name="Standard"
 library:readonly="false" library:passwordprotected="false">{elements}</library:library>
"""


def add_macro(profile: Path) -> None:
    """Put the macro into a profile; the first run would put an example in its place."""
    standard = profile / "user" / "basic" / "Standard"
    standard.mkdir(parents=True, exist_ok=True)
    (standard / "Module1.xba").write_text(MODULE)
    element = '<library:element library:name="Module1"/>'
    (standard / "script.xlb").write_text(LIBRARY.format(elements=element))
    (standard / "dialog.xlb").write_text(LIBRARY.format(elements=""))


@needs("soffice")
@pytest.mark.hangs_after(240.0)
@pytest.mark.timeout(300)
def test_libreoffice_converts_and_saves_in_place_with_a_lock(both: Both) -> None:
    def work(desk: Desk) -> None:
        office = (
            *("soffice", "--headless", "--norestore"),
            f"-env:UserInstallation=file://{desk.spare / 'profile'}",
        )

        def convert(kind: str, source: str) -> None:
            desk.run(*office, "--convert-to", kind, source, said=nothing, timeout=100)

        note(desk)
        convert("odt", "note.txt")
        add_macro(desk.spare / "profile")
        os.setxattr(desk.folder / "note.odt", "user.colour", b"blue")
        (desk.folder / "note.odt").chmod(0o640)
        macro = f'macro:///Standard.Module1.Save("{desk.folder}")'
        desk.run(*office, macro, said=nothing, timeout=100)
        assert (desk.folder / "seen").read_text().strip() == "True", "it made no lock"
        assert not (desk.folder / ".~lock.note.odt#").exists()
        desk.run("cat", "note.txt")
        (desk.folder / "note.txt").unlink()
        convert("txt:Text", "note.odt")
        desk.run("cat", "note.txt")
        convert("pdf", "note.odt")
        convert("docx", "note.odt")

    both(work, unlike=dict.fromkeys(("*.odt", "*.pdf", "*.docx"), "has times in it"))


def test_another_machine_sees_what_was_edited(both: Both) -> None:
    both.seen_from_another_machine()

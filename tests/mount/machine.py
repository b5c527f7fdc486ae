"""What can happen to a mount: the steps of the model test, without what must hold after them.

Every step goes into a history, which a failure carries: the daemon's timing is its own, so the
choices alone do not tell what happened.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.embedded import Embedded
from tests.mount.elsewhere import Elsewhere
from tests.mount.model import Ledger
from tests.mount.mounted import Mounted, eventually, run_in_background
from tests.mount.programs import Held, Programs

NAMES = st.sampled_from(["a", "A", "b", "c.txt"])
PICK = st.integers(0, 30)
LENGTH = st.sampled_from([0, 3, 40, 9000])

ORDINARY = (
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY),
    errno.EINVAL,  # a folder into itself
)
"""How an operation on what somebody else has changed meanwhile may end."""

WRITING = ("files/upload", "files/move_v2", "files/delete_v2", "files/create_folder_v2")
ROUTES = st.sampled_from([*WRITING, *WRITING, "files/list_folder/continue", "*"])
KINDS = st.sampled_from(
    [
        {"kind": "lost_reply"},
        {"kind": "reset"},
        {"kind": "error", "status": 503},
        {"kind": "error", "status": 500},
        {"kind": "error", "status": 429, "reason": "too_many_requests", "retry_after": 1},
        {"kind": "error", "status": 429, "reason": "too_many_write_operations", "retry_after": 1},
    ]
)
NETWORK = ("cannot be (followed|sent)", "failed: ")
STRAY = "bytes without a place in the tree are kept in"


def step(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule that does nothing once the time is over."""

    def decorate(method: Callable[..., None]) -> Any:
        @functools.wraps(method)
        def guarded(self: Machine, **choices: Any) -> None:
            if not self.over:
                method(self, **choices)

        made: Any = rule(**strategies)
        return made(guarded)

    return decorate


class Machine(RuleBasedStateMachine):
    """One mount, its users, and all that can go wrong."""

    server: ClassVar[Embedded]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="dbxfs-model-"))
        self.mounted = Mounted(self.folder, self.server)
        self.elsewhere = Elsewhere(self.mounted)
        self.ledger = Ledger()
        self.programs = Programs(self.mounted, self.ledger)
        self.history: list[str] = []
        self.copies: set[str] = set()
        """The names of conflicted copies that were there when both sides agreed."""
        self.failed = False
        self.over = False
        """The time of the run is over: nothing is done any more."""

    @contextlib.contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Put it into the history, which a failure carries, and the daemon's log with it."""
        note(what)
        self.history.append(what)
        try:
            yield
        except BaseException as error:
            self.failed = True
            error.add_note("\n".join(["--- what was done", *self.history]))
            error.add_note(f"--- the daemon's log\n{self.mounted.log()[-6000:]}")
            raise

    # ---- What programs do ----

    @contextlib.contextmanager
    def program(self, what: str, *paths: str) -> Iterator[None]:
        """A program does something that may be refused as the tree is."""
        with self.told(f"program {what}"):
            self.programs.touch(*paths)
            try:
                yield
            except OSError as error:
                if error.errno not in ORDINARY:
                    raise
                self.history[-1] += f": {error.strerror}"

    @step(pick=PICK, name=NAMES, length=LENGTH)
    def program_writes(self, pick: int, name: str, length: int) -> None:
        path, content = self.programs.place(pick, name), self.ledger.fresh(length)
        with self.program(f"writes {path} {content[:6]!r}", path):
            self.programs.write(path, content)

    @step(pick=PICK, length=LENGTH)
    def program_writes_again(self, pick: int, length: int) -> None:
        path, content = self.programs.pick(pick, folders=False), self.ledger.fresh(length)
        if path is not None:
            with self.program(f"writes {path} {content[:6]!r}", path):
                self.programs.write(path, content)

    @step(pick=PICK, name=NAMES)
    def editor_saves(self, pick: int, name: str) -> None:
        path, content = self.programs.pick(pick, folders=False), self.ledger.fresh(1)
        if path is not None:
            temporary = f"{path.rpartition('/')[0]}/{name}.new"
            with self.program(f"saves {path} by {temporary} {content!r}", path, temporary):
                self.programs.write(temporary, content)
                self.programs.rename(temporary, path)

    @step(pick=PICK)
    def editor_keeps_a_backup(self, pick: int) -> None:
        path, content = self.programs.pick(pick, folders=False), self.ledger.fresh(1)
        if path is not None:
            with self.program(f"keeps {path}~ and writes {content!r}", path, f"{path}~"):
                self.programs.rename(path, f"{path}~")
                self.programs.write(path, content)

    @step(pick=PICK, cut=st.sampled_from([None, 0, 6, 8]))
    def program_changes_a_part(self, pick: int, cut: int | None) -> None:
        path, more = self.programs.pick(pick, folders=False), self.ledger.fresh()
        if path is not None:
            what = f"appends {more!r} to {path}" if cut is None else f"cuts {path} to {cut}"
            with self.program(what, path):
                self.programs.change_a_part(path, more, cut)

    @step(pick=PICK, name=NAMES)
    def program_makes_a_folder(self, pick: int, name: str) -> None:
        path = self.programs.place(pick, name)
        with self.program(f"makes {path}/", path):
            self.programs.mkdir(path)

    @step(pick=PICK)
    def program_removes(self, pick: int) -> None:
        path = self.programs.pick(pick)
        if path is not None:
            with self.program(f"removes {path}", path):
                self.programs.remove(path)

    @step(pick=PICK)
    def program_removes_all_of_a_folder(self, pick: int) -> None:
        path = self.programs.pick(pick, folders=True)
        if path is not None:
            with self.program(f"removes all of {path}", path):
                self.programs.remove_all(path)

    @step(pick=PICK, place=PICK, name=NAMES)
    def program_renames(self, pick: int, place: int, name: str) -> None:
        source, target = self.programs.pick(pick), self.programs.place(place, name)
        if source is not None:
            with self.program(f"renames {source} to {target}", source, target):
                self.programs.rename(source, target)

    @step(pick=PICK, other=PICK)
    def program_renames_over(self, pick: int, other: int) -> None:
        source, target = self.programs.pick(pick), self.programs.pick(other)
        if source is not None and target is not None:
            with self.program(f"renames {source} to {target}", source, target):
                self.programs.rename(source, target)

    @step(pick=PICK)
    def program_keeps_open(self, pick: int) -> None:
        path = self.programs.pick(pick, folders=False)
        if path is not None and len(self.programs.held) < 3:
            with self.program(f"opens {path}"):
                self.programs.open(path)

    @step(pick=PICK)
    def program_writes_to_what_is_open(self, pick: int) -> None:
        if self.programs.held:
            held = self.programs.held[pick % len(self.programs.held)]
            content = self.ledger.fresh(2)
            with self.program(f"writes {content!r} to open {held.path}", held.path):
                self.programs.write_to_open(held, content)

    @step(pick=PICK)
    def program_closes(self, pick: int) -> None:
        if self.programs.held:
            self.close(self.programs.held[pick % len(self.programs.held)])

    def close(self, held: Held) -> None:
        with self.told(f"program closes {held.path}"):
            self.programs.close(held)

    # ---- What happens elsewhere ----

    @contextlib.contextmanager
    def edit(self) -> Iterator[Elsewhere]:
        """Somebody edits; until both sides agree again the tree is not known in advance."""
        self.programs.reference = None
        with self.elsewhere:
            yield self.elsewhere

    def made(self, done: bool) -> None:
        self.history[-1] += "" if done else ": something is there"

    @step(pick=PICK, name=NAMES, length=LENGTH)
    def elsewhere_writes(self, pick: int, name: str, length: int) -> None:
        if self.elsewhere.reachable:
            content = self.ledger.fresh(length)
            with self.edit() as elsewhere:
                path = elsewhere.place(pick, name)
                with self.told(f"elsewhere {path} gets {content[:6]!r}"):
                    self.made(elsewhere.write(path, content, self.ledger))

    @step(pick=PICK)
    def elsewhere_changes(self, pick: int) -> None:
        if self.elsewhere.reachable:
            content = self.ledger.fresh()
            with self.edit() as elsewhere:
                path = elsewhere.pick(pick, folders=False)
                if path is not None:
                    with self.told(f"elsewhere {path} is changed to {content!r}"):
                        self.made(elsewhere.write(path, content, self.ledger))

    @step(pick=PICK, name=NAMES)
    def elsewhere_makes_a_folder(self, pick: int, name: str) -> None:
        if self.elsewhere.reachable:
            with self.edit() as elsewhere:
                path = elsewhere.place(pick, name)
                with self.told(f"elsewhere {path}/ is made"):
                    self.made(elsewhere.mkdir(path))

    @step(pick=PICK)
    def elsewhere_deletes(self, pick: int) -> None:
        if self.elsewhere.reachable:
            with self.edit() as elsewhere:
                path = elsewhere.pick(pick)
                if path is not None:
                    with self.told(f"elsewhere {path} is deleted"):
                        elsewhere.delete(path, self.ledger)

    @step(pick=PICK, place=PICK, name=NAMES)
    def elsewhere_moves(self, pick: int, place: int, name: str) -> None:
        if self.elsewhere.reachable:
            with self.edit() as elsewhere:
                source, target = elsewhere.pick(pick), elsewhere.place(place, name)
                if source is not None:
                    with self.told(f"elsewhere {source} is moved to {target}"):
                        self.made(elsewhere.move(source, target))

    # ---- The network, the daemon and time ----

    @step(route=ROUTES, kind=KINDS, count=st.integers(1, 3), skip=st.integers(0, 2))
    def calls_fail(self, route: str, kind: dict[str, Any], count: int, skip: int) -> None:
        if self.elsewhere.reachable:
            with self.told(f"faults: {route} {kind} {count} times after {skip}"):
                self.mounted.announce(*NETWORK)
                self.server.faults([{"route": route, **kind, "count": count, "skip": skip}])

    @step()
    def the_line_is_cut(self) -> None:
        if self.elsewhere.reachable:
            with self.told("the line is cut"):
                self.mounted.announce(*NETWORK)
                self.server.faults([{"route": "*", "kind": "reset"}])

    @step()
    def the_server_goes_or_comes(self) -> None:
        with self.told(f"the server {'goes' if self.elsewhere.reachable else 'comes'}"):
            self.mounted.announce(*NETWORK)
            if self.elsewhere.reachable:
                self.server.stop()
            else:
                self.server.start()

    @step(milliseconds=st.sampled_from([0, 5, 30]))
    def the_line_is_as_long_as(self, milliseconds: int) -> None:
        if self.elsewhere.reachable:
            with self.told(f"round trip {milliseconds} ms"):
                self.server.network(round_trip_ms=milliseconds)

    @step(requests=st.integers(1, 6))
    def some_requests_are_made(self, requests: int) -> None:
        if not self.elsewhere.reachable:
            return
        with self.told(f"sync, {requests} requests"):
            self.background = run_in_background(self.mounted.sync)
            wanted = self.server.counters()["total"] + requests
            with contextlib.suppress(AssertionError):
                eventually(lambda: self.server.counters()["total"] >= wanted, 0.3)

    @step()
    def cursors_are_reset(self) -> None:
        if self.elsewhere.reachable:
            with self.told("cursors are reset"):
                self.server.control("reset_cursors", {})

    @step()
    def daemon_is_killed(self) -> None:
        with self.told("kill"):
            if any(held.dirty for held in self.programs.held):
                self.mounted.announce(STRAY)
            self.mounted.kill()
            self.programs.die()
            self.mounted.start()
            self.is_as_it_was()

    @step()
    def daemon_is_unmounted(self) -> None:
        with self.told("unmount, mount"):
            while self.programs.held:
                self.close(self.programs.held[0])
            self.mounted.remount()
            self.is_as_it_was()

    def is_as_it_was(self) -> None:
        """Where nobody edits elsewhere, programs see after a restart what they saw before."""
        if self.programs.reference is not None:
            found = {path: shape[1] for path, shape in local_names(self.mounted.path).items()}
            expected = {
                path: None if contents is None else {len(content) for content in contents}
                for path, contents in self.programs.reference.shape().items()
            }
            assert found.keys() == expected.keys()
            wrong = [p for p, sizes in expected.items() if sizes and found[p] not in sizes]
            assert not wrong, f"other sizes: {wrong}"


def local_names(root: Path) -> dict[str, tuple[str, int | None]]:
    """Kind and size of everything that programs see, by path; nothing is read."""
    found: dict[str, tuple[str, int | None]] = {}
    for folder, folders, files in os.walk(root):
        prefix = folder.removeprefix(str(root))
        found |= {f"{prefix}/{name}": ("folder", None) for name in folders}
        found |= {
            f"{prefix}/{name}": ("file", os.lstat(f"{folder}/{name}").st_size) for name in files
        }
    return found

"""SQLite in all its journal modes, and what Python's library keeps in single files; locks.

SQLite's write-ahead log wants memory that the processes share by way of a file (`-shm`) mapped
into each. FUSE has that for the processes of one machine: the pages are the kernel's. Two machines
that have the same database open at once would each have their own: Dropbox is no place for that in
any mode, see docs/semantics.md.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from functools import partial

import pytest

from tests.mount.mounted import needs
from tests.programs.conftest import Both
from tests.programs.outcome import PYTHON, Desk

WRITERS = 3
ROWS = 10

WRITER = """
import sqlite3, sys
path, rows, name = sys.argv[1:]
connection = sqlite3.connect(path, timeout=60, isolation_level=None)
for row in range(int(rows)):
    connection.execute("BEGIN IMMEDIATE")
    (count,) = connection.execute("SELECT value FROM counter").fetchone()
    connection.execute("UPDATE counter SET value = ?", (count + 1,))
    connection.execute("INSERT INTO noted VALUES (?, ?, ?)", (name, row, bytes(3000)))
    connection.execute("COMMIT")
    connection.execute("SELECT sum(length(what)) FROM noted").fetchone()
connection.close()
"""


def sql(desk: Desk, database: str, *statements: str) -> str:
    """Run statements by the sqlite3 program."""
    return desk.run("sqlite3", "-batch", database, input=";\n".join((*statements, "")))


def several(desk: Desk, source: str, *arguments: str) -> None:
    """Run a Python program several times at once, each with a number; all must succeed."""
    script = f"""
set -e
for number in {" ".join(map(str, range(WRITERS)))}; do
    python=$1; "$python" -c "${{@:2}}" "$number" & pids="$pids $!"
done
for pid in $pids; do wait "$pid"; done
"""
    desk.run("bash", "-c", script, "bash", PYTHON, source, *arguments)


def write_by_several(desk: Desk, mode: str) -> None:
    """Some processes write to one database at once."""
    sql(
        desk,
        "data.db",
        f"PRAGMA journal_mode = {mode}",
        "CREATE TABLE counter (value INTEGER)",
        "INSERT INTO counter VALUES (0)",
        "CREATE TABLE noted (who TEXT, number INTEGER, what BLOB)",
    )
    several(desk, WRITER, "data.db", str(ROWS))
    sql(desk, "data.db", "SELECT value FROM counter", "SELECT who, count(*) FROM noted GROUP BY 1")
    sql(desk, "data.db", "BEGIN", "DELETE FROM noted WHERE number % 2", "ROLLBACK")
    sql(desk, "data.db", "DELETE FROM noted WHERE number > 5", "VACUUM", "PRAGMA integrity_check")
    sql(desk, "data.db", "PRAGMA journal_mode", "SELECT count(*), sum(length(what)) FROM noted")


def write_with_a_log(desk: Desk) -> None:
    """With the write-ahead log."""
    write_by_several(desk, "wal")


ROWS_UNLIKE = {"data.db": "rows lie in the order in which the writers came"}


@needs("sqlite3")
@pytest.mark.parametrize("mode", ["delete", "truncate", "wal"])
def test_sqlite_keeps_all_transactions_of_several_writers(both: Both, mode: str) -> None:
    both(partial(write_by_several, mode=mode), unlike=ROWS_UNLIKE)


@needs("sqlite3")
def test_a_transaction_that_was_killed_is_rolled_back(both: Both) -> None:
    """The journal that the killed program leaves is found and played back by the next."""

    def work(desk: Desk) -> None:
        for mode in ("delete", "wal"):
            sql(
                desk,
                f"{mode}.db",
                f"PRAGMA journal_mode = {mode}",
                "CREATE TABLE t (a)",
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
                "INSERT INTO t SELECT randomblob(1000) FROM n",
            )
            killed = (
                "PRAGMA cache_size = 5; BEGIN; UPDATE t SET a = 'lost' || a; DELETE FROM t"
                " WHERE rowid > 100;\n.shell kill -9 $PPID\n"
            )
            shell = ("sh", "-c", 'exec sqlite3 -batch "$1"', "sh", f"{mode}.db")
            desk.run(*shell, input=killed, status=-9)
            assert (desk.folder / f"{mode}.db-{'wal' if mode == 'wal' else 'journal'}").exists()
            count = "SELECT count(*), min(length(a)) FROM t"
            sql(desk, f"{mode}.db", "PRAGMA integrity_check", count)

    both(work, unlike={"*": "random"})


COMMITTER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1] + ".db", isolation_level=None)
connection.execute("PRAGMA journal_mode = " + sys.argv[1])
connection.execute("PRAGMA synchronous = FULL")
connection.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, what BLOB)")
for number in range(100_000):
    connection.execute("INSERT INTO t VALUES (?, ?)", (number, bytes(5000)))
    print(number, flush=True)
"""


def test_what_sqlite_has_committed_survives_a_kill_of_the_daemon(both: Both) -> None:
    """The programs die of it; whoever opens the database next finds all that was committed."""
    mounted, folder = both.mounted, both.mounted.path / both.name
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        writers: dict[str, subprocess.Popen[str]] = {}
        for mode in ("delete", "wal"):
            command = (PYTHON, "-c", COMMITTER, mode)
            pipe = subprocess.PIPE
            writer = subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True)
            writers[mode] = stack.enter_context(writer)
            stack.callback(writer.kill)
        for writer in writers.values():
            assert writer.stdout is not None
            for _ in range(15):
                assert writer.stdout.readline()
        mounted.kill()
        said = {mode: writer.communicate(timeout=20)[0] for mode, writer in writers.items()}
    mounted.start()
    for mode in writers:
        with contextlib.closing(sqlite3.connect(folder / f"{mode}.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            ((last,),) = connection.execute("SELECT max(number) FROM t")
        assert last >= max([14, *map(int, said[mode].split())])
    both.arrived()


SHELF = """
import dbm.dumb, random, shelve
source = random.Random(1)
with shelve.open("shelf") as shelf:
    for number in range(200):
        shelf[str(number)] = {"number": number, "text": "x" * source.randrange(500)}
with shelve.open("shelf", writeback=True) as shelf:
    for number in range(0, 200, 3):
        del shelf[str(number)]
    shelf["1"]["text"] = "changed"
with shelve.open("shelf", "r") as shelf:
    print(sorted((key, len(value["text"])) for key, value in shelf.items()))
with dbm.dumb.open("dumb", "c") as file:
    for number in range(50):
        file[str(number)] = b"y" * number
    del file["7"]
with dbm.dumb.open("dumb", "r") as file:
    print(sorted(file.keys()))
"""

MAIL = """
import email.message, mailbox

def message(number):
    message = email.message.Message()
    message["From"] = message["To"] = "a@example.org"
    message["Subject"] = f"number {number}"
    message.set_payload("text\\n" * number)
    return message

for kind, name in ((mailbox.mbox, "mbox"), (mailbox.Maildir, "maildir"), (mailbox.MH, "mh")):
    box = kind(name)
    box.lock()
    keys = [box.add(message(number)) for number in range(12)]
    box.flush()
    box.unlock()
    box = kind(name)
    box.lock()
    box.remove(keys[3])
    box[keys[4]] = message(44)
    box.flush()
    box.unlock()
    if kind is mailbox.Maildir:
        read = box.get_message(keys[5])
        read.set_subdir("cur")
        read.add_flag("S")
        box[keys[5]] = read
        folder = box.add_folder("kept")
        folder.add(message(7))
    print(name, sorted(one["Subject"] for one in kind(name)))
    box.close()
"""


def test_shelves_and_mailboxes_hold_what_was_put_in(both: Both) -> None:
    def work(desk: Desk) -> None:
        desk.run(PYTHON, "-c", SHELF)
        desk.run(PYTHON, "-c", MAIL)

    ignored = {"maildir/*/*": "names of messages hold time and process"}
    both(work, unlike={"mbox": "notes when each came", "shelf*": "of the library"}, ignored=ignored)


@needs("flock")
def test_locks_let_one_in_at_a_time(both: Both) -> None:
    count = """
import fcntl, os, struct, sys
how, times = sys.argv[1], int(sys.argv[2])
file = os.open("counter", os.O_RDWR | os.O_CREAT)
for _ in range(times):
    (fcntl.flock if how == "flock" else fcntl.lockf)(file, fcntl.LOCK_EX)
    value = int(os.pread(file, 20, 0) or b"0")
    os.pwrite(file, b"%d" % (value + 1), 0)
    (fcntl.flock if how == "flock" else fcntl.lockf)(file, fcntl.LOCK_UN)
"""
    script = """
set -e
for how in flock lockf; do
    pids=""
    for number in 1 2 3; do "$1" -c "$2" $how 60 & pids="$pids $!"; done
    for pid in $pids; do wait "$pid"; done
    cat counter; echo
done
exec 9> lock
flock 9
flock -n lock true || echo taken
flock -w 0.1 lock true || echo still taken
flock -u 9
flock -n -s lock flock -n -s lock echo shared
flock -n -s lock flock -n -x lock true || echo not alone
flock . echo a folder can be locked
"""

    def work(desk: Desk) -> None:
        desk.run("bash", "-c", script, "bash", PYTHON, count)

    both(work)


def test_another_machine_sees_the_databases(both: Both) -> None:
    both.seen_from_another_machine()

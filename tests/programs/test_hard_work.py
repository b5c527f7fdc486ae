"""Programs made to find faults: fio that verifies, stress-ng; and gocryptfs, a mount in the mount.

`DBXFS_PROGRAMS_SECONDS` is how long each of them works; above a minute all stressors of stress-ng's
class "filesystem" that work in a folder run one after the other, each for a tenth of that.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.mount.mounted import needs, run, works
from tests.programs.conftest import LENGTHY, SECONDS, Both
from tests.programs.outcome import Desk, in_order, nothing

SIZE = "16M" if LENGTHY else "2M"

JOBS = f"""
[global]
size={SIZE}
directory=.
verify=crc32c
do_verify=1
verify_fatal=1
randseed=7
rw=randwrite
bs=4k
ioengine=psync
stonewall

[odd-sizes]
bsrange=1k-64k
bs_unaligned=1

[mapped]
rw=randrw
ioengine=mmap

[direct]
ioengine=libaio
iodepth=16
direct=1

[two-in-one-file]
direct=1
numjobs=2
filename=shared
offset_increment={SIZE}

[many-files]
nrfiles=20
"""

MORE_JOBS = """
[side-by-side]
ioengine=libaio
iodepth=8
numjobs=3

[read-just-behind]
verify_backlog=64
fsync=200
"""


@needs("fio")
@pytest.mark.hangs_after(120.0)
@pytest.mark.timeout(200)
def test_fio_reads_back_what_it_wrote_in_every_way(both: Both) -> None:
    def work(desk: Desk) -> None:
        (desk.spare / "jobs").write_text(JOBS + MORE_JOBS * LENGTHY)
        desk.run("fio", desk.spare / "jobs", said=nothing, timeout=600 if LENGTHY else 100)

    both(work, unlike={"*": "blocks hold the time"})


TOGETHER = ("dentry", "rename", "hdd", "seek", "iomix", "flock", "utime", "symlink", "getdent")
"""Those that are run together where there is little time."""

ALL = (
    *("access", "chattr", "chdir", "chmod", "chown", "copy-file", "dentry", "dir", "dirdeep"),
    *("dirmany", "dnotify", "dup", "fallocate", "fcntl", "file-ioctl", "filename", "flock"),
    *("fpunch", "fstat", "getdent", "handle", "hdd", "inode-flags", "inotify", "io", "iomix"),
    *("lease", "locka", "lockf", "lockofd", "mknod", "open", "rename", "symlink", "sync-file"),
    *("touch", "utime", "xattr", "seek", "revio", "readahead", "aio", "aiol", "sendfile"),
    *("splice", "mmap", "msync", "io-uring", "fsize"),
)
"""Of the class "filesystem" and the class "io". Not here: `link` (there are no hard links),
`fiemap` and `verity` (nothing of FUSE's); what mounts, or does not work in the folder."""

SMALL = (
    *("--hdd-bytes", "8M", "--iomix-bytes", "8M", "--seek-size", "4M", "--revio-bytes", "8M"),
    *("--readahead-bytes", "16M", "--sync-file-bytes", "8M", "--fallocate-bytes", "16M"),
    *("--copy-file-bytes", "128M", "--mmap-bytes", "8M", "--mmap-file", "--msync-bytes", "8M"),
)


@needs("stress-ng")
@pytest.mark.hangs_after(SECONDS * 3 + 60)
@pytest.mark.timeout(SECONDS * 3 + 120)
@pytest.mark.parametrize("stressors", ALL if LENGTHY else [" ".join(TOGETHER)])
def test_stress_ng_finds_no_fault(both: Both, stressors: str) -> None:
    mounted = both.mounted
    folder = mounted.path / both.name
    folder.mkdir()
    which = [part for name in stressors.split() for part in (f"--{name}", "1")]
    seconds = SECONDS / 10 if LENGTHY else SECONDS
    # With an absolute path its io-uring stressor fails on ext4, too.
    common = ("--verify", "--timeout", f"{seconds:.0f}s", "--temp-path", ".")
    done = run("stress-ng", *which, *SMALL, *common, cwd=folder, timeout=SECONDS * 3 + 50)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "fail:" not in said
    assert os.listdir(folder) == [], "it left something"
    both.arrived()


@needs("gocryptfs")
@pytest.mark.skipif(os.getuid() != 0, reason="its mount is made by root here")
@pytest.mark.hangs_after(90.0)
def test_gocryptfs_keeps_its_ciphers_in_the_mount(both: Both) -> None:
    def work(desk: Desk) -> None:
        cipher, plain = desk.folder / "cipher", desk.spare / "plain"
        cipher.mkdir()
        plain.mkdir()
        word = desk.spare / "word"
        word.write_text("secret\n")
        secret = ("-q", "-passfile", word)
        desk.run("gocryptfs", "-init", "-scryptn", "10", *secret, cipher, said=nothing)
        for turn in range(2):
            # What stays in the background must not hold what is said to us.
            mount = ("sh", "-c", '"$@" > /dev/null 2>&1', "sh", "gocryptfs")
            desk.run(*mount, "-nosyslog", *secret, cipher, plain)
            try:
                in_the_plain(desk, plain, turn)
            finally:
                works("umount", plain)
        desk.run("gocryptfs", "-fsck", *secret, cipher, said=nothing)

    both(work, ignored={"*": "names and contents are encrypted with a key by chance"})


def in_the_plain(desk: Desk, plain: Path, turn: int) -> None:
    """What a user does with the decrypted folder, first and when it is mounted again."""
    inside = plain / "tree"
    if turn == 0:
        desk.run("cp", "-a", Path(__file__).parent, inside, said=nothing)
        (inside / ("long " * 40)).write_text("long name")
        (inside / "link").symlink_to("nowhere")
        desk.run("truncate", "-s", "1M", inside / "sparse")
        desk.run("mkdir", "-p", inside / "a" / "b" / "c")
        desk.run("mv", inside / "a" / "b", inside / "moved")
        desk.run("sed", "-i", "s/import/IMPORT/", inside / "outcome.py")
        desk.run("rm", inside / "conftest.py")
    shutil.rmtree(inside / "__pycache__", ignore_errors=True)
    desk.run("find", ".", "-printf", "%P %y %m %l\n", cwd=plain, said=in_order)
    desk.run("find", ".", "-type", "f", "-exec", "sha256sum", "{}", "+", cwd=plain, said=in_order)

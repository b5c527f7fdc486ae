"""The machine that the figures are from: without it they mean nothing."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
import time
from pathlib import Path

from tests.bench.contenders import find_rclone
from tests.bench.figures import MIB
from tests.bench.figures import rate as show_rate

ROOT = Path(__file__).parent.parent.parent
TRIED = 256 * MIB


def describe(folder: Path) -> dict[str, str]:
    """What there is to say, by name. `folder`: where the work is done, and the disk tried."""
    load = os.getloadavg()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": f"{os.cpu_count()} × {_processor()}, {_memory()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {load:.1f}",
        "disk": f"reads {show_rate(disk_rate(folder))} past the kernel's cache",
        "rclone": _rclone(),
    }


def disk_rate(folder: Path) -> float:
    """Bytes a second of sequential reading in `folder`, not from the kernel's cache."""
    file = folder / "disk"
    data = os.urandom(MIB)
    try:
        with file.open("wb", buffering=0) as target:
            for _ in range(TRIED // MIB):
                target.write(data)
            os.fsync(target.fileno())
            os.posix_fadvise(target.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        buffer = bytearray(MIB)
        began = time.monotonic()
        with file.open("rb", buffering=0) as source:
            while source.readinto(buffer):
                pass
        return TRIED / (time.monotonic() - began)
    finally:
        file.unlink(missing_ok=True)


def _commit() -> str:
    return _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12")


def _rclone() -> str:
    rclone = find_rclone()
    return _first_line(str(rclone), "version") if rclone else "not here"


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.partition("\n")[0] or "unknown"


def _processor() -> str:
    match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return match[1] if match else platform.machine()


def _memory() -> str:
    match = re.search(r"MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    return f"{int(match[1]) / 1024**2:.0f} GiB" if match else "unknown memory"

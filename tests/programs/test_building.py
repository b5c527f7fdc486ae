"""Building: a C project by make with two jobs, and a Python environment with a package of ours."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from tests.mount.mounted import needs
from tests.programs.conftest import LENGTHY, Both
from tests.programs.outcome import PYTHON, Desk, in_order, nothing

SOURCES = 8

MAKEFILE = """
objects := $(patsubst %.c,build/%.o,$(wildcard *.c))
all: program libparts.a
build:
\tmkdir -p build
build/%.o: %.c | build
\tgcc -O1 -MMD -c -o $@ $<
libparts.a: $(filter build/part%.o,$(objects))
\trm -f $@; ar Drcs $@ $^
program: $(objects)
\tgcc -o $@ $(sort $^)
install: program
\tinstall -D -m 755 program out/bin/program
\tln -sf program out/bin/alias
clean:
\trm -rf build program libparts.a
-include $(wildcard build/*.d)
"""


def project(folder: Path) -> None:
    """Some parts, a header for each and one for all."""
    folder.mkdir()
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "all.h").write_text("#define STEP 1\n")
    calls = []
    for number in range(SOURCES):
        (folder / f"part{number}.h").write_text(f"int part{number}(int);\n")
        (folder / f"part{number}.c").write_text(
            f'#include "all.h"\n#include "part{number}.h"\n'
            f"int part{number}(int a) {{ return a * {number} + STEP; }}\n"
        )
        calls.append(f"part{number}(sum)")
    headers = "".join(f'#include "part{number}.h"\n' for number in range(SOURCES))
    (folder / "main.c").write_text(
        f"#include <stdio.h>\n{headers}"
        f'int main(void) {{ int sum = 1; printf("%d\\n", {" + ".join(calls)}); return 0; }}\n'
    )


def build(desk: Desk) -> None:
    """All, nothing, a part, all; then what was built is installed and cleared away."""
    top = desk.folder / "project"
    project(top)

    def make(*goals: str) -> str:
        return desk.run("make", "-s", "-j2", "-C", "project", *goals, said=in_order)

    make()
    desk.run("project/program")
    desk.run("make", "-C", "project", "-q")
    desk.run("touch", "project/part3.h")
    desk.run("make", "-n", "-C", "project", said=in_order)
    make()
    desk.run("sed", "-i", "s/1/2/", "project/all.h")
    assert "part7.c" in desk.run("make", "-j2", "-C", "project", said=in_order)
    desk.run("project/program")
    make("install")
    desk.run("project/out/bin/alias")
    desk.run("make", "-C", "project", "-q")
    make("clean")
    desk.run("make", "-C", "project", "-q", status=1, said=nothing)
    make()


@needs("gcc")
@needs("make")
def test_make_builds_what_is_new_and_only_that(both: Both) -> None:
    both(build)


def wheel(folder: Path) -> Path:
    """A package with a module, a program and some data, as pip takes it."""
    files = {
        "parcel/__init__.py": "from .inner import word\n\ndef main():\n    print(word)\n",
        "parcel/inner.py": 'word = "hello"\n',
        **{f"parcel/data/{number}.txt": f"{number}\n" * number for number in range(20)},
        "parcel-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n",
        "parcel-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: none\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
        "parcel-1.0.dist-info/entry_points.txt": "[console_scripts]\nparcel = parcel:main\n",
    }
    record = "".join(
        f"{name},sha256={_digest(text.encode())},{len(text.encode())}\n"
        for name, text in files.items()
    )
    files["parcel-1.0.dist-info/RECORD"] = f"{record}parcel-1.0.dist-info/RECORD,,\n"
    path = folder / "parcel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return path


def _digest(content: bytes) -> str:
    digest = hashlib.sha256(content).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def make_environment(desk: Desk) -> None:
    """A package comes; where there is time, once more in its own place."""
    parcel = wheel(desk.spare)
    desk.run(PYTHON, "-m", "venv", "--without-pip", "env", timeout=90)
    pip = (PYTHON, "-m", "pip", "--python", "env/bin/python", "-q")
    quietly = ("--no-index", "--no-deps", "--disable-pip-version-check", "--no-cache-dir")
    desk.run(*pip, "install", *quietly, parcel, timeout=90)
    desk.run("env/bin/parcel")
    desk.run("env/bin/python", "-c", "import parcel, sys; print(parcel.word, sys.prefix)")
    if not LENGTHY:
        return
    desk.run("env/bin/python", "-m", "compileall", "-q", "env/lib")
    desk.run(*pip, "install", *quietly, "--force-reinstall", parcel, timeout=90)
    desk.run("env/bin/parcel")


ENVIRONMENT_UNLIKE = {
    "env/pyvenv.cfg": "names the place",
    "env/bin/*": "names the place",
    "*.pyc": "notes the time of the source",
    "*/RECORD": "has the sizes of those",
    "*/direct_url.json": "names the place",
}


@pytest.mark.hangs_after(100.0)
@pytest.mark.timeout(150)
def test_an_environment_with_a_package_of_ours_works(both: Both) -> None:
    """pip is called from outside: to unpack pip itself takes ten seconds and tells no more."""
    both(make_environment, unlike=ENVIRONMENT_UNLIKE)

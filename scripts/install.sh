# shellcheck shell=bash
# Sourced by scripts/demo and scripts/test: brings a checkout to the point where it runs.
#
# What is missing is found by trying it, not by asking the package database: a Python from
# elsewhere, or a distribution without apt, is as good as Debian's own. Packages are installed only
# for what is missing, and only where root or sudo is at hand; otherwise they are named. All Python
# packages go into .venv in the checkout. Done once, it costs a few milliseconds.
#
# Rejected: asking dpkg (wrong for anything not installed by it), and pip into the system or the
# user's home (the Python package index has another program named dbxfs; see README.md).

# A checkout must be usable for the user who runs it, whatever umask the shell has.
umask 022
# Another program's settings must not lead our interpreter to other packages.
unset PYTHONHOME PYTHONPATH CDPATH

root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
bin=$root/.venv/bin

say() { printf '%s\n' "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# ---- Debian packages ----

# The first interpreter that is new enough; pyenv's and others' stand-ins that do not run are
# passed over.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python3.14; do
        [[ -n $candidate ]] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v -- "$candidate"
            return
        fi
    done
    return 1
}

# The packages that hold what is missing, one a line. Arguments: further commands that are needed,
# as COMMAND or COMMAND:PACKAGE.
missing_packages() {
    local python version need
    command -v fusermount3 >/dev/null || echo fuse3
    for need in "$@"; do
        command -v "${need%%:*}" >/dev/null || echo "${need##*:}"
    done
    [[ -x $bin/python ]] && "$bin/python" -c 'import pyfuse3' 2>/dev/null && return
    # From here on: what it takes to make the environment and to compile pyfuse3 in it.
    if ! python=$(find_python); then
        newest_python_packages
    else
        version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "$version-venv"
        "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
            echo "$version-dev"
    fi
    if ! command -v gcc >/dev/null; then
        printf '%s\n' gcc libc6-dev
    elif ! gcc -E -include stdio.h -x c /dev/null >/dev/null 2>&1; then
        echo libc6-dev
    fi
    if ! command -v pkg-config >/dev/null; then
        printf '%s\n' pkg-config libfuse3-dev
    elif ! pkg-config --exists fuse3; then
        echo libfuse3-dev
    fi
}

# Without any usable Python: the distribution's own if that is new enough, else one beside it.
newest_python_packages() {
    local version
    for version in 3.11 3.12 3.13; do
        if apt-cache show "python$version" >/dev/null 2>&1; then
            printf '%s\n' "python$version" "python$version-venv" "python$version-dev"
            return
        fi
    done
    printf '%s\n' python3 python3-venv python3-dev
}

# Installs what is missing or says what to install. Arguments as above.
install_packages() {
    local missing become=()
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null ||
        die "please install what these Debian packages hold: ${missing[*]}"
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null || ! { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
            die "packages are missing; please have them installed: apt-get install ${missing[*]}"
        fi
        become=(sudo)
    fi
    if ! find_python >/dev/null; then
        # On a bare machine apt does not know yet which Python there is to choose.
        say "Reading the list of packages…"
        apt update -qq || die "apt-get update failed"
        mapfile -t missing < <(missing_packages "$@")
    fi
    say "Installing ${missing[*]}…"
    apt install -qq "${missing[@]}" >/dev/null 2>&1 ||
        { apt update -qq >/dev/null && apt install -qq "${missing[@]}" >/dev/null; } ||
        die "apt-get install ${missing[*]} failed"
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]} == 0)) || die "still missing after the installation: ${missing[*]}"
}

# Patient, since a fresh machine is often updating itself.
apt() {
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# ---- The environment ----

# Makes .venv with dbxfs in it. Argument: "" or the extra that is wanted ("test").
#
# The stamp says for which pyproject.toml, which place of the checkout and which extra it was done:
# scripts in .venv/bin hold absolute paths, so a checkout that was moved needs a new one.
install_dbxfs() {
    local extra=$1 python stamp wanted
    stamp=$bin/../installed
    wanted=$(printf '%s\n' "$root" && cat -- "$root/pyproject.toml")
    if [[ -x $bin/python && -x $bin/mount.dbxfs && -r $stamp ]] &&
        { [[ $(<"$stamp") == "$wanted"$'\n'"extra $extra" ]] ||
            [[ $(<"$stamp") == "$wanted"$'\n'"extra test" ]]; } &&
        "$bin/python" -c 'import pyfuse3' 2>/dev/null; then
        return
    fi
    [[ -w $root ]] || die "$root cannot be written to; run this once as its owner"
    if [[ ! -x $bin/python ]] || ! "$bin/python" -m pip --version >/dev/null 2>&1 ||
        { [[ -r $stamp ]] && [[ $(head -n 1 -- "$stamp") != "$root" ]]; }; then
        python=$(find_python) || die "no Python 3.11 or newer is here"
        say "Making an environment with $("$python" --version) in .venv…"
        "$python" -m venv --clear "$root/.venv" || die "the environment cannot be made"
    fi
    say "Installing dbxfs and what it needs into .venv (the first time takes a minute or two)…"
    "$bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --editable "$root${extra:+[$extra]}" || die "pip install failed; see above"
    printf '%s\nextra %s\n' "$wanted" "$extra" >"$stamp"
}

# Everything. Arguments: the extra ("" for none), then further commands that are needed.
# Two at once in one checkout take turns.
install() {
    local extra=$1
    shift
    install_packages "$@"
    (
        command -v flock >/dev/null && flock 9
        install_dbxfs "$extra"
    ) 9<"$root/pyproject.toml" || exit 1
}

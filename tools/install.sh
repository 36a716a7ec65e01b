#!/bin/sh
# Makes .venv with what requirements-dev.txt pins, and this checkout in it.  May be run again at any time: a complete
# environment is brought up to date, an incomplete or moved one is made anew.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

fail() {
    echo "make install: $*" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "no '$python' on this machine: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv), or name one with PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "'$python' is $("$python" -V 2>&1), and 3.11 or newer is needed: name another with PYTHON=/path/to/python3"

if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "make install: installing $package, which this Python lacks"
        log=$(mktemp)
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$package"; } >"$log" 2>&1 || {
            cat "$log" >&2
            rm -f "$log"
            fail "$package could not be installed: install it by hand, then run this again"
        }
        rm -f "$log"
    else
        fail "this Python cannot make environments: install $package (as root: apt-get install $package), then run this again"
    fi
fi

# An environment that was copied here from elsewhere names the other place, and one without its mark was never finished.
here=$(pwd -P)
if [ -e .venv ]; then
    prefix=$(.venv/bin/python -c 'import sys; print(sys.prefix)' 2>/dev/null || true)
    if [ "$prefix" != "$here/.venv" ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        echo "make install: making .venv anew"
        rm -rf .venv
    fi
fi
echo "make install: bringing .venv to what requirements-dev.txt pins (the first time, a minute or two)"
[ -e .venv ] || "$python" -m venv .venv

pip() {
    .venv/bin/python -m pip --quiet --quiet --disable-pip-version-check --no-input "$@"
}
pip install --require-hashes --requirement requirements-dev.txt ||
    fail "the packages of requirements-dev.txt could not be installed (see above): check that this machine reaches a package index, then run this again"
pip install --no-deps --no-build-isolation --editable . ||
    fail "this checkout could not be installed into .venv (see above)"
touch .venv/.installed

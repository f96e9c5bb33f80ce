#!/bin/sh
# usage: venv.sh PYTHON VENV LOCK   make the environment of one lock file; says what is missing on a bare machine
set -eu
python=$1 venv=$2 lock=$3
"$python" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] < (3, 13)))' 2>/dev/null || {
    echo "triage needs Python 3.11 or 3.12; '$python' is $("$python" --version 2>&1 || echo missing)." \
         "Name another one: make PYTHON=python3.11 ..." >&2
    exit 2
}
if [ ! -x "$venv/bin/python" ]; then
    rm -rf "$venv"
    if ! "$python" -m venv "$venv" 2>"$venv.log"; then
        rm -rf "$venv"
        if command -v uv >/dev/null 2>&1; then
            uv venv --quiet --seed --python "$python" "$venv"
        else
            cat "$venv.log" >&2
            echo "This Python cannot make virtual environments (Debian: apt-get install python3-venv; without root:" \
                 "pip install --user uv, then run make again)." >&2
            rm -f "$venv.log"
            exit 2
        fi
    fi
    rm -f "$venv.log"
fi
export PIP_CACHE_DIR="$venv/.cache/pip" # nothing outside this folder is written
echo "Installing $(grep -c '==' "$lock") locked packages into $venv (about 6 GB with PyTorch; a few minutes the first time) ..."
"$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar on --require-hashes --no-deps -r "$lock"
"$venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
rm -rf "$venv/.cache"

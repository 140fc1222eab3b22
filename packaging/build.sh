#!/usr/bin/env bash
# The Debian package, from this checkout into target/debian: `cargo deb` where that is installed, else dpkg-deb alone
# from the same list ([package.metadata.deb] in Cargo.toml). Needs Rust, a C compiler and python3.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
# The same sources are the same package: what has a time in it has that of the last commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
# What `wagate --version` says beside the version.
WAGATE_REVISION=${WAGATE_REVISION:-$(git rev-parse --short=12 HEAD)}
export WAGATE_REVISION
cargo build --locked --profile dist --bin wagate
python3 packaging/prepare.py "$target/dist/wagate"
if cargo deb --version >/dev/null 2>&1; then
    cargo deb --locked --no-build --profile dist
else
    python3 packaging/deb.py "$target/dist/wagate" "$target/debian"
fi

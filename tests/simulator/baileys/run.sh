#!/bin/sh
# Runs the Baileys check against a simulator of its own; fails if the check does, or if the
# simulator noticed a protocol error. Needs Node 20 and a Rust toolchain.
#
# SIMULATOR names a built binary; otherwise one is built.
set -eu
cd "$(dirname "$0")"

[ -d node_modules ] || npm ci --no-audit --no-fund
if [ -z "${SIMULATOR:-}" ]; then
    cargo build --quiet -p wagate-simulator --bin wagate-simulator
    target=$(cargo metadata --format-version 1 --no-deps |
        node -p 'JSON.parse(require("fs").readFileSync(0)).target_directory')
    SIMULATOR="$target/debug/wagate-simulator"
fi

# Everything that is written on the way. It goes when the client has ended: a stock client is still
# saving keys when it has been told to.
scratch=$(mktemp -d)
ready="$scratch/ready"
"$SIMULATOR" --listen 127.0.0.1:0 --control 127.0.0.1:0 --ready "$ready" &
simulator=$!
trap 'kill "$simulator" 2>/dev/null || true; rm -rf "$scratch"' EXIT

tries=0
while [ ! -s "$ready" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ] || ! kill -0 "$simulator" 2>/dev/null; then
        echo "the simulator did not start" >&2
        exit 1
    fi
    sleep 0.1
done
{ read -r url; read -r control; } < "$ready"

status=0
TMPDIR="$scratch" node check.mjs "$url" "$control" || status=$?
violations=$(node -e 'fetch(process.argv[1] + "/violations").then(async r => console.log(await r.text()))' "$control")
if [ "$violations" != "[]" ]; then
    echo "violations: $violations" >&2
    status=1
fi
exit "$status"

#!/bin/sh
# Runs examples/seeds.sh, and opens the page of examples/react and that of the API, against a fresh daemon beside a
# simulated WhatsApp. WAGATE and SIMULATOR name built binaries; MODULES is where the page's modules are kept between runs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
daemon=
simulator=
finish() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    [ -z "$daemon" ] || wait "$daemon" 2>/dev/null || true
    [ -z "$simulator" ] || kill "$simulator" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 1' INT TERM

# Waits for a command to succeed, while a process lives.
await() {
    tries=0
    until eval "$1"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ] || ! kill -0 "$2" 2>/dev/null; then
            echo "$3 did not start" >&2
            cat "$scratch/log" >&2 2>/dev/null || true
            exit 1
        fi
        sleep 0.1
    done
}

"$SIMULATOR" --listen 127.0.0.1:0 --control 127.0.0.1:0 --ready "$scratch/ready" 2>"$scratch/simulator.log" &
simulator=$!
await '[ -s "$scratch/ready" ]' "$simulator" "the simulator"

# The endpoint of the documents is called nowhere: no network is allowed.
export WEBHOOK_SECRET_KEY="seeds $$"
cd "$scratch"
WAGATE_STATE_DIR="$scratch/state" WAGATE_HTTP__LISTEN=127.0.0.1:0 WAGATE_WHATSAPP__URL="$(head -n 1 "$scratch/ready")" \
    WAGATE_WHATSAPP__VERSION=2.3000.1042742319 WAGATE_WEBHOOKS__DENY_CIDRS=0.0.0.0/0,::/0 \
    "$WAGATE" >"$scratch/said" 2>"$scratch/log" &
daemon=$!
await 'grep -q "^ *try " "$scratch/said" 2>/dev/null' "$daemon" "the daemon"
WAGATE_URL=$(sed -n 's/^ *address *//p' "$scratch/said")
WAGATE_TOKEN=$(cat "$scratch/state/operator.token")
export WAGATE_URL WAGATE_TOKEN
sh "$here/../../examples/seeds.sh"

# Built and opened where nothing else is: the clone stays as it is.
page=${MODULES:-"$scratch/page"}
mkdir -p "$page"
cp "$here"/../../examples/react/*.* "$here/docs.mjs" "$page"
cd "$page"
cmp -s package-lock.json installed || npm ci --silent --no-audit --no-fund
cp package-lock.json installed
node check.mjs
node docs.mjs
if grep -q "$WEBHOOK_SECRET_KEY\|whsec_\|5511999999999" "$scratch/log"; then
    echo "a secret or a phone number is in the log" >&2
    exit 1
fi

#!/usr/bin/env bash
# What systemd itself says about the units: whether it can read them, and how much they are exposed (at most 2.0
# of 10). `check.sh PROGRAM`: any program will do, as units are not run.
set -euo pipefail
cd "$(dirname "$0")"
program=$(realpath "$1")
if ! command -v systemd-analyze >/dev/null; then
    echo "systemd-analyze is missing: install systemd" >&2
    exit 1
fi
version=$(systemd-analyze --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The program is not where the unit will find it, and the user is not there yet. The manual and the guide are
# installed with the package.
for unit in wagate.service wagate.socket; do
    sed -e "s|^ExecStart=/usr/bin/wagate|ExecStart=$program|" -e '/^Documentation=/d' "$unit" >"$folder/$unit"
done
if ((version < 253)); then
    echo "systemd $version does not know Type=notify-reload: that one line is not checked here"
    sed -i '/^Type=notify-reload$/d' "$folder/wagate.service"
fi
said=$(systemd-analyze verify "$folder/wagate.service" "$folder/wagate.socket" 2>&1) || true
# Complaints about other units of this machine are none of ours.
if grep -E 'wagate\.(service|socket)' <<<"$said"; then
    exit 1
fi
if ((version < 250)); then
    echo "systemd $version looks at no unit that is not installed: what is exposed is not checked here"
    exit 0
fi
systemd-analyze security --offline=true --threshold=20 --no-pager "$folder/wagate.service" | tail -n 1

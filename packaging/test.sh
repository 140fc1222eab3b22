#!/usr/bin/env bash
# Installs the package, upgrades it, removes it and purges it, on a copy of this system: a root of its own above the
# real one (overlayfs), in which nothing outlives the test. `test.sh PROGRAM`: any build of wagate, after `prepare.py`. As
# root.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
program=$(realpath "$1")

if [[ -z ${WAGATE_IN_NAMESPACE:-} ]]; then
    if ((EUID != 0)); then
        echo "this must be run as root" >&2
        exit 1
    fi
    WAGATE_IN_NAMESPACE=1 exec unshare --mount --propagation private -- "$0" "$@"
fi

work=$(mktemp -d)
daemon=
finish() {
    local code=$?
    [[ -z $daemon ]] || kill "$daemon" 2>/dev/null || true
    umount -R -l "$work/system" 2>/dev/null || true
    umount -l "$work" 2>/dev/null || true
    rmdir "$work" 2>/dev/null || true
    exit "$code"
}
trap finish EXIT
mount -t tmpfs tmpfs "$work"
mkdir "$work"/{upper,inner,system,packages}
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/inner" "$work/system"
mount -t proc proc "$work/system/proc"
mount --rbind /dev "$work/system/dev"

root=$work/system
inside=(chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive)
within() { "${inside[@]}" "$@"; }
fail() {
    echo "package: $*" >&2
    exit 1
}
# As the unit runs it.
user=(setpriv --reuid wagate --regid wagate --clear-groups)
as_daemon() { within "${user[@]}" "$@"; }

cd "$here"
# Without what debuggers want, which is most of it in a development build, and quickly.
strip -o "$work/wagate" "$program"
program=$work/wagate
export COMPRESSION=none
# Any moment does; the one of the commit needs a checkout that git trusts whoever asks.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1000000000}
first=$(python3 packaging/deb.py "$program" "$work/packages" 0.0.1-1)
second=$(python3 packaging/deb.py "$program" "$work/packages" 0.0.2-1)
# The same twice is the same, byte for byte.
mkdir "$work/again"
again=$(python3 packaging/deb.py "$program" "$work/again" 0.0.1-1)
cmp "$first" "$again" || fail "the same package is not the same"

# Where `cargo deb` is there, it makes the second one from the same list: what is upgraded to and purged below is its
# package, with nothing more in it or less.
about() {
    # A date for a changelog of Debian's is only in ours, and names of users only there.
    dpkg-deb --contents "$1" | awk '$6 !~ /(\/|changelog.Debian.gz)$/ { sub("root/root", "0/0"); print $1, $2, $6 }' |
        sort -k 3
    local field
    for field in Package Version Architecture Maintainer Section Priority Recommends Description; do
        echo "$field $(dpkg-deb --field "$1" "$field" | sed '1s/\.$//')"
    done
    dpkg-deb --info "$1" conffiles postinst prerm postrm
}
maker=packaging/deb.py
if cargo deb --version >/dev/null 2>&1; then
    maker="cargo deb"
    mkdir -p "$work/target/release"
    cp "$program" "$work/target/release/wagate"
    CARGO_TARGET_DIR=$work/target cargo deb --quiet --locked --offline --no-build --no-strip --fast \
        --deb-version 0.0.2-1 --output "$work/cargo.deb" >/dev/null || fail "cargo deb makes no package"
    diff <(about "$second") <(about "$work/cargo.deb") >&2 || fail "cargo deb makes another package"
    [[ $(dpkg-deb --field "$work/cargo.deb" Depends) == *libc6*systemd* ]] || fail "it depends on nothing"
    cp "$work/cargo.deb" "$second"
fi
mkdir -p "$root/packages"
cp "$first" "$second" "$root/packages"

# What is called like it, outside of dpkg's own lists.
ours() { (cd "$root" && find etc usr var/lib -iname '*wagate*' -not -path '*/dpkg/*' | sort); }
# Where it is installed already, the first of the two would be the second.
within dpkg --purge wagate >/dev/null 2>&1 || true
before=$(ours)
install() { within dpkg --path-include='/usr/share/*' --install "/packages/$(basename "$1")" >"$work/said" 2>&1 || fail "$(cat "$work/said")"; }

# A daemon in the root, until it says where it is.
start() {
    : >"$work/out"
    # One process from here on, which the signal is for.
    (exec "${inside[@]}" "${user[@]}" /usr/bin/wagate serve --listen 127.0.0.1:0) >"$work/out" 2>"$work/log" &
    daemon=$!
    for _ in $(seq 200); do
        grep -q 'is running' "$work/out" && return
        kill -0 "$daemon" 2>/dev/null || fail "it does not start: $(cat "$work/log")"
        sleep 0.1
    done
    fail "it is not ready"
}
stop() {
    kill -TERM "$daemon"
    wait "$daemon" || fail "it does not end well: $(cat "$work/log")"
    daemon=
}

install "$first"
within id wagate >/dev/null || fail "there is no user"
[[ $(within stat -c '%a %U' /var/lib/wagate) == '700 wagate' ]] || fail "the state directory is open"
[[ $(within stat -c '%a %U:%G' /etc/wagate/wagate.toml) == '640 root:wagate' ]] || fail "the configuration is open"
[[ -L $root/etc/systemd/system/multi-user.target.wants/wagate.service ]] || fail "the unit is not enabled"
for file in /usr/share/man/man1/wagate.1.gz /usr/share/man/man1/wagate-session-list.1.gz \
    /usr/share/bash-completion/completions/wagate /usr/share/zsh/vendor-completions/_wagate \
    /usr/share/fish/vendor_completions.d/wagate.fish /usr/lib/systemd/system/wagate.{service,socket} \
    /usr/share/doc/wagate/{copyright,third-party-licences.txt.gz,AGPL-3.0.txt,wagate.cdx.json,docs/configuration.md,docs/operations.md}; do
    [[ -s $root$file ]] || fail "there is no $file"
done
# What is installed links to what is installed, and so does the unit.
python3 - "$root/usr/share/doc/wagate" <<'LINKS' || fail "documents link to what is not there"
import pathlib, re, sys

folder, followed, dead = pathlib.Path(sys.argv[1]), 0, []
for page in folder.rglob("*.md"):
    lines = [line for line in page.read_text().splitlines() if not line.startswith("    ")]
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", "\n".join(lines)):
        if "://" not in target:
            followed += 1
            if not (page.parent / target).exists():
                dead.append(f"{page.relative_to(folder)} links to {target}")
print(*dead, sep="\n", end="\n" if dead else "", file=sys.stderr)
sys.exit(bool(dead) or followed < 10)
LINKS
guide=$(sed -n 's|^Documentation=.*file://\([^ ]*\).*|\1|p' "$root/usr/lib/systemd/system/wagate.service")
[[ -s $root$guide ]] || fail "the unit names $guide, which is not there"
zcat "$root/usr/share/doc/wagate/third-party-licences.txt.gz" | grep '^wacore-libsignal .*AGPL-3.0-only' >/dev/null ||
    fail "the licences do not tell of the AGPL"
python3 - "$root/usr/share/doc/wagate" <<'TEXTS' || fail "a crate is without its licence's text"
import gzip, json, pathlib, re, sys

folder = pathlib.Path(sys.argv[1])
bill = json.loads((folder / "wagate.cdx.json").read_text())
text = gzip.decompress((folder / "third-party-licences.txt.gz").read_bytes()).decode()
# Above each text are the names of those whose it is.
named = {name for names in re.findall(r"={100}\n(.*)\n={100}\n\n\S", text) for name in names.split(", ")}
crates = {f"{it['name']} {it['version']}" for it in bill["components"]}
print(*sorted(crates - named), sep="\n", end="\n" if crates - named else "", file=sys.stderr)
agpl = [it["name"] for it in bill["components"] if "AGPL-3.0-only" in json.dumps(it.get("evidence"))]
sys.exit(crates != named or len(crates) < 100 or agpl != ["wacore-libsignal"])
TEXTS
bash systemd/check.sh "$root/usr/bin/wagate" >/dev/null || fail "systemd does not like the units"
as_daemon /usr/bin/wagate check-config | grep -F /etc/wagate/wagate.toml >/dev/null || fail "the configuration is not read"

start
token=$(cat "$root/var/lib/wagate/operator.token")
as_daemon /usr/bin/wagate org create Kept >/dev/null
stop

# The operator's own words are in the configuration, and a decision about the unit.
echo '# kept' >>"$root/etc/wagate/wagate.toml"
within systemctl disable wagate.service >/dev/null 2>&1
install "$second"
[[ $(within dpkg-query -Wf '${Version}' wagate) == 0.0.2-1 ]] || fail "it is not upgraded"
grep -q '^# kept' "$root/etc/wagate/wagate.toml" || fail "the configuration was replaced"
[[ ! -e $root/etc/systemd/system/multi-user.target.wants/wagate.service ]] || fail "it was enabled again"
start
[[ $(cat "$root/var/lib/wagate/operator.token") == "$token" ]] || fail "the token is another one"
as_daemon /usr/bin/wagate org list | grep Kept >/dev/null || fail "the data is gone"
stop

echo secret >"$root/etc/wagate/master.key"
within dpkg --remove wagate >/dev/null
[[ -s $root/var/lib/wagate/wagate.db && -s $root/etc/wagate/wagate.toml ]] || fail "removing took the data away"
[[ ! -e $root/usr/bin/wagate ]] || fail "removing left the program"
within dpkg --purge wagate >/dev/null 2>&1
left=$(comm -13 <(echo "$before") <(ours))
[[ $left == etc/wagate ]] || fail "purging left $left"
[[ $(ls "$root/etc/wagate") == master.key ]] || fail "purging took the operator's key, or left more"
echo "package ($maker): installs, starts, upgrades with its data, removes and purges; $(du -h "$second" | cut -f1)"

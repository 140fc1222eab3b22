#!/usr/bin/env bash
# Boots systemd in a copy of this system (overlayfs), in namespaces of its own, installs the package there, which starts the
# daemon, and has systemd hand it its key and its socket, reload it, notice that it hangs, and stop it. Then it is upgraded and
# purged while it runs. `systemd.sh PROGRAM`: any build of wagate, after `prepare.py`. As root; the network is one of its own,
# and nothing outlives the test.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "$1")

if [[ -z ${WAGATE_IN_NAMESPACE:-} ]]; then
    if ((EUID != 0)); then
        echo "this must be run as root" >&2
        exit 1
    fi
    WAGATE_IN_NAMESPACE=1 exec unshare --mount --propagation private -- "$0" "$@"
fi

work=$(mktemp -d)
boot= parent=
finish() {
    local code=$?
    # The first process of the namespace takes all others with it.
    [[ -z $parent ]] || kill -KILL "$parent" 2>/dev/null || true
    umount -R -l "$work/system" 2>/dev/null || true
    umount -l "$work" 2>/dev/null || true
    rmdir "$work" 2>/dev/null || true
    exit "$code"
}
trap finish EXIT
mount -t tmpfs tmpfs "$work"
mkdir "$work"/{upper,inner,system}
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/inner" "$work/system"
root=$work/system

strip -o "$work/wagate" "$program"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1000000000}
export COMPRESSION=none
mkdir "$root/packages"
first=$(python3 packaging/deb.py "$work/wagate" "$root/packages" 0.0.1-1)
second=$(python3 packaging/deb.py "$work/wagate" "$root/packages" 0.0.2-1)
if chroot "$root" dpkg-query -W wagate >/dev/null 2>&1; then
    # Where it is installed already, the first of the two would be another version's successor.
    chroot "$root" dpkg --purge wagate >/dev/null 2>&1
fi
ours() { (cd "$root" && find etc usr var/lib -iname '*wagate*' -not -path '*/dpkg/*' | sort); }
before=$(ours)

# The master key is the unit's credential; a process that hangs is noticed soon.
mkdir -p "$root/etc/wagate"
(umask 077 && head -c 32 /dev/urandom | base64 >"$root/etc/wagate/master.key")
mkdir -p "$root/etc/systemd/system/wagate.service.d"
cat >"$root/etc/systemd/system/wagate.service.d/test.conf" <<'DROP'
[Service]
LoadCredential=wagate-master-key:/etc/wagate/master.key
WatchdogSec=5s
RestartSec=100ms
TimeoutAbortSec=2s
DROP
# No more of this machine's services than a daemon needs; nothing that changes the kernel's ways.
find "$root/etc/systemd/system" -maxdepth 1 -name '*.wants' -exec rm -rf {} +
for unit in systemd-sysctl systemd-binfmt systemd-modules-load systemd-udevd systemd-udev-trigger systemd-remount-fs; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done
for unit in proc-sys-fs-binfmt_misc.automount dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-fs-fuse-connections.mount dev-mqueue.mount tmp.mount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /usr/lib/systemd/system/basic.target "$root/etc/systemd/system/default.target"

cat >"$work/init.sh" <<'INIT'
set -e
root=$1
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
if mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd" 2>/dev/null; then
    :
else
    # Only the newer hierarchy.
    umount "$root/sys/fs/cgroup/unified" "$root/sys/fs/cgroup"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
mount --rbind /dev "$root/dev"
# Not chroot, from within which nobody makes a namespace of users (PrivateUsers=).
cd "$root"
pivot_root . .
umount -l .
# As it is on a machine; credentials are mounted in another namespace and must be seen here.
mount --make-rshared /
exec env -i container=wagate-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system
INIT
unshare --mount --pid --fork --cgroup --uts --ipc --net --kill-child bash "$work/init.sh" "$root" \
    >"$work/boot.log" 2>&1 </dev/null &
parent=$!
# Its end is no news.
disown "$parent"
# The socket of a systemd that has come up, as the booted system sees it.
is_up() { [[ -n $boot ]] && nsenter -t "$boot" -m -r test -e /run/systemd/private 2>/dev/null; }
boot=
for _ in $(seq 100); do
    read -r boot _ <"/proc/$parent/task/$parent/children" || true
    ! is_up || break
    kill -0 "$parent" 2>/dev/null || break
    sleep 0.1
done
if ! is_up; then
    echo "skipped: systemd cannot be booted here ($(tail -n 1 "$work/boot.log"))"
    # Where it must be tested, that is no answer.
    [[ -z ${WAGATE_TEST_REFUSE_SKIP:-} ]]
    exit
fi

within() { nsenter -t "$boot" -m -p -u -i -n -C -r -w/ timeout 60 "$@"; }
shown() { within systemctl show -P "$1" wagate.service; }
fail() {
    echo "systemd: $*" >&2
    within journalctl --no-pager -n 40 -u wagate.service -u wagate.socket >&2 || true
    exit 1
}
eventually() {
    local what=$1
    shift
    for _ in $(seq 150); do
        ! "$@" || return 0
        sleep 0.1
    done
    fail "$what"
}
answers() { [[ $(within curl -s -o /dev/null -w '%{http_code}' --max-time 5 http://127.0.0.1:8080/readyz) == 204 ]]; }
logged() { within journalctl --no-pager -u wagate.service | grep -F "$1" >/dev/null; }

# Installing is all that it takes.
install() { within dpkg --install "/packages/$(basename "$1")" </dev/null >"$work/said" 2>&1 || fail "$(cat "$work/said")"; }
install "$first"
[[ $(shown ActiveState) == active ]] || fail "it is not active once it is installed"
[[ $(within systemctl is-enabled wagate.service) == enabled ]] || fail "it would not start at the next boot"
answers || fail "it does not answer when it says that it is ready"
[[ $(shown StatusText) == 'Listening on 127.0.0.1:8080' ]] || fail "its status is $(shown StatusText)"
[[ ! -e $root/var/lib/wagate/master.key ]] || fail "the key is not the credential"
! within runuser -u wagate -- wagate session list >/dev/null 2>&1 || fail "somebody else has found the key"
within systemd-run --pipe --quiet -p User=wagate -p LoadCredential=wagate-master-key:/etc/wagate/master.key \
    wagate session list >/dev/null || fail "a command does not get the key"

sed -i 's/^# level = "info"$/level = "debug"/' "$root/etc/wagate/wagate.toml"
within systemctl reload wagate.service || fail "it does not reload"
eventually "a reload is not taken over" logged 'Taken over: log.level'
[[ $(shown ActiveState) == active ]] || fail "it is not active after a reload"

# A process that stands still gives no sign of life.
pid=$(shown MainPID)
within kill -STOP "$pid"
restarted() { [[ $(shown NRestarts) -ge 1 && $(shown ActiveState) == active && $(shown MainPID) != "$pid" ]]; }
eventually "a process that hangs is not started again" restarted
logged 'Watchdog timeout' || fail "it was not the watchdog"
answers || fail "it does not answer after that"

# The socket is systemd's: who comes while nobody listens is answered by the daemon that starts for it.
within systemctl stop wagate.service || fail "it does not stop"
[[ $(shown Result) == success ]] || fail "it stopped with $(shown Result)"
within systemctl start wagate.socket || fail "the socket is not opened"
answers || fail "nobody is started for who comes"
[[ $(shown ActiveState) == active ]] || fail "the socket has started nothing"
within systemctl stop wagate.socket wagate.service || fail "it does not stop"
[[ $(shown Result) == success ]] || fail "it stopped with $(shown Result)"

# The next version takes the place of one that runs, with its data; one that was stopped it leaves alone.
install "$second"
[[ $(shown ActiveState) == inactive ]] || fail "an upgrade starts what was stopped"
within systemctl start wagate.service || fail "it does not start"
as_daemon() { within systemd-run --pipe --quiet -p User=wagate -p LoadCredential=wagate-master-key:/etc/wagate/master.key wagate "$@"; }
as_daemon org create Kept >/dev/null || fail "no organization is made"
token=$(cat "$root/var/lib/wagate/operator.token")
install "$first"
pid=$(shown MainPID)
install "$second"
[[ $(within dpkg-query -Wf '${Version}' wagate) == 0.0.2-1 ]] || fail "it is not upgraded"
[[ $(shown ActiveState) == active && $(shown MainPID) != "$pid" ]] || fail "the old daemon runs on after an upgrade"
answers || fail "it does not answer after an upgrade"
[[ $(cat "$root/var/lib/wagate/operator.token") == "$token" ]] || fail "the token is another one after an upgrade"
as_daemon org list | grep Kept >/dev/null || fail "the data is gone after an upgrade"

# Purged while it runs, it ends, and of it nothing is left but the operator's key.
pid=$(shown MainPID)
within dpkg --purge wagate </dev/null >"$work/said" 2>&1 || fail "$(cat "$work/said")"
! within kill -0 "$pid" 2>/dev/null || fail "it runs on after it was purged"
[[ $(shown ActiveState) == inactive && $(shown LoadState) == not-found ]] || fail "systemd still knows it"
left=$(comm -13 <(echo "$before") <(ours))
[[ $left == etc/wagate && $(ls "$root/etc/wagate") == master.key ]] || fail "purging left $left"
echo "systemd: $(within systemctl --version | head -n 1 | cut -d' ' -f1,2) has the package start it, reloads, watches, restarts and stops it, with its key and its socket, upgrades and purges it while it runs"

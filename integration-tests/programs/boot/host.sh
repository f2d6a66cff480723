#!/bin/bash
# The driver of `cargo xtask suite boot` inside the virtual machine: runs cases one after another and writes one JSON line about each to the port that xtask reads.
# A case is a function `case_NAME` of a file beside this one; it passes if every command of it does. The order of files is xtask's (tools/xtask/src/suite/boot), which writes all names into `chosen`.
# Usage: host.sh           every case that was not run yet; the machine is switched off at the end
#        host.sh --one CASE    one case, in a shell of its own, so that it can be given a time
#        host.sh --call FUNCTION ARGUMENTS    one of the functions, for the same reason
set -u
HERE=$(dirname "$(readlink -f "$0")")
export LC_ALL=C HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
SECONDS_EACH=600

MANIFEST=/payload/release/manifest.json
IMAGE=/payload/rootfs
RELEASE=("$MANIFEST" --rootfs "$IMAGE")

# Waits until a command succeeds, a minute at most: the processor is imitated.
soon() {
    local begin=$SECONDS
    until "$@" > /dev/null 2>&1; do
        if [ $((SECONDS - begin)) -gt 60 ]; then
            echo "not within a minute: $*"
            return 1
        fi
        sleep 0.1
    done
}

# Succeeds if the command fails; `!` would end no case.
fails() {
    if "$@"; then
        echo "this had to fail: $*"
        return 1
    fi
}

equal() {
    if [ "$1" != "$2" ]; then
        printf 'got %q instead of %q\n' "$1" "$2"
        return 1
    fi
}

# The text contains this.
has() {
    if [[ $1 != *"$2"* ]]; then
        printf '%q does not contain %q\n' "$1" "$2"
        return 1
    fi
}

# A line about the case that the suite shows whether it passes or not.
note() { echo "NOTE $*"; }

# A program of the release in the foreground; options first, then `--`.
lifted() { vkernel run "${RELEASE[@]}" "$@"; }

# A container in the background that goes on until it is told to end, or can start no program any more.
idle() { vkernel run "${RELEASE[@]}" --detach --name "$1" "${@:2}" -- /usr/bin/bash -c 'trap "echo bye; exit 7" TERM; echo ready; while /usr/bin/sleep 0.2; do :; done; exit 9'; }

ready() { vkernel logs "$1" | grep -q ready; }

# Every directory of the container's in the control groups.
groups_of() { find /sys/fs/cgroup -depth -name "*$1*"; }

ask() { echo "$1" | socat -t 30 - UNIX-CONNECT:/run/vkernel/vkernel.sock; }

daemon_pid() { systemctl show --property MainPID --value vkernel.service; }

# Behind a case that failed: the next one is to fail for reasons of its own only.
mend() {
    cp /var/lib/boot-cases/serve.toml /etc/vkernel/serve.toml
    podman rm --all --force --time 0
    vkernel ps --all --quiet | xargs --no-run-if-empty vkernel rm --force
    systemctl reset-failed
    systemctl restart vkernel.socket vkernel.service
} > /dev/null 2>&1

for file in "$HERE"/*.sh; do [ "$file" = "$HERE/host.sh" ] || . "$file"; done

if [ "${1-}" = --call ]; then
    "${@:2}"
    exit
fi

if [ "${1-}" = --one ]; then
    set -eE
    exec 9> "/tmp/trace"
    BASH_XTRACEFD=9
    set -x
    "case_$2"
    exit 0
fi

PORT=/dev/virtio-ports/results
DONE=/var/lib/boot-cases
mkdir -p "$DONE"
for name in $(cat "$HERE/chosen"); do
    [ -e "$DONE/ran-$name" ] && continue
    touch "$DONE/ran-$name"
    begin=$(date +%s%N)
    timeout --kill-after=10 "$SECONDS_EACH" bash "$0" --one "$name" > /tmp/said 2>&1 < /dev/null
    status=$?
    took=$((($(date +%s%N) - begin) / 1000000))
    if [ $status = 0 ]; then said=$(sed -n 's/^NOTE //p' /tmp/said); else said=$(tail -n 40 /tmp/said; echo "-- the last commands:"; tail -n 15 /tmp/trace); fi
    [ $status = 0 ] || mend
    jq --null-input --compact-output --arg case "$name" --argjson ok "$([ $status = 0 ] && echo true || echo false)" --argjson ms $took --arg said "$said" \
        '{case: $case, ok: $ok, milliseconds: $ms, said: $said}' > $PORT
    if [ -e /run/start-again ]; then
        systemctl reboot
        exit 0
    fi
done
sync
systemctl poweroff

# Debian's containerd with vkernel behind its shim, with groups of its own and with systemd's.

# Options of `ctr run` follow.
containerd_life() {
    local run=(ctr run --runc-binary /usr/bin/vkernel --annotation "io.vkernel.manifest=$MANIFEST" "$@" --rootfs)
    soon systemctl is-active containerd.service
    equal "$("${run[@]}" --rm "$IMAGE" life /usr/bin/bash -c 'echo out')" out
    "${run[@]}" --detach --memory-limit $((200 << 20)) "$IMAGE" life /usr/bin/bash -c 'trap "exit 7" TERM; while /usr/bin/sleep 0.2; do :; done; exit 9'
    local pid group
    pid=$(ctr task list | sed -n 's/^life *\([0-9]*\) *RUNNING$/\1/p')
    group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
    note "${group#/sys/fs/cgroup}"
    systemctl daemon-reload
    equal "$(cat "$group/memory.max")" $((200 << 20))
    equal "$(ctr task exec --exec-id more life /usr/bin/bash -c 'echo inside')" inside
    ctr task pause life
    grep -q 'frozen 1' "$group/cgroup.events"
    ctr task resume life
    ctr task kill --signal SIGTERM life
    soon ended
    ctr task delete life || equal $? 7
    ctr container delete life
    soon [ ! -e "$group" ]
}

ended() { ctr task list | grep -q STOPPED; }

case_containerd_with_groups_of_its_own() {
    containerd_life
}

case_containerd_with_systemds_groups() {
    containerd_life --runc-systemd-cgroup --cgroup system.slice:ctr:life
}

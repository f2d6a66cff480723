# Debian's podman with vkernel as its runtime, with both managers of control groups.

# podman with this manager, by the file that the package brings.
pod() { podman --cgroup-manager "$MANAGER" --runtime vkernel "$@"; }

podman_life() {
    mkdir -p /etc/containers/containers.conf.d
    cp /usr/share/doc/vkernel/examples/podman.conf /etc/containers/containers.conf.d/vkernel.conf
    local run=(run --network none --annotation io.vkernel.manifest=$MANIFEST)
    equal "$(pod "${run[@]}" --rm --rootfs "$IMAGE" /usr/bin/bash -c 'echo out')" out
    local status=0
    pod "${run[@]}" --rm --rootfs "$IMAGE" /usr/bin/bash -c 'exit 4' || status=$?
    equal $status 4
    pod "${run[@]}" --detach --name pod --memory 200m --pids-limit 60 --cpus 0.5 --rootfs "$IMAGE" /usr/bin/bash -c 'trap "echo bye; exit 7" TERM; echo ready; while /usr/bin/sleep 0.2; do :; done; exit 9'
    soon sh -c "podman logs pod | grep ready"
    local pid group
    pid=$(pod inspect --format '{{.State.Pid}}' pod)
    group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
    note "${group#/sys/fs/cgroup}"
    has "$group" "libpod-"
    equal "$(cat "$group/memory.max")" $((200 << 20))
    # systemd keeps order in its own groups; the limits are to outlive that.
    systemctl daemon-reload
    systemd-run --quiet --wait --slice machine.slice --property MemoryAccounting=yes /bin/true
    systemctl daemon-reload
    sleep 1
    equal "$(cat "$group/memory.max")" $((200 << 20))
    equal "$(cat "$group/pids.max")" 60
    equal "$(cat "$group/cpu.max")" "50000 100000"
    equal "$(pod exec pod /usr/bin/bash -c 'echo inside; kill -0 1 && echo same')" $'inside\nsame'
    status=0
    pod exec pod /usr/bin/bash -c 'exit 6' || status=$?
    equal $status 6
    has "$(pod stats --no-stream --format '{{.Name}} {{.MemUsage}}' pod)" "pod "
    has "$(pod stats --no-stream --format '{{.MemUsage}}' pod)" "209.7MB"
    [ "$(pod stats --no-stream --format '{{.PIDs}}' pod)" -ge 1 ]
    pod pause pod
    grep -q 'frozen 1' "$group/cgroup.events"
    pod unpause pod
    pod update --help > /dev/null
    pod stop --time 30 pod
    has "$(pod logs pod)" bye
    equal "$(pod inspect --format '{{.State.ExitCode}}' pod)" 7
    pod start pod
    pod kill pod
    equal "$(pod wait pod)" 137
    pod rm pod
    [ ! -e "$group" ]
    # What a container of podman's cannot do either.
    changed_true "$IMAGE/tmp/changed"
    status=0
    pod "${run[@]}" --rm --rootfs "$IMAGE" /tmp/changed || status=$?
    equal $status 126
    rm "$IMAGE/tmp/changed"
    equal "$(pod ps --all --quiet)" ""
}

no_scopes() { [ "$(systemctl list-units --all --plain --no-legend 'libpod-*')" = "" ]; }

case_podman_with_systemds_groups() {
    MANAGER=systemd podman_life
    soon no_scopes
}

case_podman_with_groups_of_its_own() {
    MANAGER=cgroupfs podman_life
}

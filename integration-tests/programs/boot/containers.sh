# The command line on this host: what runs, what does not, and what is left.

case_programs_print_what_they_print_natively() {
    for program in "ls -l /" "sha256sum /usr/bin/bash" "sort -r /etc/passwd" "id" "seq 1 3 20" "stat --format %s /usr/bin/ls"; do
        # shellcheck disable=SC2086
        equal "$(lifted --bare -- $program)" "$(chroot "$IMAGE" $program)"
    done
    local script='for f in a b c; do echo $f; done | /usr/bin/sort -r; (exit 3); echo $?; /usr/bin/ls /nothing 2> /dev/null; echo $?; exit 5'
    local native=0 status=0
    chroot "$IMAGE" /usr/bin/bash -c "$script" > /tmp/native || native=$?
    lifted -- /usr/bin/bash -c "$script" > /tmp/lifted || status=$?
    cmp /tmp/native /tmp/lifted
    equal $status $native
}

# true, but for its last byte, which no loader looks at.
changed_true() {
    cp "$IMAGE/usr/bin/true" "$1"
    printf x | dd of="$1" bs=1 seek=$(($(stat --format %s "$1") - 1)) conv=notrunc status=none
    fails cmp --quiet "$1" "$IMAGE/usr/bin/true"
}

case_what_is_not_signed_does_not_run_and_is_in_the_journal() {
    changed_true /tmp/changed
    local status=0
    lifted --audit journald -v /tmp/changed:/changed -- /changed || status=$?
    equal $status 126
    lifted --audit journald -v /tmp/changed:/changed -- /usr/bin/bash -c '/changed; echo $?' | grep -qx 126
    soon journalctl --output json --grep . VKERNEL_DECISION=denied VKERNEL_PATH=/changed
    equal "$(journalctl --output json VKERNEL_DECISION=denied VKERNEL_PATH=/changed | jq --raw-output .VKERNEL_REASON | sort --unique)" unknown-hash
    # Natively it is a program like any other.
    /tmp/changed
}

case_a_container_in_the_background() {
    idle web
    soon ready web
    has "$(vkernel ps)" web
    equal "$(vkernel exec web /usr/bin/bash -c 'echo inside; kill -0 1 && echo same')" $'inside\nsame'
    local status=0
    vkernel exec web /usr/bin/bash -c 'exit 6' || status=$?
    equal $status 6
    vkernel exec web /usr/bin/cat /proc/self/cgroup
    [ "$(vkernel stats --no-stream --json web | jq '.[0].memory_bytes')" -gt 100000 ]
    vkernel stats --no-stream web
    [ "$(vkernel top --json | jq '.containers[0].counts.execs')" -gt 0 ]
    vkernel top --once | grep web
    vkernel events --json web > /tmp/events & 
    local watching=$!
    soon grep -q '"path":"/usr/bin/sleep"' /tmp/events
    kill $watching
    has "$(ask '{"type": "inspect", "container": "web"}')" '"daemon":true'
    equal "$(systemctl show --property StatusText --value vkernel.service)" "serving 1 containers"
    vkernel stop web
    equal "$(vkernel wait web)" 7
    has "$(vkernel logs web)" bye
    vkernel rm web
    equal "$(vkernel ps --all --quiet)" ""
    equal "$(find /sys/fs/cgroup -name vkernel)" ""
}

case_a_request_to_run_is_carried_out_outside_the_service() {
    local id
    id=$(ask '{"type": "run", "manifest": "'$MANIFEST'", "options": ["--rootfs", "'$IMAGE'", "--detach", "--name", "asked", "--memory", "200m"], "command": ["/usr/bin/bash", "-c", "echo ready; while /usr/bin/sleep 0.2; do :; done; exit 9"]}' | jq --raw-output .result)
    soon ready asked
    # Its limit is the container's own, and holds outside the service's group.
    equal "$(cat "/sys/fs/cgroup/vkernel/$id/memory.max")" $((200 << 20))
    vkernel exec asked /usr/bin/true
    systemctl restart vkernel.service
    vkernel exec asked /usr/bin/true
    vkernel rm --force asked
}

case_a_container_frozen_and_thawed() {
    idle frozen
    soon ready frozen
    vkernel pause frozen
    has "$(vkernel ps)" paused
    local group
    group=$(groups_of "$(vkernel inspect frozen | jq --raw-output .id)")
    grep -q 'frozen 1' "$group/cgroup.events"
    vkernel resume frozen
    grep -q 'frozen 0' "$group/cgroup.events"
    equal "$(vkernel exec frozen /usr/bin/bash -c 'echo on')" on
    vkernel pause frozen
    # A frozen one can be ended all the same.
    vkernel rm --force frozen
    [ ! -e "$group" ]
}

case_users_and_volumes() {
    mkdir -p /srv/data
    echo from the host > /srv/data/file
    equal "$(lifted -v /srv/data:/data:ro -- /usr/bin/cat /data/file)" "from the host"
    fails lifted -v /srv/data:/data:ro -- /usr/bin/touch /data/other
    lifted -v /srv/data:/data -- /usr/bin/touch /data/other
    [ -e /srv/data/other ]
    equal "$(lifted --uidmap 0:100000:65536 -u 5 -- /usr/bin/id -u)" 5
    equal "$(lifted --uidmap 0:100000:65536 -- /usr/bin/stat --format %u /usr/bin/ls)" 0
    has "$(lifted --network none -- /usr/bin/bash -c 'echo < /dev/tcp/127.0.0.1/1' 2>&1)" unreachable
}

case_a_container_as_a_unit_of_its_own() {
    systemd-run --quiet --unit shop --property SuccessExitStatus=3 --property 'ExecStopPost=/bin/sh -c "echo $SERVICE_RESULT $EXIT_STATUS > /tmp/shop-ended"' \
        vkernel run "${RELEASE[@]}" -- /usr/bin/bash -c 'trap "echo bye; exit 3" TERM; echo ready; while /usr/bin/sleep 0.2; do :; done; exit 9'
    soon journalctl --unit shop.service --output cat --grep '^ready$'
    systemctl stop shop.service
    journalctl --unit shop.service --output cat --quiet --grep '^bye$'
    equal "$(cat /tmp/shop-ended)" "success 3"
    # When all of a unit is killed at once, the container ends with it; what nobody was left to remove, the next start does.
    systemd-run --quiet --unit killed --property KillSignal=SIGKILL vkernel run "${RELEASE[@]}" -- /usr/bin/bash -c 'echo ready; while /usr/bin/sleep 0.2; do :; done; exit 9'
    soon journalctl --unit killed.service --output cat --grep '^ready$'
    systemctl stop killed.service
    soon grep 'populated 0' /sys/fs/cgroup/vkernel/cgroup.events
    equal "$(vkernel ps --quiet)" ""
    lifted -- /usr/bin/true
    no_groups
    systemctl reset-failed
}

no_groups() { [ "$(find /sys/fs/cgroup -name vkernel -o -name 'libpod-*')" = "" ]; }

# Limits, kept by control groups of version 2 alone.

# A file of a container's group.
file_of() { cat "/sys/fs/cgroup/vkernel/$(vkernel inspect "$1" | jq --raw-output .id)/$2"; }

case_limits_are_written_where_version_2_has_them() {
    idle limited --memory 200m --memory-swap 300m --pids-limit 50 --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0
    soon ready limited
    equal "$(file_of limited memory.max)" $((200 << 20))
    equal "$(file_of limited pids.max)" 50
    equal "$(file_of limited cpu.max)" "50000 100000"
    equal "$(file_of limited cpu.weight)" 20
    equal "$(file_of limited cpuset.cpus.effective)" 0
    # Another unit's settings, and systemd's reading of its files, change none of this.
    systemctl daemon-reload
    systemd-run --quiet --wait --property MemoryMax=100M --property CPUWeight=50 /bin/true
    equal "$(file_of limited memory.max)" $((200 << 20))
    equal "$(file_of limited cpu.max)" "50000 100000"
    vkernel rm --force limited
}

case_too_much_memory_is_reported() {
    local status=0
    vkernel run "${RELEASE[@]}" --name hungry --memory 60m --memory-swap 60m --audit /tmp/hungry.jsonl -- /usr/bin/bash -c 'x=x; while :; do x=$x$x; done' || status=$?
    equal $status 137
    grep '"event":"out-of-memory"' /tmp/hungry.jsonl || { cat /tmp/hungry.jsonl; return 1; }
    # Less would have done.
    equal "$(lifted --memory 60m -- /usr/bin/bash -c 'echo fits')" fits
}

case_a_fork_bomb_meets_its_limit() {
    lifted --pids-limit 20 -- /usr/bin/bash -c 'for i in {1..60}; do /usr/bin/sleep 2 & done; wait; echo over' > /tmp/bomb 2>&1 || true
    grep -q 'Resource temporarily unavailable' /tmp/bomb
    fails grep -q 'temporarily' <(lifted -- /usr/bin/bash -c 'for i in {1..30}; do /usr/bin/sleep 0.1 & done; wait; echo over' 2>&1)
}

case_half_a_processor_is_half_a_processor() {
    vkernel run "${RELEASE[@]}" --detach --name busy --cpus 0.5 -- /usr/bin/bash -c 'echo ready; while :; do :; done'
    soon ready busy
    local group used begin
    group=/sys/fs/cgroup/vkernel/$(vkernel inspect busy | jq --raw-output .id)
    used=$(sed -n 's/^usage_usec //p' "$group/cpu.stat")
    begin=$(date +%s%N)
    sleep 6
    used=$(($(sed -n 's/^usage_usec //p' "$group/cpu.stat") - used))
    local share=$((used * 100000 / ($(date +%s%N) - begin)))
    note "$share % of a processor"
    [ "$(sed -n 's/^nr_throttled //p' "$group/cpu.stat")" -gt 10 ]
    [ $share -gt 20 ]
    [ $share -lt 60 ]
    vkernel rm --force busy
}

# Losses of the daemon under running containers, as systemd sees and mends them.

# How many descriptors systemd keeps for the service.
kept() { systemctl show --property NFileDescriptorStore --value vkernel.service; }

# A program in this container starts another one.
starts_programs() { equal "$(vkernel exec "$1" /usr/bin/bash -c '/usr/bin/seq 1; /usr/bin/uname')" $'1\nLinux'; }

# A program's exec, or a library that it was about to bind, was answered by nobody.
says_that_nothing_started() { vkernel logs "$1" 2>&1 | grep -E 'Function not implemented|failed to map segment'; }

# Waits for another main process than this.
replaced() { [ "$(daemon_pid)" != "$1" ] && [ "$(daemon_pid)" != 0 ] && systemctl is-active vkernel.service; }

case_a_killed_daemon_is_replaced_and_gets_its_containers_back() {
    equal "$(kept)" 0
    idle kept
    soon ready kept
    [ "$(kept)" -ge 5 ]
    local before
    before=$(daemon_pid)
    kill -KILL "$before"
    # What is asked meanwhile waits.
    starts_programs kept
    soon replaced "$before"
    equal "$(systemctl show --property StatusText --value vkernel.service)" "serving 1 containers"
    starts_programs kept
    local lines
    lines=$(vkernel logs kept | wc -l)
    equal "$lines" 1
    has "$(journalctl --unit vkernel.service --output cat --since -2min)" "serving 1 containers, taken over"
}

case_a_stopped_daemon_is_found_by_the_watchdog() {
    local before
    before=$(daemon_pid)
    mkdir -p /run/systemd/system/vkernel.service.d
    printf '[Service]\nWatchdogSec=4s\nTimeoutAbortSec=4s\n' > /run/systemd/system/vkernel.service.d/short.conf
    systemctl daemon-reload
    systemctl restart vkernel.service
    soon replaced "$before"
    before=$(daemon_pid)
    # It is fed, also while nothing happens.
    sleep 9
    equal "$(daemon_pid)" "$before"
    kill -STOP "$before"
    soon replaced "$before"
    has "$(journalctl --unit vkernel.service --output cat --since -2min)" "Watchdog timeout"
    starts_programs kept
    rm -r /run/systemd/system/vkernel.service.d
    systemctl daemon-reload
    systemctl restart vkernel.service
    starts_programs kept
}

case_a_new_version_takes_over_the_containers() {
    local before
    before=$(daemon_pid)
    apt-get install --yes --reinstall /payload/packages/vkernel_*.deb
    soon replaced "$before"
    starts_programs kept
    vkernel stop kept
    equal "$(vkernel wait kept)" 7
    vkernel rm kept
    soon equal_kept 0
}

equal_kept() { equal "$(kept)" "$1"; }

case_without_a_daemon_execs_fail_closed() {
    idle orphan
    soon ready orphan
    systemctl stop vkernel.service vkernel.socket
    # systemd has let go of the listeners: nothing answers any more, and nothing runs.
    equal "$(vkernel wait orphan)" 9
    says_that_nothing_started orphan
    vkernel rm orphan
    systemctl start vkernel.socket
}

case_a_daemon_that_fails_for_good_lets_go_of_everything() {
    idle lost
    soon ready lost
    printf 'nonsense' >> /etc/vkernel/serve.toml
    kill -KILL "$(daemon_pid)"
    soon systemctl is-failed vkernel.service
    has "$(journalctl --unit vkernel.service --output cat --since -2min)" serve.toml
    equal "$(vkernel wait lost)" 9
    says_that_nothing_started lost
    cp /var/lib/boot-cases/serve.toml /etc/vkernel/serve.toml
    vkernel rm lost
    systemctl reset-failed vkernel.service vkernel.socket
    systemctl restart vkernel.socket vkernel.service
    equal "$(kept)" 0
}

# The packages, and what they do to a running host.

case_the_host_is_what_it_is_for() {
    # Else the suite would not try what it is for.
    has "$(uname -r)" 6.1.
    equal "$(cat /proc/1/comm)" systemd
    equal "$(stat --file-system --format %T /sys/fs/cgroup)" cgroup2fs
    systemctl is-system-running --wait || systemctl --failed
    note "$(uname -srv), $(systemctl --version | head -1)"
}

case_packages_are_installed_and_their_units_started() {
    apt-get install --yes --no-install-recommends /payload/packages/*.deb
    has "$(systemctl is-enabled vkernel.socket vkernel.service)" enabled
    systemctl is-active vkernel.socket
    soon systemctl is-active vkernel.service
    [ -S /run/vkernel/vkernel.sock ]
    equal "$(stat --format %a,%U /run/vkernel/vkernel.sock /run/vkernel)" $'600,root\n700,root'
    cp /etc/vkernel/serve.toml /var/lib/boot-cases/serve.toml
    cp /payload/release/trusted.pub /etc/vkernel/keys/
    systemctl reload vkernel.service
    soon journalctl --unit vkernel.service --output cat --grep 'reload: 1 keys'
}

case_check_says_what_is_missing_and_what_covers_it() {
    vkernel check > /tmp/check
    cat /tmp/check
    # Every row that has no cover is there.
    fails grep -E 'MISSING +vkernel does not run' /tmp/check
    for feature in PR_SET_MDWE vm.memfd_noexec SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP PIDFD_THREAD fine-grained; do
        grep -E "^$feature.* MISSING +[a-z]" /tmp/check
    done
    note "$(grep -c ' yes ' /tmp/check) features are there, $(grep -c MISSING /tmp/check) are not"
}

case_it_runs_after_the_next_start_of_the_machine() {
    touch /run/start-again
}

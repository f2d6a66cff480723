# The units: how the service starts, what systemd says of it, how it ends.

case_the_socket_and_the_service_came_with_the_boot() {
    soon systemctl is-active vkernel.socket vkernel.service
    equal "$(systemctl show --property Type,NotifyAccess --value vkernel.service | sort | xargs)" "main notify"
    equal "$(systemctl show --property StatusText --value vkernel.service)" "serving 0 containers"
    has "$(journalctl --boot --unit vkernel.service --output cat)" "vkernel serve: started"
    note "$(systemd-analyze security --no-pager vkernel.service | tail -1)"
}

case_systemd_finds_nothing_wrong_with_the_units() {
    # Only what is said of ours.
    equal "$(systemd-analyze verify --man=no vkernel.service vkernel.socket 2>&1 | grep vkernel || true)" ""
    fails journalctl --boot --unit vkernel.service --unit vkernel.socket --priority warning --quiet --grep .
}

case_the_socket_starts_the_service() {
    systemctl stop vkernel.service
    equal "$(systemctl is-active vkernel.service || true)" inactive
    has "$(ask '{"type": "status"}')" '"status":"ok"'
    systemctl is-active vkernel.service
}

case_a_stopped_service_stays_stopped_until_it_is_asked() {
    systemctl stop vkernel.service vkernel.socket
    equal "$(systemctl show --property Result --value vkernel.service)" success
    fails ask '{"type": "status"}'
    equal "$(lifted -- /usr/bin/bash -c 'echo without a daemon')" "without a daemon"
    systemctl start vkernel.socket
    has "$(ask '{"type": "ps"}')" '"result":[]'
}

case_a_bad_file_changes_nothing_at_a_reload() {
    echo 'clients = "many"' >> /etc/vkernel/serve.toml
    systemctl reload vkernel.service
    soon journalctl --unit vkernel.service --output cat --grep 'reload: nothing was changed: .*serve.toml'
    systemctl is-active vkernel.service
    has "$(ask '{"type": "status"}')" '"status":"ok"'
    cp /var/lib/boot-cases/serve.toml /etc/vkernel/serve.toml
    echo "no key" > /etc/vkernel/keys/other.pub
    systemctl reload vkernel.service
    soon journalctl --unit vkernel.service --output cat --grep 'reload: nothing was changed: .*other.pub'
    rm /etc/vkernel/keys/other.pub
    systemctl reload vkernel.service
    soon journalctl --unit vkernel.service --output cat --grep 'reload: 1 keys'
}

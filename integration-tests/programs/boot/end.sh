# What is left.

case_nothing_is_left_of_containers() {
    equal "$(vkernel ps --all --quiet)" ""
    equal "$(find /sys/fs/cgroup -name vkernel -o -name 'libpod-*')" ""
    equal "$(findmnt --noheadings --output TARGET | grep -E 'vkernel|containers/storage/overlay-containers' || true)" ""
    equal "$(pgrep --list-full vkernel | grep -v 'vkernel serve' || true)" ""
    equal "$(lsns --noheadings --output COMMAND | grep vkernel | grep -v 'vkernel serve' || true)" ""
}

case_the_journal_has_no_complaint() {
    # Of the kernel about itself: programs of twins fault on purpose.
    fails journalctl --dmesg --quiet --grep 'WARNING|BUG:|Oops'
}

case_purged_packages_leave_nothing() {
    apt-get purge --yes vkernel
    equal "$(find / -xdev -name '*vkernel*' -not -path '/payload/*' -not -path '/var/log/journal/*' -not -path '/tmp/*' -not -path '/etc/containers/*')" ""
    equal "$(systemctl list-units --all --plain --no-legend 'vkernel*')" ""
    equal "$(pgrep --list-full vkernel || true)" ""
    [ ! -e /run/vkernel ]
}

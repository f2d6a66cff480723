# Twins: the same program natively and lifted, on this kernel.

# In namespaces of its own, over the image, with what vkernel puts there; nothing it writes stays.
natively() {
    unshare --mount --pid --ipc --uts --net --fork --kill-child bash -e -c '
        mount -t tmpfs none /mnt
        mkdir /mnt/upper /mnt/work /mnt/root
        mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
        mount -t proc proc /mnt/root/proc
        mount -t tmpfs tmpfs /mnt/root/dev
        for d in null zero full random urandom tty; do touch "/mnt/root/dev/$d"; mount --bind "/dev/$d" "/mnt/root/dev/$d"; done
        mkdir /mnt/root/dev/pts /mnt/root/dev/shm
        mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts /mnt/root/dev/pts
        mount -t tmpfs tmpfs /mnt/root/dev/shm
        ln -s pts/ptmx /mnt/root/dev/ptmx
        ln -s /proc/self/fd /mnt/root/dev/fd
        exec chroot /mnt/root /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=xterm "$2"' - "$IMAGE" "$1"
}

# What a command prints, and its status.
outcome() {
    local status=0
    timeout 60 "$BASH" "$HERE/host.sh" --call "$@" 2>&1 < /dev/null || status=$?
    echo "status $status"
}

# Linux has changed its answers since 6.1, and vkernel gives those of today: mremap of a length beyond all memory was ENOMEM (`corners`), and execve with no_new_privs made the real user the
# effective one again where they differed, also if that was root (`exec_credentials`).
OF_ITS_TIME=" corners exec_credentials"

# Program after program. One that differs is asked natively once more: what two native runs do not agree on is no case.
case_calls_come_out_as_natively() {
    local all=0 unstable="" differ=""
    for program in "$IMAGE"/usr/local/lib/twins/*; do
        program=${program#"$IMAGE"}
        all=$((all + 1))
        outcome natively "$program" > /tmp/native
        outcome lifted -- "$program" > /tmp/lifted
        cmp --quiet /tmp/native /tmp/lifted && continue
        outcome natively "$program" > /tmp/again
        if cmp --quiet /tmp/native /tmp/again; then
            differ="$differ ${program##*/}"
            diff /tmp/native /tmp/lifted | head -n 6
        else
            unstable="$unstable ${program##*/}"
        fi
    done
    note "$all programs; not the same twice natively:${unstable:- none}"
    [ $all -gt 40 ]
    [ "$(wc -w <<< "$unstable")" -lt 4 ]
    equal "$differ" "$OF_ITS_TIME"
}

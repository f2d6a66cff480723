#!/bin/bash
# Ways to have an interpreter run what nobody listed. Each must fail; what got through says EVIL. `try` starts what follows as a program of its own, and says how it ended.
n=0
try() { n=$((n + 1)); "$@" < "${input:-/dev/null}"; echo "$n: $?"; }
sh="echo EV''IL" py="print('EV' 'IL')" pl="print 'EV'.'IL'" awk='BEGIN { print "EV" "IL" }'
mkdir -p /tmp/e/home /tmp/e/package && cd /tmp/e || exit 9
for name in sh.sh home/.bash_profile home/.bashrc home/.profile; do echo "$sh" > $name; done
echo "$py" > evil.py; cp evil.py package/__main__.py; echo "$pl; 1" > evil.pl; cp evil.pl evil.pm; echo "$awk" > evil.awk
cp /usr/bin/bash innocent; cp /usr/bin/busybox box
cat /opt/app/listed.sh > changed.sh; echo "$sh" >> changed.sh
{ echo '#!/usr/bin/bash'; echo "$sh"; } > shebang; echo "#!/usr/bin/env -S bash -c 'echo EV\"\"IL'" > text; echo '#!' > empty; echo "$sh" >> empty; cp sh.sh plain
chmod 755 shebang text empty plain changed.sh
ln -s /dev/fd/0 link; ln -s /proc/self/fd/0 other

# Text on the command line.
try bash -c "$sh"; try bash -ic "$sh"; try bash -xc "$sh"; try bash +c "$sh"; try bash -o errexit -c "$sh"; try bash -co errexit "$sh"; try bash --norc --posix -ec "$sh"
try dash -c "$sh"; try dash +c "$sh"; try dash -o errexit -c "$sh"; try sh -ec "$sh"
try python3.11 -c "$py"; try python3.11 -Bc "$py"; try python3.11 "-c$py"; try python3.11 -uBEsc "$py"; try python3.11 -W ignore -c "$py"
try perl -e "$pl"; try perl -we "$pl"; try perl "-e$pl"; try perl -lne "$pl"; try perl -Mstrict -E "$pl"
try mawk "$awk"; try mawk -F : "$awk"; try mawk -v x=1 -- "$awk"
try busybox sh -c "$sh"; try busybox ash -ec "$sh"; try busybox awk "$awk"; try busybox busybox sh -c "$sh"
try env bash -c "$sh"; try env -S "bash -c 'echo EV\"\"IL'"; try env -i busybox sh -c "$sh"; try ./innocent -c "$sh"; try ./text
(exec -a ls bash -c "$sh"); echo "a: $?"; (exec -a sh busybox -c "$sh"); echo "b: $?"; (exec -a python3.11 ./innocent -c "$sh"); echo "c: $?"; (exec -a busybox ./box sh -c "$sh"); echo "h: $?"

# A stream instead of a file.
input=sh.sh; try bash; try bash -s; try bash -; try bash /dev/stdin; try bash /dev/fd/0; try bash /proc/self/fd/0; try bash /proc/thread-self/fd/0; try bash link; try bash other; try bash -x /proc/../dev/stdin
try dash; try dash -s /opt/app/listed.sh; try dash -o stdin /opt/app/listed.sh; try busybox sh; try busybox ash -s
input=evil.py; try python3.11; try python3.11 -; try python3.11 /dev/stdin; try python3.11 -i /opt/app/listed.py
input=evil.pl; try perl; try perl -; try perl /dev/fd/0
input=evil.awk; try mawk -f -; try mawk -f /dev/stdin; try mawk -f/dev/fd/0
input=
try bash <(echo "$sh"); try bash /dev/fd/9 9< sh.sh
echo "$sh" | bash; echo "d: $?"; echo "$py" | python3.11; echo "e: $?"

# Files that are not listed.
try bash sh.sh; try bash ./sh.sh; try bash -- sh.sh; try bash -e +x sh.sh; try bash /proc/self/cwd/sh.sh; try bash changed.sh; try ./changed.sh; try ./shebang; try ./plain; try ./empty
try dash /tmp/e/sh.sh; try busybox sh sh.sh; try python3.11 evil.py; try python3.11 package; try perl evil.pl; try mawk -f evil.awk; try mawk -f /opt/app/listed.awk -f evil.awk
try bash --rcfile sh.sh -i; try bash --init-file sh.sh -i /opt/app/listed.sh; try python3.11 -m evil; try perl -I. -Mevil /opt/app/listed.pl; try perl -I. -mevil /opt/app/listed.pl

# Files that it would run besides.
export HOME=/tmp/e/home
try bash -l /opt/app/listed.sh; try bash --login /opt/app/listed.sh; try bash -i /opt/app/listed.sh
(exec -a -bash bash /opt/app/listed.sh); echo "f: $?"; (exec -a -sh busybox /opt/app/listed.sh); echo "g: $?"
echo "tried $n"

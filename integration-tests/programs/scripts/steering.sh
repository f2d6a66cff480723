#!/bin/bash
# Variables that make an interpreter run other files than the listed one it is told.
mkdir -p /tmp/s && cd /tmp/s || exit 9
echo "echo EV''IL" > rc; echo "print('EV' 'IL')" > sitecustomize.py; echo "print 'EV'.'IL'; 1" > evil.pm
BASH_ENV=/tmp/s/rc bash /opt/app/listed.sh
# bash takes no PS4 from the environment of root.
env SHELLOPTS=xtrace 'PS4=$(echo EV""IL >&3)' bash /opt/app/listed.sh 3>&1
env 'BASH_FUNC_echo%%=() { printf "EV""IL\n"; }' bash /opt/app/listed.sh
PYTHONPATH=/tmp/s python3.11 /opt/app/listed.py
PERL5LIB=/tmp/s PERL5OPT=-Mevil perl /opt/app/listed.pl

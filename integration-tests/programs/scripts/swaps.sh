#!/bin/bash
# A script is swapped between the decision about it and the moment that its interpreter opens it. Whoever runs what was decided about says GOOD, each time. `try HOW SUFFIX PROGRAM...` runs the listed script of that suffix, called `name`.
mkdir -p /tmp/s && cd /tmp/s || exit 9
echo "echo EVIL" > evil.sh; cp evil.sh evil.dash; echo "print('EVIL')" > evil.py; echo "print \"EVIL\\n\";" > evil.pl; echo 'BEGIN { print "EVIL" }' > evil.awk
chmod 755 evil.*
n=0 start=locale
try() {
  local how=$1 suffix=$2 other=other; shift 2; n=$((n + 1))
  rm -rf name other good; cp /opt/app/listed.$suffix good; cp good name
  case $how in
    same) other=none ;;
    link) ln -sf good name; ln -s evil.$suffix other ;;
    file) cp evil.$suffix other ;;
    rewritten) other==evil.$suffix ;;
    gone) other=- ;;
    stream) ln -s /dev/stdin other ;;
    directory) mkdir other; cp evil.$suffix other/__main__.py ;;
  esac
  echo "$n $how $*"; /opt/app/swapper $start name $other "$@" < evil.$suffix; echo "$n: $?"
}
for how in same link file rewritten gone stream; do
  try $how sh bash name; try $how sh bash -e /tmp/s/name; try $how sh ./name
  try $how py python3.11 name; try $how pl perl ./name; try $how awk mawk -f name
done
try directory py python3.11 name; try directory py python3.11 /tmp/s/name
# Those without a locale.
start=exec
for how in same link file rewritten; do for i in 1 2 3 4 5 6 7 8; do try $how dash dash name; try $how dash ./name; try $how dash busybox sh ./name; done; done
echo "tried $n"

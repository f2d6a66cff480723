#!/usr/bin/bash
echo "called $0 with $# $1"
while read -r line; do echo "own: $line"; break; done < "$0"
cat "$0"
cat <<END
here: ${0##*/} $(cat <<< "a string")
END
echo text | while read -r word; do echo "sub: $word"; done
[ -f "$0" ] && [ -r "$0" ] && [ -s "$0" ] && [ ! -L "$0" ] && echo "a file"
[[ $0 -ef /opt/app/self.sh ]] && echo "the same file"
n=0; . "$0.none" 2> /dev/null || n=1; echo "none: $n"
own=$(readlink /proc/self/fd/9 9< "$0"); echo "open: $own"
( exec 4>> "$0" ) 2> /dev/null; echo "writing: $?"
exec /usr/bin/cat <&255

# Cases of `cargo xtask suite programs`, one function each: real work of one program. A case runs in an empty directory of its own; what it prints must be the same at every run.
# Runs as a plain user, with a loopback interface and nothing else of a network. `result` is the driver's (tools/xtask/src/suite/scripted.rs).

# Waits until a command succeeds, 10 s at most.
until_ok() {
    for i in $(seq 200); do
        "$@" > /dev/null 2>&1 && return 0
        sleep 0.05
    done
    echo "never: $*"
    return 1
}

lines() { seq 1 20000 | awk '{ printf "%d %x the quick brown fox %d\n", $1, $1 * 2654435761 % 4294967296, $1 % 97 }'; }

busybox_shell() {
    busybox sh -c 'for i in 1 2 3; do echo $((i * i)); done | busybox sort -r; f() { local x=$1; echo ${x%.c}.o; }; f main.c; set -- a b c; echo $# ${2}'
    busybox sh -c 'trap "echo term" TERM; kill -TERM $$; (exit 3); echo $?; echo "$(busybox uname -s)" | busybox tr a-z A-Z'
}
busybox_files() {
    lines > text
    busybox gzip -c text | busybox zcat | busybox cmp - text && echo same
    busybox tar -cf - text | busybox tar -xOf - | busybox md5sum
    busybox awk '{ s += $1 } END { print s, NR }' text
    busybox sed -n '/brown fox 42/p' text | busybox wc -l
    busybox find . -type f | busybox xargs busybox ls
    busybox bzip2 -k text && busybox bunzip2 -c text.bz2 | busybox sha256sum
    busybox vi -c ':q' -R text < /dev/null > /dev/null 2>&1
    echo '3 k 2 v p' | busybox dc
}
ripgrep_finds() {
    mkdir -p tree/a/b tree/.hidden
    lines > tree/a/b/text
    echo 'fn main() { println!("fox"); }' > tree/a/main.rs
    echo fox > tree/.hidden/x
    printf 'binary\0fox' > tree/a/bin
    rg --sort path -c fox tree
    rg --sort path --files tree
    rg -n --color never '\b1[0-9]{3} [a-f]+ ' tree/a/b
    rg -t rust -o '\w+!' tree
    rg -U --multiline-dotall 'fox 1\n.*?fox 3\n' tree/a/b | head -3
    rg --json -m 1 'Größe|fox' tree/a/main.rs | head -2 | cut -c 1-60
    rg -i 'straße' tree || echo none
}
ripgrep_threads() {
    for i in $(seq 40); do lines > text$i; done
    rg -j 4 -c 'fox (1[0-9]|7)$' . | sort
}
jq_filters() {
    printf '%s\n' '{"a":[3,1,2],"b":{"c":"x\u00e9\n","d":null,"e":1.5e300}}' > in.json
    jq . in.json
    jq -c '.a | sort, add, (map(. * 2) | max), (to_entries | from_entries? // "no")' in.json
    jq -r '.b.c | ascii_upcase, @base64, @uri, length, (explode | tojson)' in.json
    seq 1 1000 | jq -s 'group_by(. % 7) | map({k: (.[0] % 7), n: length, s: add})' -c
    jq -n 'reduce range(20000) as $i (0; . + $i * $i % 7), ([limit(5; repeat("z"))] | join(",")), (1e1000, -0, 0.1 + 0.2)'
    jq -n '"test 12 and 345" | [match("[0-9]+"; "g").string], sub("t(?<x>e)"; "<\(.x)>")' -c
    jq '.nothing[' in.json || echo "status $?"
}
redis_serves() {
    redis-server --port 7001 --bind 127.0.0.1 --save '' --dir . --daemonize no --logfile log &
    server=$!
    until_ok redis-cli -p 7001 ping || cat log
    cli() { redis-cli -p 7001 "$@"; }
    cli set greeting 'hello, world'
    cli get greeting
    cli incrbyfloat pi 3.14159
    for i in $(seq 50); do echo "rpush list $i"; done | cli | tail -1
    cli lrange list 10 13
    cli zadd z 1 a 2.5 b 0.5 c
    cli zrangebyscore z -inf +inf withscores
    cli eval 'local s = 0 for i = 1, tonumber(ARGV[1]) do s = s + i end return {s, redis.call("get", KEYS[1])}' 1 greeting 1000
    cli setex gone 1 soon
    sleep 1.2
    cli exists gone
    cli --csv config get maxmemory-policy
    redis-benchmark -p 7001 -n 2000 -c 10 -q -t set,get > benchmark 2>&1 && echo benchmark ran
    cli dbsize
    cli shutdown nosave
    wait $server
    echo "server $?"
}
redis_saves() {
    start() {
        redis-server --unixsocket s --port 0 --dir . --appendonly yes --logfile log &
        until_ok redis-cli -s s ping || cat log
    }
    start
    redis-cli -s s mset a 1 b 2 c 3
    redis-cli -s s save
    redis-cli -s s bgrewriteaof
    until_ok sh -c 'redis-cli -s s info persistence | grep -q aof_rewrite_in_progress:0'
    redis-cli -s s shutdown
    wait
    start
    redis-cli -s s mget a b c
    redis-cli -s s shutdown
    wait
    echo done
}
nginx_serves() {
    mkdir -p www t
    lines > www/text
    echo '<p>hello</p>' > www/index.html
    cat > conf <<END
daemon off; pid $PWD/pid; error_log $PWD/error.log; worker_processes 2;
events { worker_connections 64; }
http {
    access_log $PWD/access.log; default_type text/plain; gzip on; gzip_types text/plain; gzip_min_length 100; sendfile on;
    client_body_temp_path t/1; proxy_temp_path t/2; fastcgi_temp_path t/3; uwsgi_temp_path t/4; scgi_temp_path t/5;
    server { listen 127.0.0.1:7002; root $PWD/www;
        location /old { return 301 /text; }
        location /proxy/ { proxy_pass http://127.0.0.1:7002/; }
        location ~ ^/x(\d+)\$ { return 200 "matched \$1\n"; } }
}
END
    nginx -t -p . -c $PWD/conf 2>&1 | sed "s#$PWD#.#g"
    nginx -p . -c $PWD/conf &
    server=$!
    get() { curl -s --max-time 20 "$@"; }
    until_ok get http://127.0.0.1:7002/ || cat error.log
    get http://127.0.0.1:7002/
    get http://127.0.0.1:7002/text | sha256sum
    get --compressed http://127.0.0.1:7002/text | sha256sum
    get -r 100-119 http://127.0.0.1:7002/text
    get -I http://127.0.0.1:7002/text | grep -i -e HTTP -e length
    get -w '%{http_code} %{redirect_url}\n' -o /dev/null http://127.0.0.1:7002/old
    get -w '%{http_code}\n' -o /dev/null http://127.0.0.1:7002/missing
    get http://127.0.0.1:7002/x42
    get http://127.0.0.1:7002/proxy/text | sha256sum
    for i in $(seq 10); do get -o out$i http://127.0.0.1:7002/text & pids="$pids $!"; done
    wait $pids
    cat out* | sha256sum
    kill -HUP $server
    sleep 0.3
    get http://127.0.0.1:7002/
    kill -QUIT $server
    wait $server
    echo "server $?"
    cut -d '"' -f 2,3 access.log | sort | uniq -c
}
git_commits() {
    export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000' GIT_CONFIG_NOSYSTEM=1 HOME=$PWD GIT_PAGER=cat
    git config --global user.name A && git config --global user.email a@example.org && git config --global init.defaultBranch main
    git init -q repo && cd repo
    lines > text && echo one > a && git add . && git commit -q -m first
    git checkout -q -b side && sed -i 's/fox 5$/dog 5/' text && git commit -q -a -m 'side: a dog'
    git checkout -q main && echo two > b && git add b && git commit -q -m second
    git merge -q -m merged side
    git log --graph --format='%h %an %s' && git log -p -1 --stat side | head -30
    git diff HEAD~1 --shortstat && git blame -s text | head -3 && git grep -c -E 'd[o]g'
    git tag -a v1 -m v1 && git describe && git rev-parse HEAD HEAD^{tree}
    git gc -q && git fsck --full 2>&1 && git count-objects -v | grep -e in-pack -e packs
    git clone -q . ../copy && cd ../copy && git log --oneline | wc -l
    echo three >> a && git stash -q && git stash list && git stash pop 2>&1 | tail -1
    git commit -q -a -m third && git rebase -q --onto HEAD~2 HEAD~1 && git log --format=%H -1 && git status --short
    git format-patch -1 --stdout | sha256sum && git archive HEAD | sha256sum
    git bundle create -q ../b HEAD main && git bundle verify -q ../b 2>&1 | tail -1
}
git_greps_a_literal() {
    git init -q . && lines > text && git add text && git grep -c 'fox 5'
}
curl_fetches() {
    curl --version | head -1
    lines > text
    curl -s file://$PWD/text | sha256sum
    curl -s -r 10-30 file://$PWD/text
    curl -s file://$PWD/none || echo "status $?"
    curl -s --max-time 3 http://127.0.0.1:1/ || echo "status $?"
    curl -s http://nowhere.invalid/ || echo "status $?"
    curl -s -o '#1' "file://$PWD/{text}" && cmp text text && echo globbed
}
openssl_computes() {
    lines > text
    for d in md5 sha1 sha256 sha512 sha3-256 blake2b512; do openssl dgst -$d text; done
    for c in aes-256-cbc aes-128-ctr chacha20 camellia-128-cbc; do
        openssl enc -$c -pbkdf2 -S 0102030405060708 -k secret -in text -out text.$c && openssl dgst -sha256 text.$c
        openssl enc -d -$c -pbkdf2 -S 0102030405060708 -k secret -in text.$c | cmp - text && echo same
    done
    openssl ecparam -name prime256v1 -genkey -noout -out key.pem && openssl dgst -sha256 -sign key.pem -out sig text
    openssl ec -in key.pem -pubout -out pub.pem 2> /dev/null && openssl dgst -sha256 -verify pub.pem -signature sig text
    openssl genrsa -out rsa.pem 2048 2> /dev/null && openssl req -x509 -new -key rsa.pem -subj /CN=example.org -days 30 -out crt.pem && openssl verify -CAfile crt.pem crt.pem
    openssl prime -generate -bits 64 | wc -l
    openssl prime 1000000007
    openssl rand -hex 8 | wc -c
}
vim_edits() {
    lines > text
    vim.tiny -es -u NONE -N text -c '%s/quick \(\w\+\)/\1 quick/g' -c 'g/fox 7$/d' -c 'normal G5kdd' -c '1,10sort! n' -c 'wq' < /dev/null
    echo "vim $?"
    sha256sum text
    vim.tiny -es -u NONE -N text -c '1,3m$' -c '$-2,$w! out' -c 'normal ggVGU' -c '5,7w! >> out' -c 'q!' < /dev/null
    echo "vim $?"
    cat out
}
gocryptfs_works() {
    gocryptfs -version | cut -d ' ' -f 1
    mkdir c && echo secret > pass
    gocryptfs -q -init -scryptn 10 -passfile pass c && ls -A c
    gocryptfs -info c | grep -e Flags -e ScryptObject | head -2
    gocryptfs -q -passwd -scryptn 10 -passfile pass c < /dev/null > /dev/null 2>&1
    echo wrong > bad
    gocryptfs -q -passfile bad c mnt 2> /dev/null
    echo "status $?"
    gocryptfs-xray -dumpmasterkey -passfile pass c/gocryptfs.conf 2> /dev/null | tail -1 | wc -c
}
rclone_copies() {
    export RCLONE_CONFIG=$PWD/conf
    : > conf
    rclone version | head -1
    mkdir -p a/x && lines > a/x/text && echo 1 > a/1
    rclone copy a b 2> /dev/null && rclone lsf -R b | sort
    rclone check a b 2>&1 | sed 's/.* : //; s/^[0-9/]* [0-9:]* //' | sort
    rclone md5sum b | sort
    echo 2 > a/1 && rclone sync a b 2> /dev/null && cat b/1
    rclone size b
    rclone config create secret crypt remote=$PWD/e password=$(rclone obscure pw) > /dev/null 2>&1
    rclone copy a secret: 2> /dev/null && rclone lsf -R secret: | sort && rclone cat secret:x/text | sha256sum
    ls e | wc -l
}
rclone_serves() {
    export RCLONE_CONFIG=$PWD/conf
    : > conf
    mkdir a && lines > a/text
    rclone serve http a --addr 127.0.0.1:7003 > log 2>&1 &
    server=$!
    until_ok curl -s http://127.0.0.1:7003/ || cat log
    curl -s http://127.0.0.1:7003/text | sha256sum
    for i in 1 2 3 4 5 6 7 8; do curl -s http://127.0.0.1:7003/text > out$i & pids="$pids $!"; done
    wait $pids
    cat out* | sha256sum
    kill $server
    wait $server
    echo stopped
}
perl_scripts() {
    export PERL_HASH_SEED=0
    lines > text
    perl -lane '$n{$F[-1]} += $F[0]; END { print "$_ $n{$_}" for sort { $n{$b} <=> $n{$a} || $a <=> $b } keys %n }' text | head -5
    perl -pe 's/(\w+) (\w+)$/$2 \u$1/; tr/a-f/A-F/' text | sha256sum
    perl -MPOSIX=floor,strftime -MList::Util=sum,shuffle -MData::Dumper -e '$Data::Dumper::Sortkeys = 1; print Dumper({ a => [1 .. 3], s => sum(1 .. 100), f => floor(-2.5), t => strftime("%F", gmtime 0) })'
    perl -MDigest::SHA=sha256_hex -MDigest::MD5=md5_hex -MMIME::Base64 -MStorable=freeze,thaw -e 'print sha256_hex("abc"), "\n", md5_hex("abc"), "\n", encode_base64("x" x 60), thaw(freeze([1, [2, 3]]))->[1][1], "\n"'
    perl -e 'pipe R, W; if (my $p = fork) { close W; print while <R>; waitpid $p, 0; print $? >> 8, "\n" } else { close R; print W "child\n"; exit 7 }'
    perl -e 'local $SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; 1 while 1 }; print $@'
    perl -e 'sub f { my $n = shift; $n < 2 ? $n : f($n - 1) + f($n - 2) } print f(18), "\n"; @s = sort { $a <=> $b } map { $_ * 7919 % 1000 } 1 .. 1000; print "@s[0 .. 5]\n"; printf "%.15g %s %b %e\n", 0.1 + 0.2, 9**20, 37, 1e-300'
    perl -Mutf8 -CS -e '$_ = "Größe ÄÖÜ ß"; print lc, " ", uc, " ", length, " ", join(",", /(\p{Lu})/g), "\n"; print "yes\n" if "foo(bar(baz))" =~ /^(\w+)(\((?:[^()]++|(?2))*\))$/; print pack("N n C a4 w", 1, 2, 3, "ab", 300) =~ s/(.)/sprintf "%02x", ord $1/gesr, "\n"'
    perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die $!; if (fork) { $c = $s->accept; print $c "hello\n"; close $c; wait } else { $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1:" . $s->sockport); print <$c>; exit }'
    perl -e 'eval { die { code => 42 } }; print $@->{code}, "\n"; print sprintf("%vd", "1.22.333"), " ", join(":", unpack("(A2)*", "aabbcc")), "\n"; open F, "<", \ "in memory\nfile\n"; print scalar(() = <F>), "\n"'
}
perl_threads() {
    perl -Mthreads -Mthreads::shared -e 'my $n :shared = 0; my @t = map { threads->create(sub { for (1 .. 200) { lock $n; $n++ } return $_[0] ** 2 }, $_) } 1 .. 4; print join(",", map { $_->join } @t), " $n\n"'
}
python_scripts() {
    export PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
    lines > text
    python3.11 -c 'import collections; c = collections.Counter(l.split()[-1] for l in open("text")); print(sorted(c.items())[:5])'
    python3.11 -c 'import json, re, hashlib, zlib, struct, decimal, fractions, datetime; t = open("text").read(); print(hashlib.sha256(t.encode()).hexdigest(), zlib.crc32(t.encode()), len(re.findall(r"\b1\d+", t)), struct.pack("<dI", 1.5, 7).hex(), decimal.Decimal(2).sqrt(), fractions.Fraction(0.1), json.dumps({"k": [1, None, 1e100]}), datetime.date(2024, 2, 29).isocalendar())'
    python3.11 -c 'import sqlite3; c = sqlite3.connect(":memory:"); c.execute("create table t (a, b)"); c.executemany("insert into t values (?, ?)", [(i, i * i) for i in range(1000)]); print(c.execute("select sum(b), max(a) from t where a % 3 = 1").fetchall())'
    python3.11 -c 'import threading, queue, subprocess, os, signal; q = queue.Queue(); ts = [threading.Thread(target=lambda k: q.put(sum(range(k))), args=(k * 1000,)) for k in range(8)]; [t.start() for t in ts]; [t.join() for t in ts]; print(sorted(q.get() for _ in ts)); print(subprocess.run(["sort", "-r"], input=b"a\nb\n", capture_output=True).stdout); signal.signal(signal.SIGUSR1, lambda *a: print("usr1")); os.kill(os.getpid(), signal.SIGUSR1)'
    python3.11 -c 'import asyncio
async def echo(r, w):
    w.write((await r.readline()).upper()); await w.drain(); w.close()
async def main():
    s = await asyncio.start_server(echo, "127.0.0.1", 0)
    r, w = await asyncio.open_connection(*s.sockets[0].getsockname())
    w.write(b"hello\n"); print(await r.readline()); w.close(); s.close()
asyncio.run(main())'
    python3.11 -c 'import multiprocessing as m; print(m.Pool(3).map(abs, range(-5, 5)))'
    python3.11 -c 'import ctypes; l = ctypes.CDLL(None); print(l.abs(-3), ctypes.sizeof(ctypes.c_long)); import lzma, bz2; print(len(lzma.decompress(lzma.compress(b"x" * 100000))), bz2.decompress(bz2.compress(b"abc")))'
    python3.11 -c 'raise ValueError("as expected")' 2>&1
    echo "status $?"
}
sqlite_queries() {
    sqlite3 db "create table t (id integer primary key, k text, v real); with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) insert into t select i, printf('%x', i * 2654435761 % 4294967296), i / 7.0 from n; create index x on t(k);"
    sqlite3 db "select count(*), sum(v), max(k) from t; select k, v from t where k like 'ab%' order by k limit 3; explain query plan select * from t where k = 'a'; pragma integrity_check"
    sqlite3 db "begin; delete from t where id % 2; rollback; select count(*) from t; update t set v = v * 2 where k > 'f'; select round(avg(v), 6) from t; vacuum;"
    sqlite3 -json db "select json_extract('{\"a\":[1,2]}', '\$.a[1]') j, group_concat(id) from t where id < 5"
    sqlite3 db .dump | sha256sum
    sqlite3 db 'select nothing' 2>&1 | sed 's/near line.*//'
}
tools_work() {
    lines > text
    gawk '{ n[$NF]++ } END { PROCINFO["sorted_in"] = "@ind_num_asc"; for (k in n) print k, n[k] }' text | sha256sum
    gawk 'BEGIN { printf "%.10f %d %s\n", atan2(0, -1), 2^53 + 1, strftime("%F", 0, 1); print gensub(/(a+)b/, "<\\1>", "g", "aabab"), toupper("x"), substr("hello", 2, 3); while (("echo a b" | getline l) > 0) print l }'
    for z in 'gzip -n' xz 'xz -9e' zstd 'zstd -19 -T2' bzip2; do command -v ${z%% *} > /dev/null && $z -c text 2> /dev/null | tee z | sha256sum && ${z%% *} -dc < z | cmp - text && echo "$z"; done
    mkdir d && cp text d/ && ln -s text d/l && ln d/text d/h
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf t.tar d && sha256sum t.tar && tar -tvf t.tar | wc -l && mkdir x && tar -xf t.tar -C x && cmp x/d/h text && echo extracted
    tar -czf t.tgz d && tar -tzf t.tgz | sort && tar --zstd -cf t.zst d && tar -tf t.zst | wc -l
    find d -type f -links +1 -printf '%f %s %y\n' | sort && find d -name 'h*' -exec wc -l {} + && find . -newer text -prune -o -size +100k -print | sort
    printf 'all: a.o b.o\n\t@echo link $^\n%%.o: %%.c\n\t@echo cc $<; touch $@\n.PHONY: all\nX := $(shell echo 42)\n$(info $(X) $(patsubst %%.c,%%.o,a.c b.c))\n' > Makefile
    touch a.c b.c && make && make -j 4 && make -n && make nothing 2>&1
    echo "status $?"
}
shellcheck_reads() {
    printf '#!/bin/sh\nfor f in $(ls *.txt); do\n  if [ $f == "a" ]; then echo `cat $f`; fi\n  cd $dir\ndone\n' > a.sh
    printf '#!/bin/bash\nset -e\nmain() { local x=$(false); read y < <(echo "$1"); [[ $y = *.c ]] && rm -rf "$x/"*; }\nmain "$@"\n' > b.sh
    shellcheck a.sh
    echo "status $?"
    shellcheck --format=json b.sh | jq -S .
    shellcheck --format=gcc a.sh b.sh | sort
    for k in 1 2 3; do cat a.sh b.sh; done > long.sh
    shellcheck --norc --severity=style --color=never long.sh | sha256sum
    shellcheck --version
}
age_encrypts() {
    lines > text
    age-keygen -o key 2> /dev/null
    age -r "$(age-keygen -y key)" -o sealed text && age --decrypt -i key sealed | cmp - text && echo opened
    age -a -r "$(age-keygen -y key)" < text | head -1
    age-keygen -o other 2> /dev/null
    age --decrypt -i other sealed 2>&1
    echo "status $?"
}
unison_syncs() {
    export HOME=/tmp/case UNISONLOCALHOSTNAME=case
    mkdir a b && lines > a/text && mkdir a/d && echo one > a/d/one && echo two > b/two && ln -s text a/link
    unison a b -ui text -batch -auto > log 2>&1
    echo "status $?"
    diff -r a b && find b | sort
    echo more >> b/two && rm a/d/one && echo new > b/d/new
    unison a b -ui text -batch -auto > log 2>&1
    echo "status $?"
    diff -r a b && find a | sort && cat a/two
}

ALL='busybox_shell busybox_files ripgrep_finds ripgrep_threads jq_filters redis_serves redis_saves nginx_serves git_commits git_greps_a_literal curl_fetches openssl_computes vim_edits gocryptfs_works rclone_copies rclone_serves perl_scripts perl_threads python_scripts sqlite_queries tools_work shellcheck_reads age_encrypts unison_syncs'

export PATH=/usr/sbin:$PATH
if [ "$1" = --one ]; then
    # A case with its servers is one process group, which the limit below ends.
    "$2"
    exit
fi
[ $# = 0 ] && set -- $ALL
for case; do
    mkdir /tmp/case && cd /tmp/case
    timeout --kill-after=5 180 sh /home/suite/driver --one $case > /tmp/printed 2>&1 < /dev/null
    result $case "exit $? $(sha256sum < /tmp/printed | cut -c 1-16)" /tmp/printed
    cd / && chmod -R u+rwx /tmp/case && rm -rf /tmp/case
done

// Every function of wasi_snapshot_preview1 by itself, with arguments that work and with arguments that do not: one line per call, with its errno.
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <wasi/api.h>

#define SAY(call) do { int r = (call); printf("%-62s %d\n", #call, r); } while (0)
#define RAW(name, parameters, ...) \
    __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) int32_t raw_##name parameters

// With addresses of any kind, which the header's types do not allow.
RAW(fd_read, (int32_t, int32_t, int32_t, int32_t));
RAW(fd_write, (int32_t, int32_t, int32_t, int32_t));
RAW(path_open, (int32_t, int32_t, int32_t, int32_t, int32_t, int64_t, int64_t, int32_t, int32_t));
RAW(random_get, (int32_t, int32_t));
RAW(fd_prestat_dir_name, (int32_t, int32_t, int32_t));
RAW(clock_time_get, (int32_t, int64_t, int32_t));
RAW(fd_filestat_get, (int32_t, int32_t));
RAW(path_readlink, (int32_t, int32_t, int32_t, int32_t, int32_t, int32_t));
RAW(sock_accept, (int32_t, int32_t, int32_t));
RAW(proc_raise, (int32_t));

#define ROOT 3
#define ALL UINT64_C(0x3fffffff)
#define READ __WASI_RIGHTS_FD_READ
#define WRITE __WASI_RIGHTS_FD_WRITE

static int open_at(int dir, int follow, const char *path, int oflags, uint64_t rights, int fdflags, __wasi_fd_t *fd) {
    return raw_path_open(dir, follow, (int)(uintptr_t)path, (int)strlen(path), oflags, rights, ALL, fdflags, (int)(uintptr_t)fd);
}

static void environment(void) {
    __wasi_size_t n, bytes;
    SAY(__wasi_args_sizes_get(&n, &bytes));
    printf("%zu arguments\n", n);
    SAY(__wasi_environ_sizes_get(&n, &bytes));
    uint64_t t = 0, t2 = 0;
    SAY(__wasi_clock_time_get(__WASI_CLOCKID_REALTIME, 1, &t));
    printf("after 2020 %d\n", t > UINT64_C(1577836800000000000));
    SAY(__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &t));
    SAY(__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &t2));
    printf("forward %d\n", t2 >= t);
    SAY(__wasi_clock_res_get(__WASI_CLOCKID_MONOTONIC, &t));
    printf("resolution %d\n", t > 0 && t < 100000000);
    uint8_t random[64] = {0};
    SAY(__wasi_random_get(random, sizeof random));
    int sum = 0;
    for (unsigned i = 0; i < sizeof random; i++) sum += random[i];
    printf("random %d\n", sum > 0);
    SAY(__wasi_random_get(random, 0));
    SAY(__wasi_sched_yield());
}

static void preopens(void) {
    __wasi_prestat_t p;
    char name[8] = {0};
    SAY(__wasi_fd_prestat_get(ROOT, &p));
    printf("tag %d length %zu\n", p.tag, p.u.dir.pr_name_len);
    SAY(__wasi_fd_prestat_dir_name(ROOT, (uint8_t *)name, p.u.dir.pr_name_len));
    printf("%s\n", name);
    SAY(raw_fd_prestat_dir_name(ROOT, (int)(uintptr_t)name, 0));
    SAY(__wasi_fd_prestat_get(0, &p));
    SAY(__wasi_fd_prestat_get(100, &p));
    SAY(raw_fd_prestat_dir_name(0, (int)(uintptr_t)name, 8));
    SAY(raw_fd_prestat_dir_name(100, (int)(uintptr_t)name, 8));
}

static void descriptors(void) {
    __wasi_fd_t fd = 0, other = 0;
    __wasi_fdstat_t s;
    __wasi_filestat_t f;
    uint8_t b[16] = {0};
    __wasi_iovec_t in[2] = {{b, 4}, {b + 4, 4}};
    __wasi_ciovec_t out[2] = {{b, 4}, {b + 4, 4}};
    __wasi_size_t n = 0;
    __wasi_filesize_t at = 0;
    SAY(open_at(ROOT, 0, "data/file", 0, READ | WRITE, 0, &fd));
    printf("number %u\n", fd);
    SAY(__wasi_fd_fdstat_get(fd, &s));
    printf("kind %d flags %d read %d write %d\n", s.fs_filetype, s.fs_flags, !!(s.fs_rights_base & READ), !!(s.fs_rights_base & WRITE));
    SAY(__wasi_fd_fdstat_get(ROOT, &s));
    printf("kind %d\n", s.fs_filetype);
    SAY(__wasi_fd_fdstat_get(100, &s));
    SAY(__wasi_fd_pread(fd, in, 1, 2, &n));
    printf("%zu %.4s\n", n, b);
    SAY(__wasi_fd_pwrite(fd, out, 1, 100, &n));
    SAY(__wasi_fd_seek(fd, 3, __WASI_WHENCE_SET, &at));
    SAY(__wasi_fd_seek(fd, -1, __WASI_WHENCE_CUR, &at));
    printf("at %llu\n", at);
    SAY(__wasi_fd_seek(fd, -8, __WASI_WHENCE_END, &at));
    printf("at %llu\n", at);
    SAY(__wasi_fd_seek(fd, -1000, __WASI_WHENCE_CUR, &at));
    SAY(__wasi_fd_seek(100, 0, 0, &at));
    SAY(__wasi_fd_seek(ROOT, 0, 0, &at));
    SAY(__wasi_fd_tell(fd, &at));
    printf("at %llu\n", at);
    SAY(__wasi_fd_tell(ROOT, &at));
    SAY(__wasi_fd_read(ROOT, in, 1, &n));
    SAY(__wasi_fd_write(ROOT, out, 1, &n));
    SAY(__wasi_fd_read(100, in, 1, &n));
    SAY(__wasi_fd_write(100, out, 1, &n));
    SAY(__wasi_fd_read(fd, in, 0, &n));
    printf("%zu\n", n);
    SAY(__wasi_fd_advise(fd, 0, 100, __WASI_ADVICE_SEQUENTIAL));
    SAY(__wasi_fd_advise(ROOT, 0, 0, __WASI_ADVICE_NORMAL));
    SAY(__wasi_fd_advise(100, 0, 0, __WASI_ADVICE_NORMAL));
    SAY(__wasi_fd_datasync(fd));
    SAY(__wasi_fd_sync(fd));
    SAY(__wasi_fd_sync(100));
    SAY(__wasi_fd_datasync(100));
    SAY(__wasi_fd_filestat_get(fd, &f));
    printf("kind %d size %llu links %llu\n", f.filetype, f.size, f.nlink);
    SAY(__wasi_fd_filestat_get(ROOT, &f));
    printf("kind %d\n", f.filetype);
    SAY(__wasi_fd_filestat_get(100, &f));
    SAY(__wasi_fd_filestat_set_size(fd, 6));
    SAY(__wasi_fd_filestat_set_size(100, 6));
    SAY(__wasi_fd_filestat_set_size(ROOT, 6));
    SAY(__wasi_fd_filestat_set_times(fd, 1000, 2000, __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM));
    SAY(__wasi_fd_filestat_get(fd, &f));
    printf("times %llu %llu size %llu\n", f.atim, f.mtim, f.size);
    SAY(__wasi_fd_filestat_set_times(fd, 1, 2, __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_ATIM_NOW));
    SAY(__wasi_fd_filestat_set_times(100, 1, 2, 0));
    SAY(__wasi_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_APPEND));
    SAY(__wasi_fd_fdstat_get(fd, &s));
    printf("flags %d\n", s.fs_flags);
    SAY(__wasi_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_SYNC));
    SAY(__wasi_fd_fdstat_set_flags(100, 0));
    SAY(open_at(ROOT, 0, "data/other", 1, READ | WRITE, 0, &other));
    SAY(__wasi_fd_renumber(other, fd));
    SAY(__wasi_fd_filestat_get(other, &f));
    SAY(__wasi_fd_filestat_get(fd, &f));
    printf("size %llu\n", f.size);
    SAY(__wasi_fd_renumber(fd, fd));
    SAY(__wasi_fd_renumber(fd, 50));
    SAY(__wasi_fd_renumber(50, fd));
    SAY(__wasi_fd_close(fd));
    SAY(__wasi_fd_close(fd));
    SAY(__wasi_fd_close(100));
    SAY(__wasi_fd_close(-1));
    SAY(open_at(ROOT, 0, "data/other", 0, READ, 0, &fd));
    SAY(__wasi_fd_write(fd, out, 1, &n));
    SAY(__wasi_fd_filestat_set_size(fd, 1));
    SAY(__wasi_fd_close(fd));
    SAY(open_at(ROOT, 0, "data/other", 0, WRITE, 0, &fd));
    SAY(__wasi_fd_read(fd, in, 1, &n));
    SAY(__wasi_fd_close(fd));
}

static void opening(void) {
    __wasi_fd_t fd = 0;
    const struct { const char *path; int follow, oflags, fdflags; uint64_t rights; } cases[] = {
        {"data/file", 1, 0, 0, READ}, {"data/none", 0, 0, 0, READ}, {"", 0, 0, 0, READ}, {"/data/file", 0, 0, 0, READ}, {"data/file/", 0, 0, 0, READ},
        {"data/file", 0, 2, 0, READ}, {"data", 0, 2, 0, READ}, {"data", 0, 0, 0, READ}, {"data/", 0, 2, 0, READ}, {"data/.", 0, 2, 0, READ}, {"data/..", 0, 2, 0, READ}, {".", 0, 2, 0, READ},
        {"..", 0, 2, 0, READ}, {"../etc", 0, 2, 0, READ}, {"data/../../x", 0, 0, 0, READ}, {"data/inside", 1, 0, 0, READ}, {"data/inside", 0, 0, 0, READ}, {"data/up", 1, 0, 0, READ},
        {"data/absolute", 1, 0, 0, READ}, {"data/absolute", 0, 0, 0, READ}, {"data/dangling", 1, 0, 0, READ}, {"data/loop", 1, 0, 0, READ}, {"data/door/x", 1, 0, 0, READ},
        {"data/file", 0, 1 | 4, 0, READ | WRITE}, {"data/new", 0, 1 | 4, 0, READ | WRITE}, {"data/new", 0, 8, 0, READ | WRITE}, {"data/new", 0, 1, 1, READ | WRITE}, {"data", 0, 1, 0, READ | WRITE},
        {"data", 0, 0, 0, READ | WRITE}, {"data", 0, 8, 0, READ | WRITE}, {"data/nonedir/x", 0, 1, 0, READ | WRITE}, {"data/fresh", 0, 1 | 2, 0, READ}, {"data/\xff\xfe", 0, 0, 0, READ}, {"data/new", 0, 0, 0, 0},
        {"data//file", 0, 0, 0, READ}, {"./data/./file", 0, 0, 0, READ}, {"data/dir/../file", 0, 0, 0, READ}, {"data/file/..", 0, 0, 0, READ},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        int r = open_at(ROOT, cases[i].follow, cases[i].path, cases[i].oflags, cases[i].rights, cases[i].fdflags, &fd);
        printf("open %-20s %d %d %d %llx: %d\n", cases[i].path[0] & 0x80 ? "?" : cases[i].path, cases[i].follow, cases[i].oflags, cases[i].fdflags, (unsigned long long)cases[i].rights, r);
        if (!r) {
            __wasi_fdstat_t s;
            __wasi_fd_fdstat_get(fd, &s);
            printf("  kind %d flags %d\n", s.fs_filetype, s.fs_flags);
            __wasi_fd_close(fd);
        }
    }
    SAY(open_at(100, 0, "x", 0, READ, 0, &fd));
    SAY(open_at(0, 0, "x", 0, READ, 0, &fd));
    __wasi_fd_t file = 0;
    SAY(open_at(ROOT, 0, "data/file", 0, READ, 0, &file));
    SAY(open_at(file, 0, "x", 0, READ, 0, &fd));
    SAY(__wasi_path_create_directory(file, "x"));
    SAY(__wasi_path_unlink_file(file, "x"));
    SAY(__wasi_fd_close(file));
    SAY(raw_path_open(ROOT, 0, (int)(uintptr_t)"data/f\0le", 9, 0, READ, 0, 0, (int)(uintptr_t)&fd));
    SAY(__wasi_path_unlink_file(ROOT, "data/new"));
}

static void paths(void) {
    __wasi_filestat_t f;
    __wasi_size_t n = 0;
    uint8_t b[64];
    static const char *const dirs[] = {"data/made", "data/made", "data/made/", "data/file", "data/none/x", "", ".", "..", "/abs", "../x", "data/door/x", "data/..", "data/dangling", "data/made2/"};
    for (unsigned i = 0; i < sizeof dirs / sizeof *dirs; i++) printf("mkdir %s: %d\n", dirs[i], __wasi_path_create_directory(ROOT, dirs[i]));
    static const char *const gone[] = {"data/made", "data/made", "data/file", "data/made2", "data/dir", "", "/abs", "../x", "data/inside", "data/door/x"};
    for (unsigned i = 0; i < sizeof gone / sizeof *gone; i++) printf("rmdir %s: %d\n", gone[i], __wasi_path_remove_directory(ROOT, gone[i]));
    static const char *const unlinked[] = {"data/none", "data/dir", "data/file/", "", "/abs", "../x", "data/door/x", "data/loop"};
    for (unsigned i = 0; i < sizeof unlinked / sizeof *unlinked; i++) printf("unlink %s: %d\n", unlinked[i], __wasi_path_unlink_file(ROOT, unlinked[i]));
    static const char *const stats[] = {"data/file", "data", "data/", "data/file/", "data/inside", "data/up", "data/absolute", "data/dangling", "none", "", ".", "..", "/data", "data/door/x", "data/.."};
    for (unsigned i = 0; i < sizeof stats / sizeof *stats; i++)
        for (int follow = 0; follow < 2; follow++) {
            int r = __wasi_path_filestat_get(ROOT, follow, stats[i], &f);
            printf("stat %s %d: %d", stats[i], follow, r);
            if (!r) printf(" kind %d", f.filetype);
            printf("\n");
        }
    static const char *const read[] = {"data/inside", "data/up", "data/absolute", "data/dangling", "data/file", "data", "none", "", "..", "data/door/x"};
    for (unsigned i = 0; i < sizeof read / sizeof *read; i++) {
        int r = __wasi_path_readlink(ROOT, read[i], b, sizeof b, &n);
        printf("readlink %s: %d", read[i], r);
        if (!r) printf(" %.*s", (int)n, b);
        printf("\n");
    }
    SAY(__wasi_path_readlink(ROOT, "data/inside", b, 2, &n));
    SAY(__wasi_path_readlink(100, "data/inside", b, 2, &n));
    static const struct { const char *from, *to; } renames[] = {
        {"data/file", "data/moved"}, {"data/moved", "data/file"}, {"data/none", "data/x"}, {"data/file", "../x"}, {"../x", "data/x"}, {"/data/file", "data/x"}, {"data/file", "/x"}, {"data/dir", "data/dir/sub"},
        {"data/file", "data/dir"}, {"data/dir", "data/file"}, {"data/file", ""}, {"data/file", "data/door/x"}, {"data/file", "data/new/"}, {"data/dir/", "data/dir2/"}, {"data/dir2", "data/dir"}, {"data/file", "data/file"},
    };
    for (unsigned i = 0; i < sizeof renames / sizeof *renames; i++) printf("rename %s %s: %d\n", renames[i].from, renames[i].to, __wasi_path_rename(ROOT, renames[i].from, ROOT, renames[i].to));
    static const struct { const char *from, *to; } links[] = {
        {"data/file", "data/hard"}, {"data/file", "data/hard"}, {"data/none", "data/x"}, {"data/dir", "data/x"}, {"data/file", "../x"}, {"../x", "data/x"}, {"/data/file", "data/x"}, {"data/file", "data/door/x"}, {"data/inside", "data/hard2"}, {"", "data/x"},
    };
    for (unsigned i = 0; i < sizeof links / sizeof *links; i++) printf("link %s %s: %d\n", links[i].from, links[i].to, __wasi_path_link(ROOT, 0, links[i].from, ROOT, links[i].to));
    SAY(__wasi_path_link(ROOT, 1, "data/inside", ROOT, "data/hard3"));
    SAY(__wasi_path_filestat_get(ROOT, 0, "data/hard2", &f));
    printf("kind %d\n", f.filetype);
    static const struct { const char *from, *to; } symlinks[] = {
        {"file", "data/soft"}, {"file", "data/soft"}, {"/etc/passwd", "data/soft2"}, {"../../../x", "data/soft3"}, {"x", "../soft"}, {"x", "/soft"}, {"", "data/soft4"}, {"x", ""}, {"x", "data/none/soft"}, {"x", "data/soft5/"},
    };
    for (unsigned i = 0; i < sizeof symlinks / sizeof *symlinks; i++) printf("symlink %s %s: %d\n", symlinks[i].from, symlinks[i].to, __wasi_path_symlink(symlinks[i].from, ROOT, symlinks[i].to));
    SAY(__wasi_path_filestat_set_times(ROOT, 0, "data/file", 5000, 6000, 5));
    SAY(__wasi_path_filestat_get(ROOT, 0, "data/file", &f));
    printf("times %llu %llu\n", f.atim, f.mtim);
    SAY(__wasi_path_filestat_set_times(ROOT, 1, "data/inside", 7000, 8000, 5));
    SAY(__wasi_path_filestat_get(ROOT, 0, "data/file", &f));
    printf("times %llu %llu\n", f.atim, f.mtim);
    SAY(__wasi_path_filestat_set_times(ROOT, 0, "none", 1, 1, 5));
    SAY(__wasi_path_filestat_set_times(ROOT, 0, "../x", 1, 1, 5));
    SAY(__wasi_path_filestat_set_times(ROOT, 0, "data/file", 1, 1, 3));
    static const char *const made[] = {"data/hard", "data/hard2", "data/soft", "data/soft3"};
    for (unsigned i = 0; i < sizeof made / sizeof *made; i++) printf("unlink %s: %d\n", made[i], __wasi_path_unlink_file(ROOT, made[i]));
}

// Names in the order of the bytes, because file systems have orders of their own.
static void listing(void) {
    __wasi_fd_t fd = 0;
    uint8_t b[4096];
    __wasi_size_t n = 0;
    SAY(open_at(ROOT, 0, "data/dir", 2, READ, 0, &fd));
    SAY(__wasi_fd_readdir(fd, b, sizeof b, 0, &n));
    int count = 0, dots = 0;
    uint64_t cookie = 0, second = 0;
    for (__wasi_size_t at = 0; at + 24 <= n;) {
        __wasi_dirent_t d;
        memcpy(&d, b + at, sizeof d);
        dots += d.d_namlen <= 2;
        if (++count == 2) second = d.d_next;
        cookie = d.d_next;
        at += 24 + d.d_namlen;
    }
    printf("%d entries, %d short ones\n", count, dots);
    SAY(__wasi_fd_readdir(fd, b, sizeof b, cookie, &n));
    printf("%zu bytes behind the last\n", n);
    SAY(__wasi_fd_readdir(fd, b, 30, 0, &n));
    printf("%zu of 30\n", n);
    SAY(__wasi_fd_readdir(fd, b, sizeof b, second, &n));
    printf("more behind the second %d\n", n > 0);
    SAY(__wasi_fd_readdir(fd, b, 0, 0, &n));
    printf("%zu of 0\n", n);
    SAY(__wasi_fd_readdir(1, b, sizeof b, 0, &n));
    SAY(__wasi_fd_readdir(100, b, sizeof b, 0, &n));
    SAY(__wasi_fd_close(fd));
    SAY(open_at(ROOT, 0, "data/file", 0, READ, 0, &fd));
    SAY(__wasi_fd_readdir(fd, b, sizeof b, 0, &n));
    SAY(__wasi_fd_close(fd));
}

static void polling(void) {
    __wasi_subscription_t s[3];
    __wasi_event_t e[3];
    __wasi_size_t n = 0;
    __wasi_fd_t fd = 0;
    memset(s, 0, sizeof s);
    SAY(__wasi_poll_oneoff(s, e, 0, &n));
    s[0].userdata = 11;
    s[0].u.tag = __WASI_EVENTTYPE_CLOCK;
    s[0].u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
    s[0].u.u.clock.timeout = 2000000;
    SAY(__wasi_poll_oneoff(s, e, 1, &n));
    printf("%zu: %llu %d %d\n", n, e[0].userdata, e[0].error, e[0].type);
    uint64_t now = 0;
    __wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &now);
    s[0].u.u.clock.timeout = now;
    s[0].u.u.clock.flags = __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME;
    SAY(__wasi_poll_oneoff(s, e, 1, &n));
    printf("%zu: %llu %d %d\n", n, e[0].userdata, e[0].error, e[0].type);
    SAY(open_at(ROOT, 0, "data/file", 0, READ, 0, &fd));
    s[0].u.u.clock.timeout = UINT64_C(3600000000000);
    s[0].u.u.clock.flags = 0;
    s[1].userdata = 22;
    s[1].u.tag = __WASI_EVENTTYPE_FD_READ;
    s[1].u.u.fd_read.file_descriptor = fd;
    s[2].userdata = 33;
    s[2].u.tag = __WASI_EVENTTYPE_FD_WRITE;
    s[2].u.u.fd_write.file_descriptor = 1;
    SAY(__wasi_poll_oneoff(s, e, 2, &n));
    for (unsigned i = 0; i < n; i++) printf("%llu %d %d\n", e[i].userdata, e[i].error, e[i].type);
    SAY(__wasi_poll_oneoff(s + 2, e, 1, &n));
    for (unsigned i = 0; i < n; i++) printf("%llu %d %d\n", e[i].userdata, e[i].error, e[i].type);
    s[1].u.u.fd_read.file_descriptor = 100;
    SAY(__wasi_poll_oneoff(s + 1, e, 1, &n));
    SAY(__wasi_fd_close(fd));
}

static void sockets(void) {
    uint8_t b[4];
    __wasi_iovec_t in = {b, 4};
    __wasi_ciovec_t out = {b, 4};
    __wasi_size_t n = 0;
    __wasi_roflags_t flags = 0;
    __wasi_fd_t fd = 0;
    SAY(raw_proc_raise(6));
    SAY(__wasi_sock_recv(ROOT, &in, 1, 0, &n, &flags));
    SAY(__wasi_sock_recv(100, &in, 1, 0, &n, &flags));
    SAY(__wasi_sock_send(ROOT, &out, 1, 0, &n));
    SAY(__wasi_sock_send(100, &out, 1, 0, &n));
    SAY(__wasi_sock_shutdown(ROOT, 1));
    SAY(__wasi_sock_shutdown(100, 1));
    SAY(raw_sock_accept(ROOT, 0, (int)(uintptr_t)&fd));
    SAY(raw_sock_accept(100, 0, (int)(uintptr_t)&fd));
}

int main(void) {
    environment();
    preopens();
    descriptors();
    opening();
    paths();
    listing();
    polling();
    sockets();
    fflush(stdout);
    __wasi_proc_exit(42);
}

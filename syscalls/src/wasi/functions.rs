//! The functions of `wasi_snapshot_preview1`: name, parameters, the rows each needs, and what it runs. From this list come the imports of the loader, the system calls a build says a program can make, and the manual.
//!
//! The fact a newcomer gets wrong: `rows` is what the program's list must have for the function to work in full; a function looks at no list itself. Opening is `openat` to a list, and openat2(2) to the kernel.

use super::call::Call;
use super::errno::Code;
use super::{environment, files, links, listing, paths, poll, socket, transfer};

/// Name of the module whose functions these are.
pub const MODULE: &str = "wasi_snapshot_preview1";

pub(super) type Answer = Result<(), Code>;

/// One function.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    /// One letter per parameter: `i` for i32, `I` for i64. The result is an i32, but `proc_exit` has none.
    pub parameters: &'static str,
    /// Names of the rows it is made of.
    pub rows: &'static [&'static str],
    pub(super) run: fn(&mut Call<'_>) -> Answer,
}

impl Function {
    /// Whether it gives an errno.
    pub fn returns(&self) -> bool {
        self.name != "proc_exit"
    }
}

/// The function of a name.
pub fn by_name(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|f| f.name == name)
}

macro_rules! functions { ($($name:ident $parameters:literal [$($row:literal)*] $run:path;)*) => {
    /// All 46, in the order of WASI's own document.
    pub const FUNCTIONS: &[Function] = &[$(Function { name: stringify!($name), parameters: $parameters, rows: &[$($row),*], run: $run }),*];
} }
functions! {
    args_get "ii" [] environment::args_get;
    args_sizes_get "ii" [] environment::args_sizes_get;
    environ_get "ii" [] environment::environ_get;
    environ_sizes_get "ii" [] environment::environ_sizes_get;
    clock_res_get "ii" ["clock_getres"] environment::clock_res_get;
    clock_time_get "iIi" ["clock_gettime"] environment::clock_time_get;
    fd_advise "iIIi" ["fadvise64"] files::advise;
    fd_allocate "iII" ["fallocate"] files::allocate;
    fd_close "i" ["close"] files::close;
    fd_datasync "i" ["fdatasync"] files::datasync;
    fd_fdstat_get "ii" ["fcntl"] files::fdstat_get;
    fd_fdstat_set_flags "ii" ["fcntl"] files::fdstat_set_flags;
    fd_fdstat_set_rights "iII" [] files::fdstat_set_rights;
    fd_filestat_get "ii" ["fstat"] files::filestat_get;
    fd_filestat_set_size "iI" ["ftruncate"] files::filestat_set_size;
    fd_filestat_set_times "iIIi" ["utimensat"] files::filestat_set_times;
    fd_pread "iiiIi" ["preadv"] transfer::pread;
    fd_prestat_get "ii" [] files::prestat_get;
    fd_prestat_dir_name "iii" [] files::prestat_dir_name;
    fd_pwrite "iiiIi" ["pwritev"] transfer::pwrite;
    fd_read "iiii" ["readv"] transfer::read;
    fd_readdir "iiiIi" ["getdents64" "lseek"] listing::readdir;
    fd_renumber "ii" ["close"] files::renumber;
    fd_seek "iIii" ["lseek"] transfer::seek;
    fd_sync "i" ["fsync"] files::sync;
    fd_tell "ii" ["lseek"] transfer::tell;
    fd_write "iiii" ["writev"] transfer::write;
    path_create_directory "iii" ["mkdirat" "openat"] paths::create_directory;
    path_filestat_get "iiiii" ["fstat" "openat"] paths::filestat_get;
    path_filestat_set_times "iiiiIIi" ["openat" "utimensat"] paths::filestat_set_times;
    path_link "iiiiiii" ["linkat" "openat"] links::link;
    path_open "iiiiiIIii" ["fstat" "openat"] paths::open;
    path_readlink "iiiiii" ["openat" "readlinkat"] links::readlink;
    path_remove_directory "iii" ["openat" "unlinkat"] paths::remove_directory;
    path_rename "iiiiii" ["openat" "renameat"] links::rename;
    path_symlink "iiiii" ["openat" "symlinkat"] links::symlink;
    path_unlink_file "iii" ["openat" "unlinkat"] paths::unlink_file;
    poll_oneoff "iiii" ["clock_gettime" "ioctl" "ppoll"] poll::oneoff;
    proc_exit "i" ["exit_group"] environment::proc_exit;
    proc_raise "i" [] environment::proc_raise;
    random_get "ii" ["getrandom"] environment::random_get;
    sched_yield "" ["sched_yield"] environment::sched_yield;
    sock_accept "iii" ["accept4"] socket::accept;
    sock_recv "iiiiii" ["recvmsg"] socket::recv;
    sock_send "iiiii" ["sendmsg"] socket::send;
    sock_shutdown "ii" ["shutdown"] socket::shutdown;
}

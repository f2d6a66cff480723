//! `cargo xtask suite python`: CPython's own tests (Debian's libpython3.11-testsuite) on Debian's python3.11, module by module.
//!
//! Owns which modules run, and what a case is: one test method, or the exit status of a module. The fact a newcomer gets wrong: tests that skip or fail natively (no network, no OpenSSL, no GUI in this image) cost nothing
//! but time, since only what passes natively counts; a module that dies takes all its cases with it, so each has an interpreter of its own.

use super::scripted::{self, Scripted};
use super::verdict::Verdict;
use crate::{process, rootfs};
use anyhow::ensure;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the standard library's modules and their tests load. OpenSSL is not among them: `hashlib` then uses its own code, which is the one to test here, and `ssl` is mostly network.
const PACKAGES: &[&str] = &[
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libpython3.11-testsuite",
    "libexpat1",
    "libffi8",
    "libncursesw6",
    "libreadline8",
    "libsqlite3-0",
    "media-types",
    "zlib1g",
];
const MODULES: &str = "usr/lib/python3.11/lib-dynload";
/// Extension modules whose libraries are not in the image.
const WITHOUT_LIBRARY: &[&str] = &["_hashlib.", "_ssl.", "nis."];
const PROGRAMS: &str = "awk bash cat chmod cp cut dash date echo env false getent id ln ls mkdir mv rm sed setsid sleep tar timeout touch tr true tty uname wc";
/// By default: what exercises the interpreter, the standard library and the system calls, each module in a few seconds natively. Left out are modules that need a network, OpenSSL, a display, idle, lib2to3 or a compiler, and
/// those that take more than ten seconds: asyncio, concurrent_futures, multiprocessing, io, logging, subprocess and others that start hundreds of interpreters. `--all` runs everything.
const USUAL: &str = "__all__ __future__ _locale _opcode abc abstract_numbers aifc argparse array ast asyncgen atexit audioop audit augassign base64 baseexception bdb bigaddrspace binascii binop \
    bisect bool bufio builtin bytes bz2 c_locale_coercion calendar call capi charmapcodec class cmath cmd code code_module codeccallbacks codecencodings_cn codecencodings_jp codecencodings_kr \
    codecs codeop collections colorsys compare compile complex configparser contains context contextlib contextlib_async copy copyreg coroutines crypt csv ctypes dataclasses datetime dbm dbm_dumb \
    decimal decorators defaultdict deque descr descrtut dict dictcomps dictviews difflib dis doctest dynamic dynamicclassattribute eintr email enum enumerate eof epoll errno except_star \
    exception_group exception_hierarchy exception_variations exceptions extcall fcntl file filecmp fileinput fileio float flufl fnmatch fork1 format fractions frame frozen fstring funcattrs \
    functools future gc generator_stop generators genericalias genericclass genericpath genexps getopt getpath gettext glob global grammar graphlib grp gzip hash hashlib heapq hmac html htmlparser \
    imp importlib index inspect int int_literal ioctl ipaddress isinstance iter iterlen itertools json keyword keywordonlyarg largefile linecache list listcomps locale long longexp lzma marshal \
    math memoryio memoryview metaclass mimetypes minidom mmap module modulefinder multibytecodec named_expressions netrc ntpath numeric_tower opcodes openpty operator optparse ordered_dict os \
    pathlib patma peepholer pickle picklebuffer pickletools pipes pkg pkgutil platform plistlib poll popen positional_only_arg posix posixpath pow pprint print property pstats pty pulldom pwd \
    pyexpat queue quopri raise random range re readline reprlib resource richcmp rlcompleter sax sched scope select set setcomps shelve shlex shutil signal slice socketserver sort source_encoding \
    sqlite3 stat statistics strftime string string_literals stringprep strptime strtod struct structseq subclassinit sundry super symtable syntax sys sys_setprofile sys_settrace tempfile \
    textwrap thread threadedtempfile threading threading_local threadsignals time timeit tokenize trace traceback tuple type_annotations type_comments typechecks types typing ucn unary unicode \
    unicode_file unicode_identifiers unicodedata unittest univnewlines unpack unpack_ex urllib urlparse userdict userlist userstring utf8_mode utf8source uu uuid wait3 wait4 warnings wave weakref \
    weakset with wsgiref xdrlib xml_dom_minicompat xml_etree xml_etree_c yield_from zipapp zipfile zipimport zlib zoneinfo";
/// After `set`.
const DRIVER: &str = r##"
export LC_ALL=C.UTF-8
cd /tmp
[ "$1" != --all ] || set -- $(python3.11 -c 'from test.libregrtest.runtest import findtests; print(*findtests())')
for module; do
    rm -rf /tmp/report.xml
    timeout --kill-after=5 200 python3.11 -m test --junit-xml /tmp/report.xml $module > /tmp/printed 2>&1 < /dev/null
    result $module "exit $?" /tmp/printed
    [ -s /tmp/report.xml ] || continue
    sed 's/<testcase /\n&/g' /tmp/report.xml | awk -v module=$module '/^<testcase / {
        split($0, quoted, "\""); name = quoted[2]; gsub(/[^!-~]/, "_", name)
        word = match($0, /<(error|failure|skipped)/) ? substr($0, RSTART + 1, RLENGTH - 1) : "ok"
        seen[name]++
        print module "/" name (seen[name] > 1 ? "#" seen[name] : "") " " word
    }'
done
"##;

pub(super) fn run(cases: &[String], all: bool) -> anyhow::Result<Verdict> {
    let image = rootfs::copy(&rootfs::debian()?, "python-rootfs")?;
    scripted::tree(&image, "python", |_| install(&image))?;
    let mut programs = scripted::named(PROGRAMS);
    // The last two are what pthread_exit and ctypes.util.find_library look for.
    programs.extend(["/usr/bin/python3.11", "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1", "/usr/sbin/ldconfig"].map(str::to_owned));
    for entry in fs::read_dir(image.join(MODULES))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !WITHOUT_LIBRARY.iter().any(|w| name.starts_with(w)) {
            programs.push(format!("/{MODULES}/{name}"));
        }
    }
    let suite = Scripted::build("python", &image, &programs, DRIVER)?;
    let usual = || USUAL.split_whitespace().map(|m| format!("test_{m}")).collect();
    let chosen = match (cases.is_empty(), all) {
        (_, true) => vec!["--all".to_owned()],
        (true, false) => usual(),
        (false, false) => cases.to_vec(),
    };
    let verdict = suite.compare(&chosen, |r| r == "ok" || r == "exit 0")?;
    ensure!(!cases.is_empty() || verdict.passing > 9_000, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// The interpreter, its modules and their tests, compiled to bytecode once: the guest may not write beside them.
fn install(image: &Path) -> anyhow::Result<()> {
    for package in PACKAGES {
        rootfs::add_package(image, package)?;
    }
    // Some of the tests' files are no Python on purpose: the status says nothing.
    process::output(Command::new("chroot").arg(image).args(["/usr/bin/python3.11", "-m", "compileall", "-q", "-j2", "/usr/lib/python3.11"]))?;
    Ok(())
}

//! Layers as tools make them, and as attackers make them. Every refusal has a twin that differs in one detail and is applied.

use image::layer::{Applied, Budget, LayerError, apply, decompressed};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::{Builder, EntryType, Header};

/// A tar under construction; entries get exactly the bytes given, without the tar crate's own niceties.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn raw(mut self, kind: EntryType, path: &[u8], link: &[u8], data: &[u8], change: impl FnOnce(&mut Header)) -> Tar {
        let mut h = Header::new_gnu();
        h.as_old_mut().name[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        h.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        h.set_entry_type(kind);
        h.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        h.set_uid(0);
        h.set_gid(0);
        h.set_mtime(1_600_000_000);
        h.set_size(data.len() as u64);
        change(&mut h);
        h.set_cksum();
        self.0.extend_from_slice(h.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, data: &[u8]) -> Tar {
        self.raw(EntryType::Regular, path.as_bytes(), b"", data, |_| {})
    }

    fn dir(self, path: &str) -> Tar {
        self.raw(EntryType::Directory, path.as_bytes(), b"", b"", |_| {})
    }

    fn symlink(self, path: &str, to: &str) -> Tar {
        self.raw(EntryType::Symlink, path.as_bytes(), to.as_bytes(), b"", |_| {})
    }

    fn hard(self, path: &str, to: &str) -> Tar {
        self.raw(EntryType::Link, path.as_bytes(), to.as_bytes(), b"", |_| {})
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..).map(|digits| rest + digits).find(|l| l.to_string().len() + rest == *l).unwrap();
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw(EntryType::XHeader, b"pax", b"", &data, |_| {})
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A directory to unpack into, inside one that nothing may be written to.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        Place { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn apply(&self, tar: Tar) -> Result<Applied, LayerError> {
        let result = apply(&tar.end()[..], &self.root(), &mut Budget::default());
        assert_eq!(fs::read(self.dir.path().join("secret")).unwrap(), b"outside");
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 2, "something was written outside");
        result
    }

    fn refused(&self, tar: Tar, reason: &str) {
        let text = self.apply(tar).expect_err(reason).to_string();
        assert!(text.contains(reason), "{text:?} does not say {reason:?}");
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.at(path)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn files_links_modes_and_times_arrive() {
    let p = Place::new();
    let setuid = |h: &mut Header| h.set_mode(0o4755);
    let tar = Tar::default().dir("./").dir("./d").raw(EntryType::Regular, b"./d/su", b"", b"x", setuid).symlink("d/l", "/etc/passwd").hard("h", "./d/su");
    p.apply(tar).unwrap();
    let su = fs::metadata(p.at("d/su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.mtime(), su.nlink()), (0o4755, 1_600_000_000, 2));
    assert_eq!(fs::read_link(p.at("d/l")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::symlink_metadata(p.at("d/l")).unwrap().mtime(), 1_600_000_000);
    assert_eq!(fs::metadata(p.at("d")).unwrap().mtime(), 1_600_000_000, "set after its children");
}

#[test]
fn names_that_lead_out_are_refused_and_absolute_ones_mean_the_image() {
    let p = Place::new();
    for name in ["../secret", "a/../../secret", "..", "/../secret"] {
        p.refused(Tar::default().file(name, b"pwned"), "leads upwards");
    }
    p.apply(Tar::default().file("/secret", b"inside")).unwrap();
    assert_eq!(p.text("secret"), "inside");
}

#[test]
fn a_symlink_of_the_same_layer_is_no_way_and_one_of_a_lower_layer_stays_inside() {
    let p = Place::new();
    let out = p.dir.path().to_str().unwrap().to_owned();
    p.refused(Tar::default().symlink("a", &out).file("a/secret", b"pwned"), "leads through the symlink /a of the same layer");
    p.refused(Tar::default().dir("u").symlink("u/b", "..").file("u/b/x/y", b"pwned"), "of the same layer");
    p.refused(Tar::default().symlink("w", &out).file("w/.wh.secret", b""), "of the same layer");
    p.refused(Tar::default().symlink("h", &out).hard("h2", "h/secret"), "of the same layer");
    let q = Place::new();
    q.apply(Tar::default().dir("usr").dir("usr/lib").symlink("lib", "usr/lib").symlink("out", "../../../../").symlink("gone", "/nowhere")).unwrap();
    q.apply(Tar::default().file("lib/f", b"1").file("out/secret", b"inside")).unwrap();
    assert_eq!((q.text("usr/lib/f"), q.text("secret")), ("1".into(), "inside".into()));
    q.refused(Tar::default().file("gone/f", b"1"), "is not a directory");
    // The link itself is replaced, not what it points to.
    q.apply(Tar::default().file("lib", b"plain")).unwrap();
    assert_eq!((q.text("lib"), q.text("usr/lib/f")), ("plain".into(), "1".into()));
}

#[test]
fn a_file_is_replaced_and_never_written_through() {
    let p = Place::new();
    p.apply(Tar::default().file("a", b"old").hard("b", "a").symlink("s", "a")).unwrap();
    p.apply(Tar::default().file("a", b"new").file("s", b"own")).unwrap();
    assert_eq!((p.text("a"), p.text("b"), p.text("s")), ("new".into(), "old".into(), "own".into()));
    p.apply(Tar::default().dir("a").file("a/x", b"1")).unwrap();
    p.apply(Tar::default().symlink("a", "b")).unwrap();
    assert_eq!(p.text("a"), "old");
}

#[test]
fn whiteouts_hide_lower_layers_only_wherever_they_stand() {
    let p = Place::new();
    p.apply(Tar::default().dir("d").file("d/low", b"1").file("d/both", b"1").dir("d/sub").file("d/sub/low", b"1").file("gone", b"1")).unwrap();
    let done = p
        .apply(Tar::default().file("d/both", b"2").file("d/sub/new", b"2").file("d/.wh..wh..opq", b"").file(".wh.gone", b"").file(".wh.never", b"").file("no/.wh.where", b""))
        .unwrap();
    assert_eq!((p.names("d"), p.names("d/sub"), p.names("")), (vec!["both".into(), "sub".into()], vec!["new".into()], vec!["d".to_owned()]));
    assert_eq!((p.text("d/both"), done.removed), ("2".into(), 3));
    // A directory removed and made again in one layer keeps what this layer put into it.
    p.apply(Tar::default().dir("d").file("d/again", b"3").file(".wh.d", b"")).unwrap();
    assert_eq!(p.names("d"), ["again"]);
    p.apply(Tar::default().file(".wh.d", b"").file(".wh..wh.plnk", b"")).unwrap();
    assert!(p.names("").is_empty());
    for name in [".wh.", ".wh..", ".wh..."] {
        p.refused(Tar::default().file(name, b""), "removes nothing");
    }
}

#[test]
fn entries_that_stand_twice_are_refused_but_directories_may() {
    let p = Place::new();
    p.apply(Tar::default().dir("d").file("d/x", b"1").dir("d")).unwrap();
    assert_eq!(p.text("d/x"), "1");
    for second in [
        Tar::default().file("f", b"1").file("./f", b"2"),
        Tar::default().symlink("s", "x").file("s", b"2"),
        Tar::default().file("e/x", b"1").file("e", b"2"),
        Tar::default().file("g", b"").dir("g"),
    ] {
        p.refused(second, "stands twice");
    }
}

#[test]
fn hard_links_lead_to_files_of_the_image() {
    let p = Place::new();
    p.apply(Tar::default().dir("d").file("d/f", b"1").symlink("s", "/etc/passwd")).unwrap();
    p.apply(Tar::default().hard("l", "/d/f").hard("t", "s")).unwrap();
    assert!(p.text("l") == "1" && fs::symlink_metadata(p.at("t")).unwrap().is_symlink(), "a hard link to a symlink is the symlink");
    for (target, reason) in [("../secret", "leads upwards"), ("nowhere", "is not there"), ("d", "is a directory"), ("x", "link itself"), ("", "link target is empty")] {
        let tar = if target == "x" { p.apply(Tar::default().file("x", b"")).map(|_| Tar::default().hard("x", "x")).unwrap() } else { Tar::default().hard("n", target) };
        p.refused(tar, reason);
    }
}

#[test]
fn archives_that_lie_about_sizes_are_refused() {
    let p = Place::new();
    let good = Tar::default().file("f", b"12345").end();
    assert!(apply(&good[..], &p.root(), &mut Budget::default()).is_ok());
    for cut in [100, 512, 515] {
        let error = apply(&good[..cut], &Place::new().root(), &mut Budget::default()).unwrap_err().to_string();
        assert!(error.contains("cut off"), "{cut}: {error}");
    }
    p.refused(Tar::default().raw(EntryType::Regular, b"g", b"", b"", |h| h.set_size(1 << 30)), "cut off");
    p.refused(Tar::default().raw(EntryType::Regular, b"g", b"", b"", |h| h.set_size(1 << 40)), "more than");
    p.refused(Tar::default().raw(EntryType::Regular, b"g", b"", b"", |h| h.set_size(1 << 60)), "larger than 8 TiB");
    p.refused(Tar::default().raw(EntryType::GNULongName, b"L", b"", b"", |h| h.set_size(1 << 40)), "larger than 1 MiB");
    p.refused(Tar::default().pax(&[("size", b"99999999999999999999")]).file("g", b""), "malformed");
    let mut bad = Tar::default().file("g", b"").end();
    bad[0] ^= 1;
    assert!(apply(&bad[..], &p.root(), &mut Budget::default()).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn bombs_end_at_the_budget_whatever_layer_they_hide_in() {
    let p = Place::new();
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut bomb = Tar::default().raw(EntryType::Regular, b"bomb", b"", b"", |h| h.set_size(100 << 20)).0;
    bomb.resize(100 << 20, 0);
    zip.write_all(&bomb).unwrap();
    let packed = zip.finish().unwrap();
    assert!(packed.len() < 200_000);
    let unpack = |limit| apply(decompressed(&packed[..]).unwrap(), &p.root(), &mut Budget::new(limit));
    assert!(matches!(unpack(10 << 20), Err(LayerError::TooManyBytes { limit }) if limit == 10 << 20));
    // Links have no data, so what follows them is read as headers: zeros, the end. What is drained counts as well.
    let mut drained = Tar::default().dir("d").end();
    drained.resize(20 << 20, 7);
    assert!(matches!(apply(&drained[..], &p.root(), &mut Budget::new(10 << 20)), Err(LayerError::TooManyBytes { .. })));
    let mut shared = Budget::new(3 << 20);
    let two = Tar::default().file("a", &vec![1; 1 << 20]).end();
    assert!(apply(&two[..], &Place::new().root(), &mut shared).is_ok() && apply(&two[..], &Place::new().root(), &mut shared).is_ok());
    assert!(apply(&two[..], &Place::new().root(), &mut shared).is_err());
}

#[test]
fn sparse_files_of_all_layers_have_a_budget_of_their_own() {
    let sparse = |size: &[u8]| Tar::default().pax(&[("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", size)]).file("s", b"12345").end();
    let apply = |layer: Vec<u8>, budget: &mut Budget| apply(&layer[..], &Place::new().root(), budget);
    let mut budget = Budget::new(1 << 20);
    apply(sparse(b"2097152"), &mut budget).unwrap();
    apply(sparse(b"2097152"), &mut budget).unwrap();
    assert!(matches!(apply(sparse(b"5"), &mut budget), Err(LayerError::TooManySparseBytes { limit, .. }) if limit == 4 << 20));
    let error = apply(sparse(b"900000000"), &mut Budget::new(1_000_000)).unwrap_err().to_string();
    assert!(error.contains("4000000 bytes, 4 times what --max-bytes allows"), "{error}");
    apply(Tar::default().file("f", &[1; 5]).end(), &mut budget).unwrap();
}

#[test]
fn long_names_xattrs_owners_and_fractions_come_from_extended_headers() {
    let p = Place::new();
    let long = format!("{}/{}", "n".repeat(200), "m".repeat(200));
    let gnu = [long.as_bytes(), b"\0"].concat();
    p.apply(Tar::default().raw(EntryType::GNULongName, b"././@LongLink", b"", &gnu, |_| {}).file("short", b"gnu")).unwrap();
    assert_eq!(p.text(&long), "gnu");
    let records: [(&str, &[u8]); 5] = [
        ("path", "ä/ü".as_bytes()),
        ("mtime", b"-1.25"),
        ("SCHILY.xattr.user.test", b"a\nb=c"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.redirect", b"/x"),
    ];
    let done = p.apply(Tar::default().pax(&records).file("x", b"pax")).unwrap();
    let m = fs::metadata(p.at("ä/ü")).unwrap();
    assert_eq!((m.mtime(), m.mtime_nsec()), (-2, 750_000_000));
    let mut value = [0; 16];
    let n = rustix::fs::lgetxattr(p.at("ä/ü"), "user.test", &mut value[..]).unwrap();
    assert_eq!((&value[..n], done.attributes_left_out), (&b"a\nb=c"[..], 2));
    p.refused(Tar::default().pax(&[("uid", b"4294967295")]).file("x", b""), "means nobody");
}

#[test]
fn devices_owners_and_capabilities_are_made_for_root() {
    assert!(is_root(), "this test needs root, as `cargo xtask test` does");
    let p = Place::new();
    let device = |major, minor| {
        move |h: &mut Header| {
            h.set_device_major(major).unwrap();
            h.set_device_minor(minor).unwrap();
            h.set_uid(1234);
        }
    };
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::default().raw(EntryType::Char, b"null", b"", b"", device(1, 3)).raw(EntryType::Block, b"disk", b"", b"", device(259, 70_000));
    let tar = tar.raw(EntryType::Fifo, b"fifo", b"", b"", device(0, 0));
    p.apply(tar.pax(&[("SCHILY.xattr.security.capability", &capability), ("uid", b"77777")]).file("cap", b"x")).unwrap();
    let null = fs::symlink_metadata(p.at("null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == rustix::fs::makedev(1, 3) && null.uid() == 1234);
    let disk = fs::symlink_metadata(p.at("disk")).unwrap();
    assert!(disk.file_type().is_block_device() && disk.rdev() == rustix::fs::makedev(259, 70_000) && disk.uid() == 1234);
    assert!(fs::symlink_metadata(p.at("fifo")).unwrap().file_type().is_fifo());
    assert_eq!(fs::metadata(p.at("cap")).unwrap().uid(), 77777);
    let mut value = [0; 64];
    assert_eq!(rustix::fs::lgetxattr(p.at("cap"), "security.capability", &mut value[..]), Ok(20), "a change of owner clears it, so it comes last");
    p.refused(Tar::default().raw(EntryType::Char, b"wh", b"", b"", device(0, 0)), "overlayfs");
    p.refused(Tar::default().raw(EntryType::new(b'Z'), b"odd", b"", b"", |_| {}), "entry type 'Z'");
}

/// GNU tar's own sparse formats, read by this reader and by GNU tar.
#[test]
fn sparse_files_of_gnu_tar_keep_their_bytes_and_holes() {
    let source = tempfile::tempdir().unwrap();
    let file = fs::File::create(source.path().join("sparse")).unwrap();
    file.set_len(300 << 20).unwrap();
    for at in (0u64..40).map(|i| i * (7 << 20) + 4096) {
        std::os::unix::fs::FileExt::write_all_at(&file, at.to_string().repeat(100).as_bytes(), at).unwrap();
    }
    let sum = |path: &Path| Command::new("sha256sum").stdin(fs::File::open(path).unwrap()).output().unwrap().stdout;
    let expected = sum(&source.path().join("sparse"));
    for format in [&["--format=gnu"][..], &["--format=posix", "--sparse-version=1.0"], &["--format=posix", "--sparse-version=0.1"]] {
        let out = Command::new("tar").args(format).args(["--sparse", "-cf", "-", "-C"]).arg(source.path()).arg("sparse").output().unwrap();
        assert!(out.status.success() && out.stdout.len() < 10 << 20);
        let p = Place::new();
        apply(&out.stdout[..], &p.root(), &mut Budget::new(80 << 20)).unwrap();
        assert_eq!(sum(&p.at("sparse")), expected, "{format:?}");
        assert!(fs::metadata(p.at("sparse")).unwrap().blocks() * 512 < 20 << 20, "{format:?}: holes stay holes");
    }
    let map = |text: &[u8]| Tar::default().pax(&[("GNU.sparse.map", text), ("GNU.sparse.size", b"100")]).file("s", b"12345");
    Place::new().apply(map(b"0,2,50,3")).unwrap();
    for text in [&b"0,2,50,4"[..], b"0,2,1,3", b"0,2,98,3", b"0,2,18446744073709551615,3", b"0,5,7"] {
        assert!(Place::new().apply(map(text)).is_err(), "{}", text.escape_ascii());
    }
}

/// Past 8 GiB a size has no place in a header's eleven octal digits. Only holes are that large here.
#[test]
fn files_of_more_than_8_gib_keep_their_size_however_it_is_written() {
    const SIZE: u64 = (9 << 30) + 5;
    let source = tempfile::tempdir().unwrap();
    let file = fs::File::create(source.path().join("huge")).unwrap();
    file.set_len(SIZE).unwrap();
    let text = |file: &fs::File, at: u64| {
        let mut bytes = [0; 3];
        std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, at).unwrap();
        bytes
    };
    for (at, bytes) in [(0, b"one"), (5 << 30, b"two"), (SIZE - 3, b"end")] {
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).unwrap();
    }
    // GNU's own format has the size in base 256, the others in a PAX record.
    for format in [&["--format=gnu"][..], &["--format=posix", "--sparse-version=1.0"], &["--format=posix", "--sparse-version=0.1"]] {
        let out = Command::new("tar").args(format).args(["--sparse", "-cf", "-", "-C"]).arg(source.path()).arg("huge").output().unwrap();
        assert!(out.status.success() && out.stdout.len() < 1 << 20, "{}", String::from_utf8_lossy(&out.stderr));
        let p = Place::new();
        apply(&out.stdout[..], &p.root(), &mut Budget::default()).unwrap();
        let got = fs::File::open(p.at("huge")).unwrap();
        assert_eq!(got.metadata().unwrap().len(), SIZE, "{format:?}");
        assert_eq!([0, 4 << 30, 5 << 30, SIZE - 3].map(|at| text(&got, at)), [*b"one", [0; 3], *b"two", *b"end"], "{format:?}");
        assert!(got.metadata().unwrap().blocks() * 512 < 1 << 20, "{format:?}: holes stay holes");
    }
}

/// A plain file's size in base 256, which the fields of uid and gid share.
#[test]
fn numbers_in_base_256_are_what_their_octal_twins_are() {
    let base_256 = |field: &mut [u8], value: u64| {
        field.fill(0);
        field[0] = 0x80;
        let at = field.len() - 4;
        field[at..].copy_from_slice(&u32::try_from(value).unwrap().to_be_bytes());
    };
    let p = Place::new();
    let other = |h: &mut Header| {
        base_256(&mut h.as_old_mut().size, 5);
        base_256(&mut h.as_old_mut().uid, 3_000_000);
    };
    p.apply(Tar::default().raw(EntryType::Regular, b"binary", b"", b"12345", other).raw(EntryType::Regular, b"octal", b"", b"12345", |h| h.set_uid(7))).unwrap();
    assert_eq!((p.text("binary"), p.text("octal")), ("12345".into(), "12345".into()));
    assert_eq!((fs::metadata(p.at("binary")).unwrap().uid(), fs::metadata(p.at("octal")).unwrap().uid()), (3_000_000, 7));
    // Nine GiB that do not follow.
    p.refused(Tar::default().raw(EntryType::Regular, b"g", b"", b"12345", |h| h.as_old_mut().size = [0x80, 0, 0, 0, 0, 0, 0, 2, 0x40, 0, 0, 0]), "cut off");
}

/// Every file with its facts, as one comparable value.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let out = Command::new("sh")
        .args(["-c", "cd \"$0\" && find . -printf '%P\\t%y %m %U %G %n %T@ %l\\n' && find . -type f -exec sha256sum {} +", root.to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines()
        .filter(|l| !l.starts_with('\t'))
        .enumerate()
        .map(|(i, l)| l.split_once('\t').map_or((format!("{l} {i}").split_once(' ').map(|x| x.0.to_owned()).unwrap() + l, String::new()), |(p, f)| (p.into(), f.into())))
        .collect()
}

#[test]
fn plain_gzip_and_zstd_give_what_gnu_tar_gives() {
    assert!(is_root(), "this test needs root, as `cargo xtask test` does");
    let source = tempfile::tempdir().unwrap();
    let script = "mkdir -p a/b c; echo one > a/one; ln a/one a/two; ln -s one a/three; mkfifo c/p; head -c 300000 /dev/urandom > a/b/r; chmod 2750 c; chown 12:34 a/one; touch -d 2001-02-03T04:05:06.789 a/b/r a c; mknod c/z c 1 5";
    assert!(Command::new("sh").args(["-ec", script]).current_dir(source.path()).status().unwrap().success());
    for flag in ["--no-auto-compress", "--gzip", "--zstd"] {
        let out = Command::new("tar").args(["--format=pax", "--xattrs", flag, "-cf", "-", "-C"]).arg(source.path()).arg(".").output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let p = Place::new();
        apply(decompressed(&out.stdout[..]).unwrap(), &p.root(), &mut Budget::default()).unwrap();
        assert_eq!(tree(&p.root()), tree(source.path()), "{flag}");
        let cut = &out.stdout[..out.stdout.len() - out.stdout.len() / 3];
        assert!(apply(decompressed(cut).unwrap(), &Place::new().root(), &mut Budget::default()).is_err(), "{flag}: cut off");
    }
    assert!(decompressed(&b"\xfd7zXZ\0rest"[..]).err().unwrap().to_string().contains("xz"));
}

/// What the fuzz target asks for, on a fixed set: no input may panic, hang or write outside.
#[test]
fn survives_damaged_archives() {
    let mut builder = Builder::new(Vec::new());
    for i in 0..3 {
        let mut h = Header::new_gnu();
        h.set_size(5);
        h.set_cksum();
        builder.append_data(&mut h, format!("{}/{i}", "long".repeat(40)), &b"12345"[..]).unwrap();
    }
    let seed =
        [Tar::default().dir("d").symlink("l", "..").hard("h", "d/x").pax(&[("path", b"p/q"), ("GNU.sparse.map", b"0,5")]).file("f", b"12345").0, builder.into_inner().unwrap()]
            .concat();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..3000 {
        let mut bytes = seed.clone();
        for _ in 0..4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = state as usize % bytes.len();
            bytes[at] = (state >> 32) as u8;
            // Repair the checksum half of the time, so that damage gets past it.
            if state & 1 == 0 {
                let block = at / 512 * 512;
                let sum = bytes[block..block + 512].iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum::<u32>();
                bytes[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let p = Place::new();
        let _ = apply(&bytes[..], &p.root(), &mut Budget::new(1 << 20));
        assert_eq!((fs::read(p.dir.path().join("secret")).unwrap(), fs::read_dir(p.dir.path()).unwrap().count()), (b"outside".to_vec(), 2));
        let _ = fs::set_permissions(p.root(), PermissionsExt::from_mode(0o700));
    }
}

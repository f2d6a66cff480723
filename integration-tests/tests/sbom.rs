//! SBOMs: the packages that dpkg itself names, and formats that their own projects' validators take.

use integration_tests::foreign::{json, sha256sum, text, verifier};
use integration_tests::tiny::Image;
use integration_tests::{Setup, show};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The test image of Debian.
fn debian() -> PathBuf {
    Setup::get().rootfs
}

fn sbom(image: &Image, format: &str, include: &[&str]) -> Value {
    let rootfs = debian().display().to_string();
    let file = format!("sbom.{format}.json");
    image.ok(&[&["sbom", "--rootfs", &rootfs, "--format", format, "--output", &file, "--include"], include].concat());
    json(&image.at(&file))
}

const PROGRAMS: [&str; 4] = ["/bin/bash", "/usr/bin/ls", "/usr/bin/sh", "/usr/bin/ldd"];

/// The package that dpkg itself says owns a file.
fn dpkg_owner(path: &str) -> Option<String> {
    // Its database has the names of before the merge of /usr.
    let old = path.strip_prefix("/usr").filter(|p| ["/bin/", "/sbin/", "/lib/", "/lib64/"].iter().any(|d| p.starts_with(d)));
    [Some(path), old].into_iter().flatten().find_map(|p| {
        let out = Command::new("dpkg-query").arg(format!("--admindir={}", debian().join("var/lib/dpkg").display())).args(["-S", p]).output().expect("dpkg is installed");
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().filter(|l| !l.starts_with("diversion ")).find_map(|l| Some(l.strip_suffix(&format!(": {p}"))?.split(':').next()?.to_owned()))
    })
}

#[test]
fn an_sbom_gives_each_file_the_package_that_dpkg_gives_it() {
    let image = Image::made(Setup::recompiler());
    let bom = sbom(&image, "cyclonedx", &PROGRAMS);
    let mut owned = 0;
    for component in bom["components"].as_array().unwrap() {
        for file in component["components"].as_array().into_iter().flatten() {
            assert_eq!(dpkg_owner(text(file, "/name")).as_deref(), Some(text(component, "/name")), "{}", text(file, "/name"));
            owned += 1;
        }
        if component["type"] == "file" {
            assert_eq!(dpkg_owner(text(component, "/name")), None);
        }
    }
    assert!(owned >= 6, "{bom:#}");
    let libc = bom["components"].as_array().unwrap().iter().find(|c| c["name"] == "libc6").unwrap();
    let out = Command::new("dpkg-query").arg(format!("--admindir={}", debian().join("var/lib/dpkg").display())).args(["-W", "-f", "${Version}", "libc6"]).output().unwrap();
    assert_eq!(text(libc, "/version").as_bytes(), out.stdout);
    assert!(text(libc, "/purl").starts_with("pkg:deb/debian/libc6@2.36-") && text(libc, "/purl").ends_with("?arch=amd64&distro=debian-12"), "{libc:#}");
    // The same says SPDX, in its own words.
    let spdx = sbom(&image, "spdx", &PROGRAMS);
    let relations: Vec<[&str; 3]> =
        spdx["relationships"].as_array().unwrap().iter().map(|r| ["/spdxElementId", "/relationshipType", "/relatedSpdxElement"].map(|p| text(r, p))).collect();
    let id = |list: &str, key: &str, name: &str| spdx[list].as_array().unwrap().iter().find(|e| e[key] == name).map(|e| text(e, "/SPDXID").to_owned()).unwrap();
    let (ls, coreutils) = (id("files", "fileName", "./usr/bin/ls"), id("packages", "name", "coreutils"));
    assert!(relations.contains(&[&ls, "OTHER", &coreutils]), "{spdx:#}");
    let sha256 = |file: &Value| file["checksums"].as_array().unwrap().iter().find(|c| c["algorithm"] == "SHA256").map(|c| text(c, "/checksumValue").to_owned()).unwrap();
    let row = spdx["files"].as_array().unwrap().iter().find(|f| f["fileName"] == "./usr/bin/ls").unwrap();
    assert_eq!(sha256(row), sha256sum(&debian().join("usr/bin/ls")));
}

/// A package that owns /bin/moving and so many files more that its header needs pages of its own, and enough small ones for a tree of several levels.
fn spec() -> String {
    let files: String = (0..4000).map(|n| format!("/usr/share/tiny/file-{n}\n")).collect();
    let small: String = (0..60).map(|n| format!("%package p{n}\nSummary: small\n%description p{n}\nsmall\n%files p{n}\n")).collect();
    format!(
        "Name: tiny\nEpoch: 2\nVersion: 1.5~rc1\nRelease: 3\nSummary: tiny\nLicense: MIT AND Zlib\nURL: https://tiny.invalid\nVendor: Example\nBuildArch: noarch\n%description\ntiny\n%install\n\
         mkdir -p %{{buildroot}}/bin %{{buildroot}}/usr/share/tiny\ntouch %{{buildroot}}/bin/moving\ncd %{{buildroot}}/usr/share/tiny; for n in `seq 0 3999`; do :> file-$n; done\n\
         %files\n/bin/moving\n{files}{small}"
    )
}

fn rpm(image: &Image, args: &[&str]) -> String {
    let mut c = Command::new("rpm");
    c.arg("--root").arg(image.at("root")).args(["--dbpath", "/var/lib/rpm", "--define", "_db_backend sqlite"]).args(args);
    let out = c.output().expect("rpm is installed");
    assert!(out.status.success(), "{args:?}: {}", show(&out));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn rpms_own_database_gives_files_their_packages_and_a_damaged_one_is_an_error() {
    let image = Image::made(Setup::recompiler());
    fs::write(image.at("tiny.spec"), spec()).unwrap();
    let built = Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--define", "_build_id_links none", "--define"])
        .arg(format!("_topdir {}", image.at("b").display()))
        .arg(image.at("tiny.spec"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", show(&built));
    let packages: Vec<String> = fs::read_dir(image.at("b/RPMS/noarch")).unwrap().map(|e| e.unwrap().path().display().to_string()).collect();
    assert_eq!(packages.len(), 61);
    rpm(&image, &[&["-i", "--justdb", "--nodeps"][..], &packages.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    fs::create_dir_all(image.at("root/etc")).unwrap();
    fs::write(image.at("root/etc/os-release"), "ID=fedora\nVERSION_ID=41\n").unwrap();
    let sbom = ["sbom", "--rootfs", "root", "--include", "/bin/moving"];
    let bom: Value = serde_json::from_str(&image.ok(&sbom)).unwrap();
    // What rpm itself says of the file.
    let owner = rpm(&image, &["-q", "--qf", "%{NAME}|%{VERSION}-%{RELEASE}|%{ARCH}|%{EPOCH}|%{LICENSE}|%{VENDOR}", "-f", "/bin/moving"]);
    assert_eq!(owner, "tiny|1.5~rc1-3|noarch|2|MIT AND Zlib|Example");
    let component = &bom["components"][0];
    assert_eq!([text(component, "/name"), text(component, "/version"), text(component, "/publisher")], ["tiny", "1.5~rc1-3", "Example"]);
    assert_eq!(text(component, "/purl"), "pkg:rpm/fedora/tiny@1.5~rc1-3?arch=noarch&distro=fedora-41&epoch=2");
    assert_eq!((text(component, "/licenses/0/license/name"), text(component, "/components/0/name")), ("MIT AND Zlib", "/bin/moving"));
    // What is wrong with a database is an error: half of it would make an SBOM that looks whole.
    let path = image.at("root/var/lib/rpm/rpmdb.sqlite");
    let good = fs::read(&path).unwrap();
    let page = usize::from(u16::from_be_bytes([good[16], good[17]]));
    let with = |at: usize, bytes: &[u8]| [&good[..at], bytes, &good[at + bytes.len()..]].concat();
    for (damaged, expect) in [
        (good[..60].to_vec(), "is no SQLite database of rpm's: its header is cut off"),
        (with(0, b"x"), "begins like no database of rpm's (SQLite, ndb, hash file of Berkeley DB)"),
        (with(16, &[0, 3]), "it has no valid page size"),
        (with(59, &[2]), "its text is not UTF-8"),
        (with(100, &[0]), "page 1: is no page of a table"),
        (good[..page].to_vec(), "the file is cut off"),
        (good[..4 * page].to_vec(), "the file is cut off"),
        (replaced(&good, b"tablePackagesPackages", b"tableQackagesPackages"), "it has no table Packages"),
        // The first page is one of pointers: one to nowhere, one to itself.
        (with(112, &[0xff, 0xff]), "page 1: a cell lies outside of it"),
        (with(108, &[0, 0, 0, 1]), "page 1: is part of two things at once"),
        // A name that is a number.
        (replaced(&good, b"\x00\x00\x03\xe8\x00\x00\x00\x06", b"\x00\x00\x03\xe8\x00\x00\x00\x04"), "has a number where a text should be"),
    ] {
        fs::write(&path, damaged).unwrap();
        let line = image.refused(&sbom);
        assert!(line.contains("/var/lib/rpm/rpmdb.sqlite (inside the image): ") && line.contains(expect), "{expect}: {line}");
    }
    fs::write(&path, &good).unwrap();
    fs::write(image.at("root/var/lib/rpm/rpmdb.sqlite-wal"), "changes").unwrap();
    assert!(image.refused(&sbom).contains("has a write-ahead log beside it"));
    fs::remove_file(image.at("root/var/lib/rpm/rpmdb.sqlite-wal")).unwrap();
    image.ok(&sbom);
}

#[test]
fn older_databases_of_rpm_are_found_where_they_lie_and_what_is_none_is_a_warning() {
    let image = Image::made(Setup::recompiler());
    // Its packages are those of `tools/recompiler-build/tests/rpm.rs`, where each format is compared with what rpm says.
    let ndb = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/recompiler-build/tests/rpm/Packages.db")).unwrap();
    let sbom = ["sbom", "--rootfs", "root", "--include", "/bin/moving"];
    for (directory, name) in [("usr/lib/sysimage/rpm", "Packages.db"), ("var/lib/rpm", "Packages.db"), ("var/lib/rpm", "Packages")] {
        let (directory, path) = (image.at(&format!("root/{directory}")), image.at(&format!("root/{directory}/{name}")));
        fs::create_dir_all(&directory).unwrap();
        fs::write(&path, &ndb).unwrap();
        let bom: Value = serde_json::from_str(&image.ok(&sbom)).unwrap();
        assert_eq!((text(&bom["components"][0], "/name"), text(&bom["components"][0], "/version")), ("tiny", "1.5~rc1-3"), "{}", path.display());
        fs::write(&path, &ndb[..9000]).unwrap();
        assert!(image.refused(&sbom).contains("its blocks lie past the end: the file is cut off"), "{}", path.display());
        fs::write(&path, "something older").unwrap();
        let out = image.run(&sbom);
        let expect = "(inside the image): begins like no database of rpm's (SQLite, ndb, hash file of Berkeley DB)";
        assert!(show(&out).contains(expect) && out.status.success() == (name == "Packages"), "{}", show(&out));
        fs::remove_dir_all(&directory).unwrap();
    }
    // A newer one beside it counts.
    fs::create_dir_all(image.at("root/var/lib/rpm")).unwrap();
    fs::write(image.at("root/var/lib/rpm/Packages"), "something older").unwrap();
    fs::write(image.at("root/var/lib/rpm/Packages.db"), &ndb).unwrap();
    assert!(show(&image.run(&sbom)).contains("\"tiny\""));
}

/// An image as Alpine's are, with records as apk writes them, with what no SBOM needs; the people are made up.
fn alpine(database: &str) -> Image {
    let image = Image::made(Setup::recompiler());
    let text = "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:alpine-baselayout-data\nV:3.6.5-r0\nA:x86_64\nS:11650\nI:77824\nT:Alpine base dir structure and init scripts\n\
        U:https://git.alpinelinux.org/cgit/aports/tree/main/alpine-baselayout\nL:GPL-2.0-only\no:alpine-baselayout\nm:Ann Example <ann@alpine.invalid>\nt:1714981135\n\
        c:66187892e05b03a41d08e9acabd19b7576a1c875\nr:alpine-baselayout\nq:1000\nF:etc\nR:fstab\nZ:Q11Q7hNe8QpDS531guqCdrXBzoA/o=\nR:profile\nZ:Q1F3DgXUP+jNZDknmQPPb5t9FSfDg=\n\n\
        C:Q1gXXXXXXXXXXXXXXXXXXXXXXXXXX=\nP:busybox\nV:1.36.1-r29\nA:x86_64\nS:509600\nI:950272\nT:Size optimized toolbox of many common UNIX utilities\nU:https://busybox.net/\n\
        L:GPL-2.0-only\no:busybox\nm:Jörg Example <joerg+alpine@alpine.invalid>\nt:1718119264\nc:1747c01fb96905f101c25609011589d28e01cbb8\nk:100\nD:so:libc.musl-x86_64.so.1\n\
        p:cmd:busybox=1.36.1-r29\nr:busybox-initscripts\nF:bin\nR:busybox\na:0:0:755\nZ:Q1CEmcT8TB7BWi0rJXIvDkUbhpbVc=\nF:etc\nR:securetty\nF:usr\nF:usr/sbin\n\n\
        C:Q1dYYYYYYYYYYYYYYYYYYYYYYYYYY=\nP:musl\nV:1.2.5-r0\nA:x86_64\nS:411149\nI:667648\nT:the musl c library (libc) implementation\nU:https://musl.libc.org/\nL:MIT\no:musl\n\
        m:Päivi Example <paivi@alpine.invalid>\nt:1715015302\nc:ba51e4d6d7e6b2bc4c0f8e5ce5d5c9e8f2e4c4a4\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\nZ:Q1PNEwWbVqjnQHaxUuyMGYOnRNfLQ=\nR:libc.musl-x86_64.so.1\na:0:0:777\n\n";
    let put = |path: &str, bytes: &[u8]| {
        fs::create_dir_all(image.at("root").join(path).parent().unwrap()).unwrap();
        fs::write(image.at("root").join(path), bytes).unwrap();
    };
    put(database, text.as_bytes());
    put("etc/os-release", b"NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.20.3\nPRETTY_NAME=\"Alpine Linux v3.20\"\n");
    // Each with other bytes, or they were one file with several names.
    let program = fs::read(image.at("root/bin/moving")).unwrap();
    for path in ["bin/busybox", "lib/ld-musl-x86_64.so.1"] {
        put(path, &[&program[..], path.as_bytes()].concat());
    }
    std::os::unix::fs::symlink("ld-musl-x86_64.so.1", image.at("root/lib/libc.musl-x86_64.so.1")).unwrap();
    std::os::unix::fs::symlink("/bin/busybox", image.at("root/bin/sh")).unwrap();
    image
}

#[test]
fn files_of_an_alpine_image_have_the_packages_that_apks_database_gives_them() {
    for database in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
        let image = alpine(database);
        let made = |format: &str| -> Value { serde_json::from_str(&image.ok(&["sbom", "--rootfs", "root", "--format", format])).unwrap() };
        let bom = made("cyclonedx");
        let components = bom["components"].as_array().unwrap();
        let packages: Vec<[&str; 6]> = components
            .iter()
            .filter(|c| c["type"] != "file")
            .map(|c| ["/name", "/version", "/purl", "/publisher", "/licenses/0/license/name", "/components/0/name"].map(|p| text(c, p)))
            .collect();
        let purl = |package: &str| format!("pkg:apk/alpine/{package}?arch=x86_64&distro=alpine-3.20.3");
        assert_eq!(
            packages,
            [
                ["busybox", "1.36.1-r29", &purl("busybox@1.36.1-r29"), "Jörg Example <joerg+alpine@alpine.invalid>", "GPL-2.0-only", "/bin/busybox"],
                ["musl", "1.2.5-r0", &purl("musl@1.2.5-r0"), "Päivi Example <paivi@alpine.invalid>", "MIT", "/lib/ld-musl-x86_64.so.1"],
            ],
            "{database}: those with files in it"
        );
        let alone: Vec<&str> = components.iter().filter(|c| c["type"] == "file").map(|c| text(c, "/name")).collect();
        assert_eq!(alone, ["/bin/fixed", "/bin/moving", "/bin/script"], "of no package");
        // The same says SPDX, in its own words.
        let spdx = made("spdx");
        let row = |list: &str, key: &str, name: &str| spdx[list].as_array().unwrap().iter().find(|e| e[key] == name).unwrap_or_else(|| panic!("no {name} in {spdx:#}"));
        let related = |from: &Value, to: &Value| {
            let ids = [text(from, "/SPDXID"), text(to, "/SPDXID")];
            spdx["relationships"].as_array().unwrap().iter().any(|r| r["relationshipType"] == "OTHER" && [text(r, "/spdxElementId"), text(r, "/relatedSpdxElement")] == ids)
        };
        let (busybox, musl) = (row("packages", "name", "busybox"), row("packages", "name", "musl"));
        for (file, owner, other) in [("./bin/busybox", busybox, musl), ("./lib/ld-musl-x86_64.so.1", musl, busybox)] {
            let file = row("files", "fileName", file);
            assert!(related(file, owner) && !related(file, other), "{spdx:#}");
        }
        assert_eq!((text(musl, "/versionInfo"), text(musl, "/externalRefs/0/referenceLocator")), ("1.2.5-r0", &*purl("musl@1.2.5-r0")));
        assert_eq!(spdx["packages"].as_array().unwrap().len(), 3, "the image itself, and two");
    }
}

/// Everywhere: a database has old pages that are no longer part of anything.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let places: Vec<usize> = bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{from:?} is not there");
    places.iter().for_each(|at| changed[*at..*at + to.len()].copy_from_slice(to));
    changed
}

#[test]
fn an_sbom_is_the_same_each_time_and_dated_only_by_its_caller() {
    let image = Image::made(Setup::recompiler());
    let made = |format: &str, date: Option<&str>| {
        let mut c = Command::new(Setup::recompiler());
        c.args(["sbom", "--rootfs", "root", "--format", format]).current_dir(image.dir.path()).env_remove("SOURCE_DATE_EPOCH");
        c.envs(date.map(|d| ("SOURCE_DATE_EPOCH", d))).output().unwrap()
    };
    for (format, date) in [("cyclonedx", "\"timestamp\": \"2024-02-29T00:00:00Z\""), ("spdx", "\"created\": \"2024-02-29T00:00:00Z\"")] {
        let once = made(format, None);
        assert!(once.status.success() && once.stdout == made(format, None).stdout, "{}", show(&once));
        assert!(String::from_utf8(made(format, Some("1709164800")).stdout).unwrap().contains(date));
        assert!(!String::from_utf8(once.stdout).unwrap().contains("202"), "no date of today");
        let bad = made(format, Some("yesterday"));
        assert!(!bad.status.success() && show(&bad).contains("SOURCE_DATE_EPOCH is \"yesterday\""));
    }
}

#[test]
#[ignore = "needs packages of PyPI: cargo xtask suite signatures"]
fn the_projects_of_both_formats_find_sboms_valid_and_broken_ones_not() {
    let image = Image::made(Setup::recompiler());
    for (format, from, to) in [("cyclonedx", "\"SHA-256\"", "\"SHA-2\""), ("spdx", "\"DESCRIBES\"", "\"DESCRIBED_BY\"")] {
        sbom(&image, format, &PROGRAMS);
        let path = image.at(&format!("sbom.{format}.json"));
        let checked = verifier("sbom.py", &[Path::new(format), &path]);
        assert!(checked.status.success(), "{format}: {}", show(&checked));
        fs::write(&path, fs::read_to_string(&path).unwrap().replace(from, to)).unwrap();
        assert!(!verifier("sbom.py", &[Path::new(format), &path]).status.success(), "{format}");
    }
    // Packages of the other kinds: fields that dpkg does not know, and purls of their own.
    let fedora = Image::made(Setup::recompiler());
    fs::create_dir_all(fedora.at("root/var/lib/rpm")).unwrap();
    fs::create_dir_all(fedora.at("root/etc")).unwrap();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/recompiler-build/tests/rpm/Packages.db"), fedora.at("root/var/lib/rpm/Packages.db")).unwrap();
    fs::write(fedora.at("root/etc/os-release"), "ID=fedora\nVERSION_ID=41\n").unwrap();
    for (image, purl) in [(alpine("lib/apk/db/installed"), "pkg:apk/alpine/musl@"), (fedora, "pkg:rpm/fedora/tiny@")] {
        for format in ["cyclonedx", "spdx"] {
            let bom = image.ok(&["sbom", "--rootfs", "root", "--format", format]);
            assert!(bom.contains(purl), "{bom}");
            fs::write(image.at("bom.json"), bom).unwrap();
            let checked = verifier("sbom.py", &[Path::new(format), &image.at("bom.json")]);
            assert!(checked.status.success(), "{format} of {purl}: {}", show(&checked));
        }
    }
}

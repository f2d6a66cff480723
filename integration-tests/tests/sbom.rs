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
}

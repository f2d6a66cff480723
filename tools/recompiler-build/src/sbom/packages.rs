//! Package databases as text: dpkg's status files and apk's list of what is installed.
//!
//! Owns both grammars, read as hostile input: what does not fit is skipped, nothing fails. Refuses to own where the files lie (`installed`). The fact a newcomer gets wrong: dpkg's status also lists packages that are gone
//! (`deinstall ok config-files`); only those that are installed own files.

/// One installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// purl's type: deb, apk or rpm.
    pub kind: &'static str,
    pub name: String,
    pub version: String,
    /// rpm's: what is compared before the version.
    pub epoch: Option<String>,
    pub architecture: String,
    /// What it was built from.
    pub source: Option<String>,
    pub maintainer: Option<String>,
    pub homepage: Option<String>,
    /// As the database spells it; dpkg has none.
    pub licence: Option<String>,
    /// Paths it installed, where its own record has them.
    pub files: Vec<String>,
}

impl Package {
    /// The package URL (purl-spec).
    pub fn purl(&self, distribution: &str, release: &str) -> String {
        let distro = if release.is_empty() { String::new() } else { format!("&distro={}-{}", encoded(distribution), encoded(release)) };
        let epoch = self.epoch.as_ref().map(|e| format!("&epoch={}", encoded(e))).unwrap_or_default();
        format!("pkg:{}/{}/{}@{}?arch={}{distro}{epoch}", self.kind, encoded(distribution), encoded(&self.name), encoded(&self.version), encoded(&self.architecture))
    }
}

/// Percent-encoding as purl-spec wants it.
fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_~:".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The stanzas of a dpkg status file, or of a file of `status.d`, which has no states.
pub fn dpkg(text: &str) -> Vec<Package> {
    text.split("\n\n").filter_map(stanza).collect()
}

fn stanza(text: &str) -> Option<Package> {
    let field = |name: &str| {
        // Continuation lines begin with a blank, so they are no fields.
        let line = text.lines().find(|l| l.len() > name.len() && l.as_bytes()[name.len()] == b':' && l.as_bytes()[..name.len()].eq_ignore_ascii_case(name.as_bytes()))?;
        Some(line[name.len() + 1..].trim().to_owned()).filter(|v| !v.is_empty())
    };
    if field("Status").is_some_and(|s| s.split_whitespace().nth(2) != Some("installed")) {
        return None;
    }
    Some(Package {
        kind: "deb",
        name: field("Package")?,
        version: field("Version")?,
        epoch: None,
        architecture: field("Architecture")?,
        source: field("Source"),
        maintainer: field("Maintainer"),
        homepage: field("Homepage"),
        licence: None,
        files: Vec::new(),
    })
}

/// The records of apk's `installed`, each with its files.
pub fn apk(text: &str) -> Vec<Package> {
    text.split("\n\n").filter_map(record).collect()
}

fn record(text: &str) -> Option<Package> {
    let mut p = Package { kind: "apk", ..Package::default() };
    let mut directory = "";
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        match key {
            "P" => p.name = value.to_owned(),
            "V" => p.version = value.to_owned(),
            "A" => p.architecture = value.to_owned(),
            "L" => p.licence = Some(value.to_owned()),
            "o" => p.source = Some(value.to_owned()),
            "m" => p.maintainer = Some(value.to_owned()),
            "U" => p.homepage = Some(value.to_owned()),
            "F" => directory = value,
            "R" if directory.is_empty() => p.files.push(format!("/{value}")),
            "R" => p.files.push(format!("/{directory}/{value}")),
            _ => {}
        }
    }
    (!p.name.is_empty() && !p.version.is_empty() && !p.architecture.is_empty()).then_some(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkg_lists_what_is_installed_and_not_what_is_gone() {
        let text = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2+b~1\nSource: s (1)\nDescription: x\n Version: not this\n\nPackage: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\nPackage: half\n";
        let all = dpkg(text);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].purl("debian", "12"), "pkg:deb/debian/a@1:2%2Bb~1?arch=amd64&distro=debian-12");
        assert_eq!((all[0].source.as_deref(), &all[0].files[..]), (Some("s (1)"), &[][..]));
    }

    #[test]
    fn apk_gives_each_file_its_directory() {
        let all = apk("C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\nF:\nR:top\n\nP:broken\n");
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].files, ["/lib/ld-musl-x86_64.so.1", "/top"]);
        assert_eq!((all[0].purl("alpine", "3.20"), all[0].licence.as_deref()), ("pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20".into(), Some("MIT")));
    }

    #[test]
    fn no_text_of_any_kind_fails() {
        for text in ["", "\n\n\n", "Package", "Package:\nVersion:\n", ":::", "P:\n\nF:x", "é:\u{0}\n", "Pac\u{e9}age: x"] {
            assert!(dpkg(text).is_empty() && apk(text).is_empty(), "{text:?}");
        }
    }
}

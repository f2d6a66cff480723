//! Formats of things that run, by their first bytes.
//!
//! Owns the list of formats and their magic numbers. The fact a newcomer gets wrong: 0xCAFEBABE begins both Java classes and universal Mach-O files; the number after it, a version or a count, tells them apart.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    Elf,
    Script,
    /// Text marked executable without a `#!` line: `execvp` gives it to /bin/sh.
    TextProgram,
    Wasm,
    JavaClass,
    JavaArchive,
    PythonBytecode,
    LuaBytecode,
    LlvmBitcode,
    WindowsProgram,
    MachO,
    /// Marked executable, nothing known.
    Unknown,
}

impl Format {
    /// Why a build does not take it.
    pub(super) fn refusal(self) -> &'static str {
        match self {
            Format::Elf | Format::Script => "",
            Format::TextProgram => "is text without a #! line: the kernel does not start it, a shell would interpret it",
            Format::Wasm => "is a WebAssembly module: needs a polyfill entry",
            Format::JavaClass | Format::JavaArchive => "is Java code: it runs in a virtual machine that makes code",
            Format::PythonBytecode | Format::LuaBytecode => "is bytecode: the kernel does not start it, its interpreter reads it as data",
            Format::LlvmBitcode => "is compiler bitcode, not linked",
            Format::WindowsProgram => "is a Windows program",
            Format::MachO => "is a macOS program",
            Format::Unknown => "is marked executable, but of no known format",
        }
    }

    pub(super) fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// The format of a file by its beginning; `None` for plain data.
pub(super) fn detect(head: &[u8], path: &str, executable: bool) -> Option<Format> {
    let word = |at: usize| head.get(at..at + 4).map(|b| u32::from_be_bytes(b.try_into().expect("four bytes")));
    let known = match head {
        [0x7f, b'E', b'L', b'F', ..] => Format::Elf,
        [b'#', b'!', ..] if executable || looks_like_shebang(head) => Format::Script,
        [0, b'a', b's', b'm', ..] => Format::Wasm,
        [0xca, 0xfe, 0xba, 0xbe, ..] if word(4).is_some_and(|v| v & 0xffff >= 45) => Format::JavaClass,
        [0xca, 0xfe, 0xba, 0xbe, ..] | [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xce, 0xfa, 0xed, 0xfe, ..] => Format::MachO,
        [b'P', b'K', 3, 4, ..] if [".jar", ".war", ".ear"].iter().any(|e| path.ends_with(e)) => Format::JavaArchive,
        [_, _, b'\r', b'\n', ..] if path.ends_with(".pyc") => Format::PythonBytecode,
        [0x1b, b'L', b'u', b'a', ..] => Format::LuaBytecode,
        [b'B', b'C', 0xc0, 0xde, ..] => Format::LlvmBitcode,
        [b'M', b'Z', ..] if pe(head) => Format::WindowsProgram,
        _ if !executable || head.is_empty() => return None,
        _ if head.iter().all(|b| *b >= 0x20 || matches!(b, b'\n' | b'\t' | b'\r' | 0x0c)) => Format::TextProgram,
        _ => Format::Unknown,
    };
    Some(known)
}

/// Many data files begin with `#!`; scripts name an absolute interpreter.
fn looks_like_shebang(head: &[u8]) -> bool {
    head[2..].iter().find(|b| !matches!(b, b' ' | b'\t')) == Some(&b'/')
}

/// The header that e_lfanew points to, or that it lies beyond what was read.
fn pe(head: &[u8]) -> bool {
    let Some(at) = head.get(0x3c..0x40).map(|b| u32::from_le_bytes(b.try_into().expect("four bytes")) as usize) else { return false };
    head.get(at..at + 4).map_or(at < 4096, |b| b == b"PE\0\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_formats_by_their_first_bytes() {
        let of = |head: &[u8], path, executable| detect(head, path, executable);
        assert_eq!(of(b"\x7fELF\x02", "/x", false), Some(Format::Elf));
        assert_eq!(of(b"#! /bin/sh\n", "/x", false), Some(Format::Script));
        assert_eq!(of(b"#!not a path", "/x", false), None);
        assert_eq!(of(b"#!sh\n", "/x", true), Some(Format::Script));
        assert_eq!(of(b"\0asm\x01\0\0\0", "/x", false), Some(Format::Wasm));
        assert_eq!(of(&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 52], "/x", false), Some(Format::JavaClass));
        assert_eq!(of(&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 2], "/x", false), Some(Format::MachO));
        assert_eq!(of(b"PK\x03\x04", "/a.jar", false), Some(Format::JavaArchive));
        assert_eq!(of(b"PK\x03\x04", "/a.zip", false), None);
        assert_eq!(of(b"echo hi\n", "/x", true), Some(Format::TextProgram));
        assert_eq!(of(b"echo hi\n", "/x", false), None);
        assert_eq!(of(b"\x01\x02", "/x", true), Some(Format::Unknown));
        assert_eq!(of(b"MZ not it at all", "/x", false), None);
    }
}

//! What the build side needs to know of an ELF file, and which files are refused.
//!
//! Owns header, segment and dynamic-section facts of 64-bit x86-64 objects, read as hostile input. Does not look at instructions (`lift` does). The fact a newcomer gets wrong: ET_DYN says nothing about program or library; an
//! interpreter or DF_1_PIE makes a program, and libc.so.6 is both.

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use std::ops::Range;
use thiserror::Error;

type Header = elf::FileHeader64<LE>;

const PAGE_BYTES: u64 = 4096;

/// The kernel's own limit is one page of program headers; real files have about 14.
const MAX_SEGMENTS: usize = 64;

#[derive(Debug, Error)]
#[error("{path}: {reason}")]
pub struct ElfError {
    pub path: String,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub vaddr: u64,
    pub memsz: u64,
    pub filesz: u64,
    pub offset: u64,
    /// PROT_ bits.
    pub prot: u32,
}

#[derive(Clone, Debug, Default)]
pub struct ElfFacts {
    pub non_pie: bool,
    pub entry: u64,
    pub phdr: u64,
    pub phnum: u32,
    pub interpreter: Option<String>,
    pub executable_stack: bool,
    pub loads: Vec<Load>,
    pub align: u64,
    pub needed: Vec<String>,
    pub soname: Option<String>,
    pub rpath: Vec<String>,
    pub runpath: Vec<String>,
    /// DF_1_NODEFLIB: what it needs is not looked for in the default directories.
    pub no_default_directories: bool,
    pie: bool,
}

impl ElfFacts {
    /// Something execve can start. An entry address alone proves nothing: older linkers wrote one into every library.
    pub fn is_program(&self) -> bool {
        let linker = self.soname.as_deref().is_some_and(|s| s.starts_with("ld-linux") || s.starts_with("ld-musl"));
        let bare = self.soname.is_none() && self.needed.is_empty();
        self.non_pie || self.pie || self.interpreter.is_some() || (self.entry != 0 && (linker || bare))
    }

    /// Something the dynamic linker can load.
    pub fn is_library(&self) -> bool {
        !self.non_pie && !self.pie && (self.soname.is_some() || self.interpreter.is_none())
    }

    /// Bytes of the file that it wants executable.
    pub fn text_bytes(&self) -> u64 {
        self.loads.iter().filter(|l| l.prot & 4 != 0).map(|l| l.filesz).sum()
    }

    /// From the first to past the last byte in memory.
    pub fn span(&self) -> Range<u64> {
        let end = |l: &Load| l.vaddr + l.memsz;
        self.loads.first().map_or(0, |l| l.vaddr)..self.loads.last().map_or(0, end)
    }
}

/// Whether a file claims to be ELF.
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(&elf::ELFMAG)
}

/// Reads the facts, refusing what cannot be lifted or is not a well-formed file.
pub fn facts(path: &str, bytes: &[u8]) -> Result<ElfFacts, ElfError> {
    read(bytes).map_err(|reason| ElfError { path: path.into(), reason })
}

fn read(bytes: &[u8]) -> Result<ElfFacts, String> {
    identity(bytes)?;
    let malformed = |e: object::read::Error| format!("malformed or truncated ELF file ({e}): get it again");
    let header = Header::parse(bytes).map_err(malformed)?;
    let segments = header.program_headers(LE, bytes).map_err(malformed)?;
    if segments.len() > MAX_SEGMENTS {
        return Err(format!("has {} program headers, at most {MAX_SEGMENTS} are sensible", segments.len()));
    }
    let mut facts = ElfFacts { non_pie: header.e_type(LE) == elf::ET_EXEC, entry: header.e_entry(LE), phnum: segments.len() as u32, executable_stack: true, ..ElfFacts::default() };
    for s in segments {
        segment(s, bytes, &mut facts)?;
    }
    check_loads(&facts, bytes.len() as u64)?;
    facts.phdr = phdr_address(header.e_phoff(LE), &facts);
    if let Some((dynamic, strings)) = dynamic(segments, bytes, &facts)? {
        for d in dynamic {
            tag(d, strings, &mut facts)?;
        }
    }
    Ok(facts)
}

/// Class, machine and type, with the names people know them by.
fn identity(bytes: &[u8]) -> Result<(), String> {
    let byte = |i: usize| bytes.get(i).copied().ok_or("truncated in the ELF header: get it again".to_owned());
    let half = |i: usize| Ok::<_, String>(u16::from_le_bytes([byte(i)?, byte(i + 1)?]));
    if byte(4)? == elf::ELFCLASS32.0 {
        return Err("is a 32-bit program, only x86-64 is supported: leave it out".into());
    }
    if byte(5)? != elf::ELFDATA2LSB.0 {
        return Err("is big-endian, only x86-64 is supported: leave it out".into());
    }
    match elf::Machine(half(18)?) {
        elf::EM_X86_64 => {}
        elf::EM_AARCH64 => return Err("is an aarch64 program, only x86-64 is supported: take the amd64 image".into()),
        other => return Err(format!("is for machine {}, only x86-64 is supported: leave it out", other.0)),
    }
    match elf::FileType(half(16)?) {
        elf::ET_EXEC | elf::ET_DYN => Ok(()),
        elf::ET_REL => Err("is an object file, not linked: leave it out".into()),
        other => Err(format!("has ELF type {}, neither a program nor a shared object: leave it out", other.0)),
    }
}

fn segment(s: &elf::ProgramHeader64<LE>, bytes: &[u8], facts: &mut ElfFacts) -> Result<(), String> {
    match s.p_type(LE) {
        elf::PT_LOAD => {
            let flag = |elf_flag: elf::ProgramFlags, prot: u32| if s.p_flags(LE).0 & elf_flag.0 != 0 { prot } else { 0 };
            let prot = flag(elf::PF_R, 1) | flag(elf::PF_W, 2) | flag(elf::PF_X, 4);
            facts.loads.push(Load { vaddr: s.p_vaddr(LE), memsz: s.p_memsz(LE), filesz: s.p_filesz(LE), offset: s.p_offset(LE), prot });
            facts.align = facts.align.max(s.p_align(LE));
        }
        elf::PT_INTERP => {
            let data = s.data(LE, bytes).map_err(|()| "its interpreter's name lies outside the file")?;
            let name = data.strip_suffix(&[0]).filter(|n| !n.is_empty() && n.len() < 4096 && !n.contains(&0));
            let name = name.and_then(|n| std::str::from_utf8(n).ok()).ok_or("its interpreter's name is not a terminated path")?;
            facts.interpreter = Some(name.into());
        }
        elf::PT_GNU_STACK => facts.executable_stack = s.p_flags(LE).0 & elf::PF_X.0 != 0,
        _ => {}
    }
    Ok(())
}

fn check_loads(facts: &ElfFacts, file_bytes: u64) -> Result<(), String> {
    if facts.loads.is_empty() {
        return Err("has no loadable segment".into());
    }
    let mut end = 0;
    for (i, l) in facts.loads.iter().enumerate() {
        let past = |a: u64, b: u64, limit: u64| a.checked_add(b).is_none_or(|e| e > limit);
        if past(l.offset, l.filesz, file_bytes) {
            return Err(format!("segment {i} reaches past the end of the file: it is truncated"));
        }
        if past(l.vaddr, l.memsz, 1 << 32) || l.filesz > l.memsz {
            return Err(format!("segment {i} has impossible sizes"));
        }
        if l.vaddr < end {
            return Err(format!("segment {i} overlaps the one before or is out of order"));
        }
        if l.vaddr % PAGE_BYTES != l.offset % PAGE_BYTES {
            return Err(format!("segment {i} cannot be mapped: address and offset differ modulo the page size"));
        }
        if l.prot & 6 == 6 {
            return Err(format!("segment {i} is writable and executable, which is never allowed: relink it"));
        }
        end = l.vaddr + l.memsz;
    }
    let in_text = facts.loads.iter().any(|l| l.prot & 4 != 0 && (l.vaddr..l.vaddr + l.filesz).contains(&facts.entry));
    if facts.entry != 0 && !in_text {
        return Err(format!("its entry {:#x} is not in an executable segment", facts.entry));
    }
    Ok(())
}

/// AT_PHDR is where the headers are in memory, as the kernel computes it.
fn phdr_address(e_phoff: u64, facts: &ElfFacts) -> u64 {
    let holds = |l: &&Load| (l.offset..l.offset + l.filesz).contains(&e_phoff);
    facts.loads.iter().find(holds).map_or(0, |l| e_phoff - l.offset + l.vaddr)
}

type Dynamic<'a> = (&'a [elf::Dyn64<LE>], &'a [u8]);

/// The dynamic section and the string table it names, found through segments: section headers may be stripped.
fn dynamic<'a>(segments: &'a [elf::ProgramHeader64<LE>], bytes: &'a [u8], facts: &ElfFacts) -> Result<Option<Dynamic<'a>>, String> {
    let mut found = None;
    for s in segments {
        if let Some(d) = s.dynamic(LE, bytes).map_err(|_| "its dynamic section lies outside the file")? {
            found = Some(d);
        }
    }
    let Some(entries) = found else { return Ok(None) };
    let used = entries.iter().position(|d| d.tag(LE) == elf::DT_NULL).unwrap_or(entries.len());
    let entries = &entries[..used];
    let value = |tag: elf::DynamicTag| entries.iter().find(|d| d.tag(LE) == tag).map(|d| d.d_val(LE));
    let (Some(address), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else { return Ok(None) };
    let load = facts.loads.iter().find(|l| (l.vaddr..l.vaddr + l.filesz).contains(&address));
    let start = load.map(|l| (address - l.vaddr + l.offset) as usize).ok_or("its dynamic strings lie outside the file")?;
    let end = start.checked_add(size as usize).filter(|e| *e <= bytes.len()).ok_or("its dynamic strings lie outside the file")?;
    Ok(Some((entries, &bytes[start..end])))
}

fn tag(d: &elf::Dyn64<LE>, strings: &[u8], facts: &mut ElfFacts) -> Result<(), String> {
    let text = || {
        let rest = strings.get(d.d_val(LE) as usize..).ok_or("a dynamic string lies outside its table")?;
        let end = rest.iter().position(|b| *b == 0).ok_or("a dynamic string is not terminated")?;
        std::str::from_utf8(&rest[..end]).map(str::to_owned).map_err(|_| "a dynamic string is not UTF-8")
    };
    let list = |t: String| t.split(':').map(str::to_owned).collect();
    match d.tag(LE) {
        elf::DT_NEEDED => facts.needed.push(text()?),
        elf::DT_SONAME => facts.soname = Some(text()?),
        elf::DT_RPATH => facts.rpath = list(text()?),
        elf::DT_RUNPATH => facts.runpath = list(text()?),
        elf::DT_FLAGS_1 => {
            facts.pie = d.d_val(LE) & elf::DF_1_PIE.0 != 0;
            facts.no_default_directories = d.d_val(LE) & elf::DF_1_NODEFLIB.0 != 0;
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn reads_this_very_program() {
        let f = facts("self", &own()).unwrap();
        assert!(f.is_program() && !f.is_library() && !f.non_pie);
        assert!(f.needed.iter().any(|n| n == "libc.so.6"), "{:?}", f.needed);
        assert_eq!(f.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert!(!f.executable_stack && f.phdr == 64 && f.loads.len() >= 2);
    }

    #[test]
    fn refuses_other_machines_by_name() {
        for (at, value, word) in [(4, 1, "32-bit"), (18, 183, "aarch64"), (18, 40, "machine 40"), (16, 1, "object file"), (5, 2, "big-endian")] {
            let mut bytes = own();
            bytes[at] = value;
            let text = facts("f", &bytes).unwrap_err().to_string();
            assert!(text.contains(word) && text.starts_with("f: "), "{text}");
        }
    }

    #[test]
    fn refuses_a_file_cut_off_anywhere_in_its_segments() {
        let bytes = own();
        let end = facts("f", &bytes).unwrap().loads.iter().map(|l| l.offset + l.filesz).max().unwrap() as usize;
        for cut in [5, 20, 63, 64, 100, 5000, end / 2, end - 1] {
            assert!(facts("f", &bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn refuses_overlapping_and_writable_executable_segments() {
        let good = own();
        let headers = u64::from_le_bytes(good[32..40].try_into().unwrap()) as usize;
        let loads: Vec<usize> = (0..).map(|i| headers + 56 * i).take(20).filter(|h| good[*h..*h + 4] == [1, 0, 0, 0]).collect();
        let mut overlapping = good.clone();
        overlapping[loads[0] + 40..loads[0] + 48].copy_from_slice(&0x1000_0000u64.to_le_bytes());
        assert!(facts("f", &overlapping).unwrap_err().to_string().contains("overlaps"));
        let mut wx = good;
        for l in loads {
            wx[l + 4] = 7;
        }
        assert!(facts("f", &wx).unwrap_err().to_string().contains("writable and executable"));
    }

    #[test]
    fn survives_any_byte_of_the_headers_being_anything() {
        let good = own();
        for i in 0..1200 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good[..good.len().min(1 << 20)].to_vec();
                bad[i] = value;
                let _ = facts("f", &bad);
            }
        }
    }
}

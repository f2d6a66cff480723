//! What a worker tells of an exec's arguments: packed beside the question, where rules depend on them, and read by the supervisor. Owns that form, and what a guest's program gets of arguments and environment; decides nothing.
//!
//! The fact a newcomer gets wrong: these are the worker's own copies, made once, and the very ones the program will get, or those they become by its own row. The guest cannot change them between the decision and the start; a worker
//! that was taken over can tell what it likes, and then runs what it likes within its signed code anyway.

use policy::Verified;
use policy::arguments::{self, Arguments};
use policy::interpreter::{is_stripped, name_of};
use policy::manifest::Scripts;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};
use syscalls::{Argument, Refusal};

/// No more is told: who has not named a program by then is taken for one that names none.
const MOST_BYTES: usize = 64 << 10;
/// Length of everything, number of arguments, and whether these are all with, above that bit, the number of a descriptor and one.
const HEADER_BYTES: usize = 12;

/// What the supervisor is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub argv: Vec<Vec<u8>>,
    /// No argument is missing.
    pub whole: bool,
    /// Names of variables that some program of the release does not get.
    pub variables: Vec<Vec<u8>>,
    /// The descriptor in whose place the worker takes copies of scripts.
    pub place: Option<u32>,
}

/// What a release says of arguments and environments, on the worker's side.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    judged: bool,
    /// Scripts are, too, whatever program they are for.
    listed: bool,
    anywhere: BTreeSet<String>,
    /// By entry number, from 1.
    strip: Vec<BTreeSet<String>>,
    /// What becomes of arguments, where something does. By entry number.
    called: BTreeMap<u32, Arguments>,
}

impl Rules {
    pub fn of(verified: &Verified) -> Self {
        let m = verified.manifest();
        let anywhere = m.stripped_anywhere();
        let strip = |digest| m.binaries.get(&digest).and_then(|b| b.overrides.strip.clone()).unwrap_or_default();
        let strip = if anywhere.is_empty() { Vec::new() } else { m.entry_order().into_iter().map(strip).collect() };
        let called = m.binaries.values().filter(|b| !b.arguments.is_empty()).map(|b| (b.entry, b.arguments.clone())).collect();
        Self { called, judged: m.binaries.values().any(|b| m.judges_command(b)), listed: m.global_policies.scripts == Scripts::Listed, anywhere, strip }
    }

    /// Whether an answer may bring copies of scripts.
    pub fn judge_scripts(&self) -> bool {
        self.judged || self.listed
    }

    /// What to tell; nothing where no decision and no record depends on it.
    pub fn tell(&self, argv: &[CString], envp: &[CString], place: Option<BorrowedFd<'_>>) -> Option<Vec<u8>> {
        let names = || envp.iter().map(|v| name_of(v.to_bytes())).filter(|name| is_stripped(&self.anywhere, name));
        match self.judge_scripts() || (!self.anywhere.is_empty() && names().next().is_some()) {
            true => Some(pack(argv, names(), place.map(|fd| fd.as_raw_fd() as u32))),
            false => None,
        }
    }

    /// The arguments that the program of this entry number gets.
    pub fn arguments(&self, entry: u32, argv: Vec<CString>, on_terminal: bool) -> Result<Vec<Argument>, Refusal> {
        let Some(rules) = self.called.get(&entry) else { return Ok(argv.into_iter().map(Argument::Text).collect()) };
        let c = |bytes: Vec<u8>| CString::new(bytes).expect("parts of C strings, and of a manifest whose strings have no NUL");
        let suffixes = || rules.suffixes.iter().map(|suffix| c(suffix.clone().into_bytes())).collect();
        let words: Vec<&[u8]> = argv.iter().map(|a| a.to_bytes()).collect();
        let argument = |argument| match argument {
            arguments::Argument::Text(text) => Argument::Text(c(text)),
            arguments::Argument::File(name) => Argument::File { name: c(name), suffixes: suffixes() },
        };
        match rules.applied(&words, on_terminal) {
            Ok(all) => Ok(all.into_iter().map(argument).collect()),
            Err(refusal) => Err(Refusal { line: String::from_utf8_lossy(&refusal.line).into_owned(), status: refusal.status.into() }),
        }
    }

    /// The environment that the program of this entry number gets.
    pub fn environment(&self, entry: u32, mut envp: Vec<CString>) -> Vec<CString> {
        if let Some(patterns) = self.strip.get((entry as usize).wrapping_sub(1)) {
            envp.retain(|variable| !is_stripped(patterns, name_of(variable.to_bytes())));
        }
        envp
    }
}

fn pack<'a>(argv: &[CString], names: impl Iterator<Item = &'a [u8]>, place: Option<u32>) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    let mut told = 0u32;
    for argument in argv.iter().take_while(|a| a.to_bytes().len() < MOST_BYTES / 2) {
        if bytes.len() + argument.to_bytes().len() >= MOST_BYTES / 2 {
            break;
        }
        bytes.extend_from_slice(argument.to_bytes_with_nul());
        told += 1;
    }
    for name in names {
        if bytes.len() + name.len() < MOST_BYTES {
            bytes.extend_from_slice(name);
            bytes.push(0);
        }
    }
    let header = [bytes.len() as u32, told, u32::from(told as usize == argv.len()) | place.map_or(0, |number| (number + 1) << 1)];
    for (place, word) in bytes.chunks_exact_mut(4).zip(header) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Reads what `pack` made, from a sender who may have made anything. `read` gives at most so many bytes from its beginning.
pub fn unpack(read: impl Fn(usize) -> std::io::Result<Vec<u8>>) -> Option<Told> {
    let header = read(HEADER_BYTES).ok().filter(|h| h.len() == HEADER_BYTES)?;
    let word = |bytes: &[u8], i: usize| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().expect("four bytes")) as usize;
    let length = word(&header, 0);
    if !(HEADER_BYTES..=MOST_BYTES).contains(&length) {
        return None;
    }
    // The header may be another one by now: nothing but this copy counts.
    let bytes = read(length).ok().filter(|b| b.len() == length && b[..HEADER_BYTES] == header[..])?;
    let strings = bytes[HEADER_BYTES..].strip_suffix(b"\0").map(|all| all.split(|b| *b == 0).map(<[u8]>::to_vec).collect()).unwrap_or_default();
    let mut argv: Vec<Vec<u8>> = strings;
    let count = word(&header, 1);
    if count > argv.len() || (argv.is_empty() && length > HEADER_BYTES) {
        return None;
    }
    let variables = argv.split_off(count);
    let place = (word(&header, 2) as u32 >> 1).checked_sub(1);
    Some(Told { argv, whole: word(&header, 2) & 1 == 1, variables, place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn c(words: &[&str]) -> Vec<CString> {
        words.iter().map(|w| CString::new(*w).unwrap()).collect()
    }

    fn again(bytes: &[u8]) -> Option<Told> {
        unpack(|n| Ok(bytes[..n.min(bytes.len())].to_vec()))
    }

    fn rules() -> Rules {
        Rules {
            judged: true,
            listed: false,
            anywhere: BTreeSet::from(["LD_*".into(), "ENV".into()]),
            strip: vec![BTreeSet::new(), BTreeSet::from(["ENV".into()])],
            called: BTreeMap::new(),
        }
    }

    #[test]
    fn what_was_told_is_what_is_read_and_values_are_not_told() {
        let told = rules().tell(&c(&["sh", "", "-c", "x"]), &c(&["HOME=/", "ENV=secret", "LD_PRELOAD=a", "PATH=b"]), None).unwrap();
        assert!(!told.windows(6).any(|w| w == b"secret"));
        let expected = Told { argv: [&b"sh"[..], b"", b"-c", b"x"].map(<[u8]>::to_vec).into(), whole: true, variables: vec![b"ENV".to_vec(), b"LD_PRELOAD".to_vec()], place: None };
        assert_eq!(again(&told), Some(expected));
        assert_eq!(again(&rules().tell(&[], &[], None).unwrap()), Some(Told { whole: true, ..Told::default() }));
    }

    #[test]
    fn nothing_is_told_where_nothing_depends_on_it() {
        assert_eq!(Rules::default().tell(&c(&["sh"]), &c(&["LD_PRELOAD=a"]), None), None);
        let only_strips = Rules { judged: false, ..rules() };
        assert_eq!(only_strips.tell(&c(&["sh"]), &c(&["HOME=a"]), None), None);
        assert!(only_strips.tell(&c(&["sh"]), &c(&["ENV=a"]), None).is_some());
    }

    #[test]
    fn where_scripts_are_judged_the_place_for_copies_is_told() {
        let rules = Rules { listed: true, ..Rules::default() };
        assert!(rules.judge_scripts() && Rules { listed: false, judged: true, ..rules.clone() }.judge_scripts() && !Rules::default().judge_scripts());
        let file = std::fs::File::open("/dev/null").unwrap();
        let told = again(&rules.tell(&c(&["sh"]), &[], Some(file.as_fd())).unwrap()).unwrap();
        assert_eq!((told.place, told.whole), (Some(file.as_raw_fd() as u32), true));
    }

    #[test]
    fn a_program_lacks_the_variables_of_its_own_row_only() {
        let env = || c(&["ENV=a", "LD_PRELOAD=b", "ENV=c", "ENVY"]);
        assert_eq!(rules().environment(1, env()), env());
        assert_eq!(rules().environment(2, env()), c(&["LD_PRELOAD=b", "ENVY"]));
        assert_eq!((rules().environment(0, env()), rules().environment(3, env())), (env(), env()));
    }

    #[test]
    fn what_has_no_room_is_said_to_be_missing_and_forged_lengths_are_refused() {
        let long = "x".repeat(20_000);
        let told = again(&rules().tell(&c(&["a", &long, &long, "b"]), &c(&["ENV=1"]), None).unwrap()).unwrap();
        assert_eq!((told.argv.len(), told.whole, told.variables.len()), (2, false, 1));
        let good = rules().tell(&c(&["a", "b"]), &[], None).unwrap();
        for (at, value) in [(0, 0u32), (0, 11), (0, u32::MAX), (0, 1 << 17), (4, 3), (4, u32::MAX)] {
            let mut forged = good.clone();
            forged[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!(again(&forged), None, "{at} {value}");
        }
        assert_eq!(again(&good[..good.len() - 1]), None);
        assert_eq!(again(&[]), None);
    }
}

//! What a build says of the lists that it made from code (`"syscalls": "analysed"`).
//!
//! Owns which programs have one, which have not, and the words for why. How lists are made is `assemble`'s. The fact a newcomer gets wrong: a program without a bound is no failure of the build; it has the list that it would have
//! had without the analysis.

use policy::Manifest;
use policy::manifest::Binary;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Debug, Serialize)]
pub struct Lists {
    /// Path → number of calls.
    pub own: BTreeMap<String, usize>,
    /// Of the list that the others have.
    pub default_calls: usize,
    /// Path → why its code has no bound.
    pub default: BTreeMap<String, Unbounded>,
}

#[derive(Debug, Serialize)]
pub struct Unbounded {
    /// Places whose call is not known.
    pub unknown_sites: u64,
    /// It asks for code that no file names.
    pub opens_objects: bool,
}

impl Lists {
    pub fn of(m: &Manifest) -> Lists {
        let (own, default): (Vec<&Binary>, Vec<&Binary>) = m.binaries.values().partition(|b| b.overrides.without_default);
        let why = |b: &Binary| {
            let code = b.syscalls.as_ref().and_then(|s| s.read().ok()).unwrap_or_default();
            Unbounded { unknown_sites: code.reachable.unknown_sites, opens_objects: code.opens_objects }
        };
        Lists {
            own: own.iter().map(|b| (b.path.clone(), b.overrides.syscalls.len())).collect(),
            default_calls: m.global_policies.default_syscalls.len(),
            default: default.iter().map(|b| (b.path.clone(), why(b))).collect(),
        }
    }

    /// For people: one line, and one of each program without a bound.
    pub fn table(&self) -> String {
        let range = match (self.own.values().min(), self.own.values().max()) {
            (Some(least), Some(most)) => format!(" (of {least} to {most} system calls)"),
            _ => String::new(),
        };
        let all = self.own.len() + self.default.len();
        let mut out = format!("{} of {all} programs have lists of their own{range}, {} the default one (of {})\n", self.own.len(), self.default.len(), self.default_calls);
        for (path, why) in &self.default {
            let unknown = (why.unknown_sites > 0).then(|| format!("places whose call is not known: {}", why.unknown_sites));
            let opens = why.opens_objects.then(|| "it opens more objects".to_owned());
            let why = unknown.into_iter().chain(opens).collect::<Vec<_>>().join("; ");
            // Paths come from the image: no control characters for the terminal.
            let _ = writeln!(out, "  {}: {why}", path.escape_debug());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_without_a_bound_are_named_with_what_is_not_known() {
        let own = BTreeMap::from([("/bin/a".to_owned(), 7), ("/bin/b".to_owned(), 30)]);
        let default = BTreeMap::from([("/bin/c\n".to_owned(), Unbounded { unknown_sites: 2, opens_objects: true })]);
        let text = Lists { own, default_calls: 267, default }.table();
        let expected = "2 of 3 programs have lists of their own (of 7 to 30 system calls), 1 the default one (of 267)\n  /bin/c\\n: places whose call is not known: 2; it opens more objects\n";
        assert_eq!(text, expected);
    }
}

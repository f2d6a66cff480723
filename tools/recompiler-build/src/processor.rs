//! Which processors native code is made for: `--target` and `--cpu`.
//!
//! Owns the architectures, the levels and what each may use. Refuses to own the refusal of code that does not fit a host: that is `vkernel`'s, by the manifest, and the linker's, by the artifact. The fact a newcomer gets wrong: the lowest level of x86-64
//! is x86-64-v2, because the guest is shown SSE4.2 and POPCNT whatever the code around it was compiled for; and of AArch64's features wasmer knows one, so the others go to LLVM by name.

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use std::fmt;
use std::str::FromStr;
use wasmer::sys::{CpuFeature, Target, Triple};

/// What code is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Architecture {
    /// Every host that runs `vkernel` today.
    #[default]
    #[value(name = "x86_64-unknown-linux-gnu")]
    X86_64,
    /// Code only: `vkernel` does not run on such hosts yet.
    #[value(name = "aarch64-unknown-linux-gnu")]
    Aarch64,
}

impl Architecture {
    pub const ALL: [Architecture; 2] = [Architecture::X86_64, Architecture::Aarch64];

    /// As manifests name it.
    pub const fn triple(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64-unknown-linux-gnu",
            Architecture::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The one this program runs on.
    pub fn host() -> Architecture {
        if cfg!(target_arch = "aarch64") { Architecture::Aarch64 } else { Architecture::X86_64 }
    }

    pub(crate) fn named(triple: &str) -> anyhow::Result<Architecture> {
        Architecture::ALL.into_iter().find(|a| a.triple() == triple).with_context(|| format!("was compiled for {triple}, which this program does not know"))
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.triple())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Any processor that can run guests; of x86-64 from Nehalem and Bulldozer on.
    #[value(name = "x86-64-v2")]
    V2,
    /// With AVX2, BMI, FMA and LZCNT: from Haswell and Excavator on.
    #[value(name = "x86-64-v3")]
    V3,
    /// Any 64-bit Arm processor.
    #[value(name = "armv8-a")]
    Armv8,
    /// With atomic instructions (LSE) and CRC32: from Cortex-A55 and A75 on.
    #[value(name = "armv8.2-a")]
    Armv82,
    /// With acquiring loads (RCpc), dot products and half precision: from Neoverse N1 and Cortex-A76 on.
    #[value(name = "neoverse-n1")]
    NeoverseN1,
    /// The lowest of the target.
    #[value(name = "baseline")]
    Baseline,
    /// What the machine has that builds; others may lack some of it, and refuse the release.
    #[value(name = "native")]
    Native,
}

const V2: &[&str] = &["sse2", "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt"];
const V3: &[&str] = &["avx", "avx2", "bmi", "bmi2", "fma", "lzcnt"];
const ARMV8: &[&str] = &["neon"];
const ARMV82: &[&str] = &["crc", "lse", "rdm"];
const NEOVERSE_N1: &[&str] = &["dotprod", "fullfp16", "rcpc"];

impl Level {
    /// The lists of features of a level, if it is one of this architecture.
    fn features(self, architecture: Architecture) -> Option<Vec<String>> {
        let lists: &[&[&str]] = match (architecture, self) {
            (Architecture::X86_64, Level::V2 | Level::Baseline) => &[V2],
            (Architecture::X86_64, Level::V3) => &[V2, V3],
            (Architecture::Aarch64, Level::Armv8 | Level::Baseline) => &[ARMV8],
            (Architecture::Aarch64, Level::Armv82) => &[ARMV8, ARMV82],
            (Architecture::Aarch64, Level::NeoverseN1) => &[ARMV8, ARMV82, NEOVERSE_N1],
            (host, Level::Native) if host == Architecture::host() => return Some(CpuFeature::for_host().iter().map(|f| f.to_string()).collect()),
            _ => return None,
        };
        Some(lists.iter().flat_map(|list| list.iter().map(|f| (*f).to_owned())).collect())
    }

    fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }
}

/// An architecture, and the features of it that code may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processor {
    pub architecture: Architecture,
    /// In the manifest's spelling, sorted.
    features: Vec<String>,
}

impl Processor {
    /// What this program can run itself.
    pub fn native() -> Processor {
        let architecture = Architecture::host();
        Processor::new(architecture, Level::Native.features(architecture).expect("the host is of its own architecture"))
    }

    /// One processor per architecture, each with the one of `levels` that is its own. Without one, code for this machine's architecture is for this machine, and other code for every processor.
    pub fn all(architectures: &[Architecture], levels: &[Level]) -> anyhow::Result<Vec<Processor>> {
        let mut architectures = architectures.to_vec();
        architectures.sort();
        architectures.dedup();
        for level in levels {
            let fits = architectures.iter().any(|a| level.features(*a).is_some());
            let names: Vec<&str> = architectures.iter().map(|a| a.triple()).collect();
            let names = names.join(" or ");
            ensure!(
                fits || *level != Level::Native,
                "--cpu native is this machine's, which is no {names}: name a level (armv8-a, armv8.2-a, neoverse-n1), or leave --cpu out for the lowest"
            );
            ensure!(fits, "--cpu {} is no level of {names}: see --help for those there are", level.name());
        }
        let one = |architecture: Architecture| {
            let mut own = levels.iter().filter_map(|level| level.features(architecture));
            let default = if architecture == Architecture::host() { Level::Native } else { Level::Baseline };
            let features = own.next().or_else(|| default.features(architecture)).expect("the default is a level of its architecture");
            ensure!(own.next().is_none(), "--cpu is given twice for {architecture}: code is made for one processor of each kind");
            Ok(Processor::new(architecture, features))
        };
        architectures.into_iter().map(one).collect()
    }

    /// The one that artifacts were made for, by what a manifest says.
    pub fn named(triple: &str, features: &[String]) -> anyhow::Result<Processor> {
        let architecture = Architecture::named(triple)?;
        let processor = Processor::new(architecture, features.to_vec());
        let known = |f: &String| match architecture {
            Architecture::X86_64 => CpuFeature::from_str(f).is_ok_and(|feature| feature != CpuFeature::NEON),
            Architecture::Aarch64 => [ARMV8, ARMV82, NEOVERSE_N1].concat().contains(&f.as_str()),
        };
        if processor.features != features || !features.iter().all(known) {
            bail!("was compiled for processor features that this program does not know: {}", features.join(" "));
        }
        Ok(processor)
    }

    fn new(architecture: Architecture, mut features: Vec<String>) -> Processor {
        features.sort();
        Processor { architecture, features }
    }

    pub(crate) fn target(&self) -> Target {
        let triple = if self.architecture == Architecture::host() { Triple::host() } else { Triple::from_str(self.architecture.triple()).expect("a triple that is known") };
        let known: Vec<CpuFeature> = self.features.iter().filter_map(|name| name.parse().ok()).collect();
        Target::new(triple, known.into_iter().collect())
    }

    /// Those that wasmer has no name for.
    pub(crate) fn llvm_features(&self) -> Vec<String> {
        self.features.iter().filter(|name| CpuFeature::from_str(name).is_err()).cloned().collect()
    }

    /// In the manifest's spelling, sorted.
    pub fn features(&self) -> Vec<String> {
        self.features.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Architecture::{Aarch64, X86_64};

    fn one(architecture: Architecture, level: Level) -> Processor {
        Processor::all(&[architecture], &[level]).unwrap().remove(0)
    }

    #[test]
    fn levels_are_named_as_manifests_spell_features_and_come_back_from_there() {
        assert_eq!(one(X86_64, Level::V2).features(), ["popcnt", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3"]);
        assert_eq!(one(X86_64, Level::Baseline), one(X86_64, Level::V2));
        assert_eq!(one(X86_64, Level::V3).features(), ["avx", "avx2", "bmi", "bmi2", "fma", "lzcnt", "popcnt", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3"]);
        assert_eq!(one(Aarch64, Level::Baseline).features(), ["neon"]);
        assert_eq!(one(Aarch64, Level::Armv82).features(), ["crc", "lse", "neon", "rdm"]);
        let x86 = [Level::V2, Level::V3, Level::Native].map(|l| one(X86_64, l));
        let arm = [Level::Armv8, Level::Armv82, Level::NeoverseN1].map(|l| one(Aarch64, l));
        for processor in x86.iter().chain(&arm) {
            assert_eq!(&Processor::named(processor.architecture.triple(), &processor.features()).unwrap(), processor);
        }
        for (triple, bad) in [(X86_64, &["sse2", "later"][..]), (X86_64, &["sse3", "sse2"]), (X86_64, &["neon"]), (Aarch64, &["sse2"])] {
            assert!(Processor::named(triple.triple(), &bad.iter().map(ToString::to_string).collect::<Vec<_>>()).is_err());
        }
        assert!(Processor::named("riscv64-unknown-linux-gnu", &[]).is_err());
    }

    #[test]
    fn a_level_is_for_the_targets_it_fits() {
        let both = Processor::all(&[Aarch64, X86_64, Aarch64], &[Level::NeoverseN1]).unwrap();
        assert_eq!(both, [Processor::native(), one(Aarch64, Level::NeoverseN1)]);
        assert_eq!(Processor::all(&[Aarch64], &[]).unwrap(), [one(Aarch64, Level::Armv8)]);
        let refused = |targets: &[Architecture], levels: &[Level]| Processor::all(targets, levels).unwrap_err().to_string();
        assert!(refused(&[Aarch64], &[Level::Native]).contains("this machine's"));
        assert!(refused(&[Aarch64], &[Level::V2]).contains("x86-64-v2 is no level of aarch64"));
        assert!(refused(&[X86_64], &[Level::V2, Level::V3]).contains("twice"));
    }

    #[test]
    fn what_wasmer_has_no_name_for_goes_to_llvm() {
        assert_eq!(one(Aarch64, Level::NeoverseN1).llvm_features(), ["crc", "dotprod", "fullfp16", "lse", "rcpc", "rdm"]);
        assert!(Processor::native().llvm_features().is_empty());
    }
}

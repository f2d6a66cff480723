//! Which processor native code is made for: `--target` and `--cpu`.
//!
//! Owns the levels and what each may use. Refuses to own the refusal of code that does not fit a host: that is `vkernel`'s, by the manifest, and the linker's, by the artifact. The fact a newcomer gets wrong: the lowest level is x86-64-v2, because the guest is
//! shown SSE4.2 and POPCNT whatever the code around it was compiled for.

use crate::compile::TARGET;
use anyhow::ensure;
use clap::ValueEnum;
use wasmer::sys::{CpuFeature, Target, Triple};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Any processor that can run guests: from Nehalem and Bulldozer on.
    #[value(name = "x86-64-v2", alias = "baseline")]
    V2,
    /// With AVX2, BMI, FMA and LZCNT: from Haswell and Excavator on.
    #[value(name = "x86-64-v3")]
    V3,
    /// What the machine has that builds; others may lack some of it, and refuse the release.
    #[default]
    Native,
}

const V2: &[CpuFeature] = &[CpuFeature::SSE2, CpuFeature::SSE3, CpuFeature::SSSE3, CpuFeature::SSE41, CpuFeature::SSE42, CpuFeature::POPCNT];
const V3: &[CpuFeature] = &[CpuFeature::AVX, CpuFeature::AVX2, CpuFeature::BMI1, CpuFeature::BMI2, CpuFeature::FMA, CpuFeature::LZCNT];

/// The features that code may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processor(Target);

impl Processor {
    pub fn of(level: Level) -> Processor {
        let features = match level {
            Level::V2 => V2.iter().copied().collect(),
            Level::V3 => V2.iter().chain(V3).copied().collect(),
            Level::Native => CpuFeature::for_host(),
        };
        Processor(Target::new(Triple::host(), features))
    }

    /// The one that artifacts were made for, by the features a manifest gives.
    pub fn named(features: &[String]) -> anyhow::Result<Processor> {
        let known: Vec<CpuFeature> = features.iter().filter_map(|name| name.parse().ok()).collect();
        let processor = Processor(Target::new(Triple::host(), known.into_iter().collect()));
        ensure!(processor.features() == features, "was compiled for processor features that this program does not know: {}", features.join(" "));
        Ok(processor)
    }

    pub(crate) fn target(&self) -> Target {
        self.0.clone()
    }

    /// In the manifest's spelling, sorted.
    pub fn features(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.cpu_features().iter().map(|f| f.to_string()).collect();
        names.sort();
        names
    }
}

/// `--target`.
pub(crate) fn target(text: &str) -> Result<&'static str, String> {
    match text {
        TARGET => Ok(TARGET),
        _ if text.starts_with("aarch64") => Err(format!(
            "there is no code for aarch64: translated programs execute the x86 processor's own instructions (flags of arithmetic, exceptions, the state at GS), and make Linux's x86-64 system calls; vkernel runs on {TARGET} alone"
        )),
        _ => Err(format!("only {TARGET} can be built for")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_named_as_manifests_spell_features_and_come_back_from_there() {
        let names = |level| Processor::of(level).features();
        assert_eq!(names(Level::V2), ["popcnt", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3"]);
        assert_eq!(names(Level::V3), ["avx", "avx2", "bmi", "bmi2", "fma", "lzcnt", "popcnt", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3"]);
        for level in [Level::V2, Level::V3, Level::Native] {
            assert_eq!(Processor::named(&names(level)).unwrap(), Processor::of(level));
        }
        for bad in [&["sse2", "later"][..], &["sse3", "sse2"]] {
            assert!(Processor::named(&bad.iter().map(ToString::to_string).collect::<Vec<_>>()).is_err());
        }
    }
}

//! From an ELF file to a shard: the one public entry of the lifter.

use crate::analyse::returns::Endless;
use crate::analyse::{liveness, preserving};
use crate::certificate::{self, Certificate};
use crate::discover;
use crate::emit::{resumable, structured};
use crate::function::{DiscoveryStats, Function, Program};
use crate::image::{Image, ImageError};
use crate::language::Language;
use crate::module::{self, ModuleBuilder, blocks_section, entries_section};
use crate::registers::Effects;
use iced_x86::EncodingKind;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use syscalls::abi::import;

/// Changes with the lifter's source: part of every cache key.
pub const LIFTER_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-", env!("LIFTER_SOURCE"));

/// Why a file could not be lifted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name}: {source}")]
    Image { name: String, source: ImageError },
    #[error("{name}: address range {start:#x}..{end:#x} is not below the code limit {limit:#x}")]
    Placement { name: String, start: u64, end: u64, limit: u64 },
}

/// The two modules of one object, and what was found on the way.
pub struct Shard {
    pub structured: Vec<u8>,
    pub resumable: Vec<u8>,
    pub report: Report,
    pub certificate: Certificate,
}

/// Figures for `lift --report` and the manifest.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub functions: u64,
    /// Set if the object has the resumable form only.
    pub language: Option<Language>,
    pub discovery: DiscoveryStats,
    /// Instructions without semantics: count per mnemonic.
    pub gaps: BTreeMap<String, u64>,
    /// Each gap: guest address and text.
    pub gap_list: Vec<(u64, String)>,
    pub structured_bytes: u64,
    pub resumable_bytes: u64,
    /// Functions with loops of several entries, which take a selector.
    pub irreducible: u64,
    /// Functions that a guest may run, without the structured form: who calls one goes on in the resumable form.
    pub resumable_only: Vec<u64>,
}

/// Which functions get the structured form too; the resumable one all have. Functions without it are called through the dispatcher, and what called them goes on in the resumable form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Structured {
    #[default]
    All,
    /// Those of at most so many instructions.
    UpTo(usize),
    None,
}

impl Structured {
    fn includes(self, f: &Function) -> bool {
        match self {
            Structured::All => true,
            Structured::UpTo(limit) => f.blocks.values().map(|b| b.instructions.len()).sum::<usize>() <= limit,
            Structured::None => false,
        }
    }
}

/// Lifts the ELF file `bytes`, placed at guest address `base`, in both forms. `name` appears in errors only.
pub fn lift(bytes: &[u8], base: u64, name: &str) -> Result<Shard, Error> {
    lift_forms(bytes, base, name, Structured::All)
}

/// The same, with the structured form of some functions only.
pub fn lift_forms(bytes: &[u8], base: u64, name: &str, structured: Structured) -> Result<Shard, Error> {
    let (image, program) = discovered(bytes, base, name)?;
    let mut report = Report { functions: program.functions.len() as u64, language: program.language, discovery: program.stats.clone(), ..Report::default() };
    let resumable = resumable_module(&program, &mut report);
    let certificate = certificate::certify(&image, &program, &report.gap_list);
    let structured = match structured {
        Structured::None => no_structured_functions(),
        _ if program.language.is_some() => no_structured_functions(),
        wanted => {
            let endless = Endless::assumed(&program, &image);
            let exact = preserving::count_on_it(&program, &image);
            let functions = program.functions.into_iter().map(|(entry, f)| (entry, endless.cut(f))).collect();
            structured_module(&Program { functions, ..Program::default() }, |f| wanted.includes(f) && !exact.contains(&f.entry), &mut report)
        }
    };
    report.structured_bytes = structured.len() as u64;
    report.resumable_bytes = resumable.len() as u64;
    Ok(Shard { structured, resumable, report, certificate })
}

/// The certificate that `lift` would give, without making the shard.
pub fn certify(bytes: &[u8], base: u64, name: &str) -> Result<Certificate, Error> {
    let (image, program) = discovered(bytes, base, name)?;
    let functions: Vec<_> = program.functions.values().collect();
    let gaps: Vec<_> = functions.par_iter().flat_map_iter(|f| resumable::emit(f).body.2).collect();
    Ok(certificate::certify(&image, &program, &gaps))
}

fn discovered(bytes: &[u8], base: u64, name: &str) -> Result<(Image, Program), Error> {
    let image = Image::parse(bytes, base).map_err(|source| Error::Image { name: name.to_owned(), source })?;
    let program = discover::discover(&image);
    Ok((image, program))
}

/// The structured module of an object that has the resumable form alone.
pub fn no_structured_functions() -> Vec<u8> {
    structured_module(&Program::default(), |_| true, &mut Report::default())
}

fn resumable_module(program: &Program, report: &mut Report) -> Vec<u8> {
    let functions: Vec<_> = program.functions.values().collect();
    let functions: Vec<resumable::Resumable> = functions.par_iter().map(|f| resumable::emit(f)).collect();
    let mut gaps: Vec<(u64, String)> = functions.iter().flat_map(|r| r.body.2.iter().cloned()).collect();
    gaps.sort();
    gaps.dedup();
    for (_, text) in &gaps {
        *report.gaps.entry(text.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    report.gap_list = gaps;
    let mut m = ModuleBuilder::resumable();
    for f in &functions {
        m.function(&f.body);
    }
    let blocks: Vec<Vec<u64>> = functions.iter().map(|f| f.blocks.clone()).collect();
    m.finish(functions.len() as u32, &[blocks_section(&blocks)])
}

fn structured_module(program: &Program, wanted: impl Fn(&Function) -> bool, report: &mut Report) -> Vec<u8> {
    let mut effects = Effects::default();
    let mut events: BTreeMap<u64, _> = program.functions.values().map(|f| (f.entry, liveness::events(f, &mut effects))).collect();
    let summaries = liveness::summarise(program, &mut events);
    // Code for CPU features the guest is told it does not have stays in the resumable form, where its gaps are: no time is spent on optimising it.
    let (functions, others): (Vec<&Function>, Vec<&Function>) = program.functions.values().filter(|f| !is_gated(f)).partition(|f| !summaries[&f.entry].leaves && wanted(f));
    report.resumable_only = others.iter().map(|f| f.entry).collect();
    let index: HashMap<u64, u32> = functions.iter().enumerate().map(|(k, f)| (f.entry, import::FUNCTIONS + k as u32)).collect();
    let mismatch = import::FUNCTIONS + functions.len() as u32;
    let slots: HashMap<u64, u64> = program.functions.values().filter_map(|f| Some((f.entry, f.slot()?))).collect();
    let object = structured::Object { summaries: &summaries, index: &index, slots: &slots, mismatch, function_type: module::TYPE_FUNCTION };
    let bodies: Vec<structured::Structured> = functions.par_iter().map(|f| structured::emit(f, &object, &events[&f.entry])).collect();
    report.irreducible = bodies.iter().filter(|b| b.irreducible).count() as u64;
    let mut m = ModuleBuilder::structured();
    for b in &bodies {
        m.function(&b.body);
    }
    // Last, so that the table's entries are the functions before it.
    m.function(&structured::mismatch());
    m.finish(bodies.len() as u32, &[entries_section(functions.iter().map(|f| f.entry))])
}

/// Does the function use VEX or EVEX encodings (AVX, BMI and later)?
fn is_gated(f: &Function) -> bool {
    f.blocks.values().flat_map(|b| &b.instructions).any(|i| i.encoding() != EncodingKind::Legacy)
}

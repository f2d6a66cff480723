//! Native code from shard modules.
//!
//! Owns the choice of engine and options for each form, and their names in manifests and cache keys. The fact a newcomer gets wrong: the structured form needs LLVM (it has tail calls, which wasmer's Cranelift
//! rejects, and it is the one that must be fast); the resumable form is large and rarely run, so it gets Cranelift.

use crate::cache::{Cache, Key};
use crate::instruction;
use crate::link::{self, LinkError};
use crate::portable::{self, Order};
use crate::processor::{Architecture, Processor};
use crate::slim;
use crate::sound::{self, Unsound};
use clap::ValueEnum;
use lift::Structured;
use policy::manifest::Form;
use std::borrow::Cow;
use std::mem::offset_of;
use std::num::NonZero;
use syscalls::abi::{Links, import};
use thiserror::Error;
use wasmer::sys::{Cranelift, EngineBuilder, Features, LLVM};
use wasmer::{Engine, Module};
use wasmer_compiler_llvm::{ClosedWorld, LLVMOptLevel};

pub const KIND: &str = "aot";

#[derive(Debug, Error)]
pub enum CompileError {
    #[error("{name}: cannot compile its {form:?} form: {source}")]
    Compile { name: String, form: Form, source: Box<wasmer::CompileError> },
    #[error("{name}: its {form:?} form cannot be read: {source}")]
    Read { name: String, form: Form, source: Box<portable::Error> },
    #[error("{name}: cannot store its compiled {form:?} form: {source}")]
    Serialize { name: String, form: Form, source: Box<wasmer::SerializeError> },
    #[error("{name}: cannot make an image of its {form:?} form: {source}")]
    Link { name: String, form: Form, source: LinkError },
    #[error(
        "{name}: the compiler made code that could reach the runtime (`{instruction}` at {address:#x}); nothing was released. Please report it with this file; `--tier fast` builds without this compiler"
    )]
    Unsound { name: String, address: u64, instruction: String },
}

/// How much time to spend on speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// The resumable form alone, by the quick compiler: built in seconds, runs several times slower.
    Fast,
    /// As full, but functions of more than 20,000 instructions have the resumable form alone: no single one keeps a core busy for minutes.
    Auto,
    /// Both forms of all functions, the structured one by the optimising compiler. The default, because the largest functions tend to be the hottest: interpreters' loops, matchers.
    #[default]
    Full,
}

/// Some 90 KB of x86: LLVM needs 13 s for it, in a time that grows a little faster than the size (per MB of WASM 18 s at 30 KB, 23 s at 120 KB, 27 s at 480 KB).
const AUTO_INSTRUCTIONS: usize = 20_000;

impl Tier {
    /// The functions that get the structured form.
    pub fn structured(self) -> Structured {
        match self {
            Tier::Fast => Structured::None,
            Tier::Auto => Structured::UpTo(AUTO_INSTRUCTIONS),
            Tier::Full => Structured::All,
        }
    }
}

/// One module to compile.
pub struct Job<'a> {
    pub name: &'a str,
    pub form: Form,
    pub module: &'a [u8],
}

/// Native code and what it was made by.
pub struct Compiled {
    pub bytes: Vec<u8>,
    pub engine: String,
}

/// File name extension of artifacts: both forms are ELF images.
pub const EXTENSION: &str = "so";

/// Engine and compiler, as manifests name them.
pub fn engine_name(form: Form) -> &'static str {
    match form {
        Form::Structured => "wasmer 7.4.2 llvm 22.1 vkernel.13",
        Form::Resumable => "wasmer 7.4.2 cranelift 0.135",
        Form::Wasi => "wasmer 7.4.2 llvm 22.1 vkernel.11",
    }
}

fn features() -> Features {
    let mut f = Features::default();
    f.simd(true).bulk_memory(true).threads(true).multi_value(true).reference_types(true).tail_call(true).multi_memory(true);
    f
}

/// What `megabinary::wasi_features` says, in wasmer's words.
fn wasi_features() -> Features {
    let mut f = Features::default();
    f.simd(true).bulk_memory(true).threads(false).multi_value(true).reference_types(true).tail_call(true).exceptions(false).extended_const(true);
    f
}

/// The compiler of a form.
pub(crate) fn engine(form: Form, processor: &Processor, threads: NonZero<usize>) -> Engine {
    let builder = match form {
        Form::Structured => {
            let mut llvm = LLVM::new();
            llvm.non_volatile_memops(true).experimental_artifact(true).closed_world(Some(closed_world())).num_threads(threads);
            // They are x86's: elsewhere the runtime's helpers do the same.
            let host_instructions = (processor.architecture == Architecture::X86_64).then(instruction::host_instructions);
            llvm.host_instructions(host_instructions).opt_level(LLVMOptLevel::Less).target_features(processor.llvm_features());
            EngineBuilder::new(llvm)
        }
        Form::Wasi => {
            // wasmer's own conventions. Its memory operations stay volatile: an access out of bounds traps, also one whose result nobody needs.
            let mut llvm = LLVM::new();
            llvm.experimental_artifact(true).num_threads(threads).target_features(processor.llvm_features());
            EngineBuilder::new(llvm)
        }
        Form::Resumable => {
            let mut cranelift = Cranelift::new();
            cranelift.num_threads(threads);
            EngineBuilder::new(cranelift)
        }
    };
    let features = if form == Form::Wasi { wasi_features() } else { features() };
    builder.set_target(Some(processor.target())).set_features(Some(features)).engine().into()
}

/// What the loader promises structured code (`abi::Links`).
fn closed_world() -> ClosedWorld {
    let link = |field: usize| Links::AT + field as u64;
    let imports = offset_of!(Links, imports);
    ClosedWorld {
        segment_memory: import::CPU_INDEX,
        flat_memory: import::MEM_INDEX,
        memory_bases: vec![(import::CODEMAP_INDEX, link(offset_of!(Links, codemap)))],
        table: link(offset_of!(Links, code)),
        environment: link(offset_of!(Links, environment)),
        imports: (0..import::FUNCTIONS as usize).map(|k| link(imports + k * size_of::<usize>())).collect(),
        any_global: import::ANY_INDEX,
    }
}

/// Name of a job's native code in the cache.
pub fn key(job: &Job<'_>, processor: &Processor) -> String {
    let mut key = Key::new(KIND);
    key.part(job.module).part(engine_name(job.form).as_bytes()).part(processor.architecture.triple().as_bytes()).part(processor.features().join(",").as_bytes());
    if processor.architecture != Architecture::X86_64 {
        key.part(portable::VERSION.as_bytes());
    }
    key.part(match job.form {
        Form::Structured => b"O1 non-volatile elf",
        Form::Resumable => b"speed",
        Form::Wasi => b"O3 wasi elf",
    });
    key.hex()
}

/// The cached native code of a job, if there is some.
pub fn cached(cache: &Cache, job: &Job<'_>, processor: &Processor) -> Option<Compiled> {
    image(job, processor, cache.get(KIND, &key(job, processor))?).ok()
}

/// Compiles a module, and remembers the compiler's own output.
pub fn compile(cache: &Cache, job: &Job<'_>, processor: &Processor, threads: NonZero<usize>) -> Result<Compiled, CompileError> {
    let (name, form) = (job.name, job.form);
    let answers = answers(job, processor).map_err(|e| CompileError::Read { name: name.into(), form, source: Box::new(e) })?;
    let module = Module::new(&engine(form, processor, threads), answers);
    let module = module.map_err(|e| CompileError::Compile { name: name.into(), form, source: Box::new(e) })?;
    let bytes = module.serialize().map_err(|e| CompileError::Serialize { name: name.into(), form, source: Box::new(e) })?.to_vec();
    cache.put(KIND, &key(job, processor), &bytes);
    image(job, processor, bytes)
}

/// The module as it is, where the processor does what x86's do; else with what they do said in it.
fn answers<'a>(job: &Job<'a>, processor: &Processor) -> Result<Cow<'a, [u8]>, portable::Error> {
    let order = match (processor.architecture, job.form) {
        (Architecture::X86_64, _) | (_, Form::Wasi) => return Ok(job.module.into()),
        (Architecture::Aarch64, Form::Structured) => Order::Compiler,
        (Architecture::Aarch64, Form::Resumable) => Order::Fences { memory: import::MEM_INDEX },
    };
    portable::module(job.module, order).map(Cow::from)
}

/// What is released of a compiler's output.
fn image(job: &Job<'_>, processor: &Processor, bytes: Vec<u8>) -> Result<Compiled, CompileError> {
    let bytes = match job.form {
        Form::Structured | Form::Wasi => slim::image(bytes),
        Form::Resumable => link::image(&bytes, processor.architecture),
    };
    let bytes = bytes.map_err(|source| CompileError::Link { name: job.name.into(), form: job.form, source })?;
    if job.form != Form::Resumable {
        sound::check(&bytes, job.form).map_err(|Unsound { address, instruction }| CompileError::Unsound { name: job.name.into(), address, instruction })?;
    }
    Ok(Compiled { bytes, engine: engine_name(job.form).into() })
}

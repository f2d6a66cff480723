use crate::compiler::LLVMCompiler;
use enum_iterator::Sequence;
pub use inkwell::OptimizationLevel as LLVMOptLevel;
use inkwell::targets::{
    CodeModel, InitializationConfig, RelocMode, Target as InkwellTarget, TargetMachine,
    TargetMachineOptions, TargetTriple,
};
use itertools::Itertools;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt::Debug, num::NonZero};
use target_lexicon::BinaryFormat;
use wasmer_compiler::misc::{CompiledKind, function_kind_to_filename};
use wasmer_compiler::{
    Compiler, CompilerConfig, Debugger, Engine, EngineBuilder, ModuleMiddleware,
};
use wasmer_types::{
    Features,
    target::{Architecture, OperatingSystem, Target, Triple},
};

/// The InkWell ModuleInfo type
pub type InkwellModule<'ctx> = inkwell::module::Module<'ctx>;

/// The InkWell MemoryBuffer type
pub type InkwellMemoryBuffer<'a> = inkwell::memory_buffer::MemoryBuffer<'a>;

/// Callbacks to the different LLVM compilation phases.
#[derive(Debug, Clone)]
pub struct LLVMCallbacks {
    debug_dir: PathBuf,
}

impl LLVMCallbacks {
    pub fn new(debug_dir: PathBuf) -> Result<Self, io::Error> {
        // Create the debug dir in case it doesn't exist
        std::fs::create_dir_all(&debug_dir)?;
        Ok(Self { debug_dir })
    }

    /// Returns the debug directory used to dump compilation artifacts.
    pub fn debug_dir(&self) -> &PathBuf {
        &self.debug_dir
    }

    fn base_path(&self, module_hash: &Option<String>) -> PathBuf {
        let mut path = self.debug_dir.clone();
        if let Some(hash) = module_hash {
            path.push(hash);
        }
        std::fs::create_dir_all(&path)
            .unwrap_or_else(|_| panic!("cannot create debug directory: {}", path.display()));
        path
    }

    pub fn preopt_ir(
        &self,
        kind: &CompiledKind,
        module_hash: &Option<String>,
        module: &InkwellModule,
    ) {
        let mut path = self.base_path(module_hash);
        path.push(function_kind_to_filename(kind, ".preopt.ll"));
        module
            .print_to_file(&path)
            .expect("Error while dumping pre optimized LLVM IR");
    }
    pub fn postopt_ir(
        &self,
        kind: &CompiledKind,
        module_hash: &Option<String>,
        module: &InkwellModule,
    ) {
        let mut path = self.base_path(module_hash);
        path.push(function_kind_to_filename(kind, ".postopt.ll"));
        module
            .print_to_file(&path)
            .expect("Error while dumping post optimized LLVM IR");
    }
    pub fn obj_memory_buffer(
        &self,
        kind: &CompiledKind,
        module_hash: &Option<String>,
        memory_buffer: &InkwellMemoryBuffer,
    ) {
        let mut path = self.base_path(module_hash);
        path.push(function_kind_to_filename(kind, ".o"));
        let mem_buf_slice = memory_buffer.as_slice();
        let mut file =
            File::create(path).expect("Error while creating debug object file from LLVM IR");
        file.write_all(mem_buf_slice).unwrap();
    }

    pub fn asm_memory_buffer(
        &self,
        kind: &CompiledKind,
        module_hash: &Option<String>,
        asm_memory_buffer: &InkwellMemoryBuffer,
    ) {
        let mut path = self.base_path(module_hash);
        path.push(function_kind_to_filename(kind, ".s"));
        let mem_buf_slice = asm_memory_buffer.as_slice();
        let mut file =
            File::create(path).expect("Error while creating debug assembly file from LLVM IR");
        file.write_all(mem_buf_slice).unwrap();
    }
}

/// Promises of vkernel's modules, and where their runtime keeps what code needs of it: the GS segment (x86-64) starts at one memory whenever code runs, and
/// holds addresses at the offsets named here. With them
/// - functions take no instance and no memory base: parameters and results travel as in LLVM's `x86_regcallcc`, up to eleven integers each way in registers;
/// - an indirect call checks neither bounds nor null nor signature: every index that reaches it is a valid one;
/// - imported functions are C functions of the runtime, with its environment as first argument.
#[derive(Debug, Clone)]
pub struct ClosedWorld {
    /// The memory at the base of GS, never accessed out of bounds.
    pub segment_memory: u32,
    /// The memory whose addresses are the process's own: it begins at address zero. Accesses of it that state an alignment of 1 keep their order among each other and their number, as on a processor that orders loads and stores; of
    /// what states another one, no other thread takes notice.
    pub flat_memory: u32,
    /// Every other memory that code accesses, and where its base is found.
    pub memory_bases: Vec<(u32, u64)>,
    /// Where the address of an array is found that holds the address of the code of every element of table 0.
    pub table: u64,
    /// Where the environment is found.
    pub environment: u64,
    /// Where the address of each imported function is found.
    pub imports: Vec<u64>,
    /// Reading this global gives whatever costs least.
    pub any_global: u32,
}

/// Calls of an imported function `(operation: i32, a: i64, b: i64) -> i64` whose operation is a constant listed here: the instruction takes the place of the call.
#[derive(Debug, Clone)]
pub struct HostInstructions {
    /// The function's index.
    pub function: u32,
    pub list: Vec<HostInstruction>,
}

/// One machine instruction, in Intel's syntax: `$0` is the result, if there is one, the operands follow.
#[derive(Debug, Clone)]
pub struct HostInstruction {
    pub operation: u32,
    pub assembly: String,
    pub operands: HostOperands,
    pub result: HostResult,
}

/// What the bits a and b of a call become; each operand but `Integers` is in a vector register.
#[derive(Debug, Clone, Copy)]
pub enum HostOperands {
    /// The low halves of a and of b.
    Singles,
    /// a and b.
    Doubles,
    /// The low half of a.
    Single,
    /// a.
    Double,
    /// One vector: a is its low lane, b the high one.
    Lanes,
    /// a and b in general registers other than rax and rdx.
    Integers,
}

/// Where the result's bits are.
#[derive(Debug, Clone, Copy)]
pub enum HostResult {
    Nothing,
    /// A general register of 32 bits.
    Word,
    /// A general register of 64 bits.
    Quad,
    /// A vector register that holds a double.
    Double,
    /// The low 64 bits of a vector register.
    LowLane,
    /// rax, of an instruction that also writes rdx and reads memory.
    Rax,
}

#[derive(Debug, Clone)]
pub struct LLVM {
    pub(crate) enable_nan_canonicalization: bool,
    pub(crate) enable_non_volatile_memops: bool,
    pub(crate) enable_readonly_funcref_table: bool,
    pub(crate) enable_verifier: bool,
    pub(crate) enable_perfmap: bool,
    pub(crate) debugger: Option<Debugger>,
    pub(crate) opt_level: LLVMOptLevel,
    pub(crate) is_pic: bool,
    pub(crate) experimental_artifact: bool,
    pub(crate) closed_world: Option<ClosedWorld>,
    pub(crate) target_features: Vec<String>,
    pub(crate) host_instructions: Option<HostInstructions>,
    pub(crate) callbacks: Option<LLVMCallbacks>,
    /// The middleware chain.
    pub(crate) middlewares: Vec<Arc<dyn ModuleMiddleware>>,
    /// Number of threads to use when compiling a module.
    pub(crate) num_threads: NonZero<usize>,
    pub(crate) verbose_asm: bool,
}

#[derive(Clone, Copy, Eq, PartialEq, Hash, Debug, Sequence)]
pub(crate) enum OptimizationStyle {
    ForSpeed,
    ForSize,
    Disabled,
}

impl LLVM {
    /// Creates a new configuration object with the default configuration
    /// specified.
    pub fn new() -> Self {
        Self {
            enable_nan_canonicalization: false,
            enable_non_volatile_memops: false,
            enable_readonly_funcref_table: false,
            enable_verifier: false,
            enable_perfmap: false,
            debugger: None,
            opt_level: LLVMOptLevel::Aggressive,
            is_pic: false,
            experimental_artifact: false,
            closed_world: None,
            target_features: Vec::new(),
            host_instructions: None,
            callbacks: None,
            middlewares: vec![],
            verbose_asm: false,
            num_threads: std::thread::available_parallelism().unwrap_or(NonZero::new(1).unwrap()),
        }
    }

    /// Enable the experimental artifact format.
    pub fn experimental_artifact(&mut self, enable: bool) -> &mut Self {
        self.experimental_artifact = enable;
        // We will link a shared library and so PIC must be enabled.
        self.is_pic = enable;
        self
    }

    /// Features of the target's processor, in LLVM's words, beside those that wasmer has names for.
    pub fn target_features(&mut self, features: Vec<String>) -> &mut Self {
        self.target_features = features;
        self
    }

    /// Modules keep the promises of `ClosedWorld`, and are compiled for them. Their functions can then not be called through wasmer's trampolines.
    pub fn closed_world(&mut self, promises: Option<ClosedWorld>) -> &mut Self {
        self.closed_world = promises;
        self
    }

    /// Calls that stand for one machine instruction each. `None`, the default: there are none.
    pub fn host_instructions(&mut self, instructions: Option<HostInstructions>) -> &mut Self {
        self.host_instructions = instructions;
        self
    }

    /// The optimization levels when optimizing the IR.
    pub fn opt_level(&mut self, opt_level: LLVMOptLevel) -> &mut Self {
        self.opt_level = opt_level;
        self
    }

    pub fn num_threads(&mut self, num_threads: NonZero<usize>) -> &mut Self {
        self.num_threads = num_threads;
        self
    }

    pub fn verbose_asm(&mut self, verbose_asm: bool) -> &mut Self {
        self.verbose_asm = verbose_asm;
        self
    }

    /// Callbacks that will triggered in the different compilation
    /// phases in LLVM.
    pub fn callbacks(&mut self, callbacks: Option<LLVMCallbacks>) -> &mut Self {
        self.callbacks = callbacks;
        self
    }

    /// For the LLVM compiler, we can use non-volatile memory operations which lead to a better performance
    /// (but are not 100% SPEC compliant).
    pub fn non_volatile_memops(&mut self, enable_non_volatile_memops: bool) -> &mut Self {
        self.enable_non_volatile_memops = enable_non_volatile_memops;
        self
    }

    /// Enables treating eligible funcref tables as read-only so the backend can
    /// place them in read-only data.
    pub fn readonly_funcref_table(&mut self, enable_readonly_funcref_table: bool) -> &mut Self {
        self.enable_readonly_funcref_table = enable_readonly_funcref_table;
        self
    }

    fn reloc_mode(&self, binary_format: BinaryFormat) -> RelocMode {
        if matches!(binary_format, BinaryFormat::Macho) {
            return RelocMode::Static;
        }

        if self.is_pic {
            RelocMode::PIC
        } else {
            RelocMode::Static
        }
    }

    fn code_model(&self, binary_format: BinaryFormat) -> CodeModel {
        // We normally use the large code model, but when targeting shared
        // objects, we are required to use PIC. If we use PIC anyways, we lose
        // any benefit from large code model and there's some cost on all
        // platforms, plus some platforms (MachO) don't support PIC + large
        // at all.
        if matches!(binary_format, BinaryFormat::Macho) {
            return CodeModel::Default;
        }

        if self.is_pic {
            CodeModel::Small
        } else {
            CodeModel::Large
        }
    }

    pub(crate) fn target_operating_system(&self, target: &Target) -> OperatingSystem {
        match target.triple().operating_system {
            OperatingSystem::Darwin(deployment) if !self.is_pic => {
                // LLVM detects static relocation + darwin + 64-bit and
                // force-enables PIC because MachO doesn't support that
                // combination. They don't check whether they're targeting
                // MachO, they check whether the OS is set to Darwin.
                //
                // Since both linux and darwin use SysV ABI, this should work.
                //  but not in the case of Aarch64, there the ABI is slightly different
                #[allow(clippy::match_single_binding)]
                match target.triple().architecture {
                    Architecture::Aarch64(_) => OperatingSystem::Darwin(deployment),
                    _ => OperatingSystem::Linux,
                }
            }
            other => other,
        }
    }

    pub(crate) fn target_binary_format(&self, target: &Target) -> target_lexicon::BinaryFormat {
        if self.is_pic {
            target.triple().binary_format
        } else {
            match self.target_operating_system(target) {
                OperatingSystem::Darwin(_) => target_lexicon::BinaryFormat::Macho,
                _ => target_lexicon::BinaryFormat::Elf,
            }
        }
    }

    /// The register that a closed world's code finds its segment memory by, where there is no segment.
    fn reserved_registers(&self, target: &Target) -> Option<&'static str> {
        let needs_one = self.closed_world.is_some() && matches!(target.triple().architecture, Architecture::Aarch64(_));
        needs_one.then_some(crate::closed_world::RESERVED)
    }

    fn target_triple(&self, target: &Target) -> TargetTriple {
        let architecture = if target.triple().architecture
            == Architecture::Riscv64(target_lexicon::Riscv64Architecture::Riscv64gc)
        {
            target_lexicon::Architecture::Riscv64(target_lexicon::Riscv64Architecture::Riscv64)
        } else {
            target.triple().architecture
        };
        // Hack: we're using is_pic to determine whether this is a native
        // build or not.

        let operating_system = self.target_operating_system(target);
        let binary_format = self.target_binary_format(target);

        let triple = Triple {
            architecture,
            vendor: target.triple().vendor.clone(),
            operating_system,
            environment: target.triple().environment,
            binary_format,
        };
        TargetTriple::create(&triple.to_string())
    }

    /// Generates the target machine for the current target
    pub fn target_machine(&self, target: &Target) -> TargetMachine {
        self.target_machine_with_opt(target, OptimizationStyle::ForSpeed)
    }

    pub(crate) fn target_machine_with_opt(
        &self,
        target: &Target,
        opt_style: OptimizationStyle,
    ) -> TargetMachine {
        let triple = target.triple();
        let cpu_features = &target.cpu_features();

        match triple.architecture {
            Architecture::X86_64 | Architecture::X86_32(_) => {
                InkwellTarget::initialize_x86(&InitializationConfig {
                    asm_parser: true,
                    asm_printer: true,
                    base: true,
                    disassembler: true,
                    info: true,
                    machine_code: true,
                })
            }
            Architecture::Aarch64(_) => InkwellTarget::initialize_aarch64(&InitializationConfig {
                asm_parser: true,
                asm_printer: true,
                base: true,
                disassembler: true,
                info: true,
                machine_code: true,
            }),
            Architecture::Riscv64(_) => InkwellTarget::initialize_riscv(&InitializationConfig {
                asm_parser: true,
                asm_printer: true,
                base: true,
                disassembler: true,
                info: true,
                machine_code: true,
            }),
            Architecture::LoongArch64 => {
                InkwellTarget::initialize_loongarch(&InitializationConfig {
                    asm_parser: true,
                    asm_printer: true,
                    base: true,
                    disassembler: true,
                    info: true,
                    machine_code: true,
                })
            }
            _ => unimplemented!("target {} not yet supported in Wasmer", triple),
        }

        // The CPU features formatted as LLVM strings
        // We can safely map to gcc-like features as the CPUFeatures
        // are compliant with the same string representations as gcc.
        let llvm_cpu_features = cpu_features
            .iter()
            .map(|feature| feature.to_string())
            .chain(self.target_features.iter().cloned())
            .map(|feature| format!("+{feature}"))
            .chain(self.reserved_registers(target).map(str::to_owned))
            .join(",");

        let target_triple = self.target_triple(target);
        let llvm_target = InkwellTarget::from_triple(&target_triple).unwrap();
        let mut llvm_target_machine_options = TargetMachineOptions::new()
            .set_cpu(match triple.architecture {
                Architecture::Riscv64(_) => "generic-rv64",
                Architecture::LoongArch64 => "generic-la64",
                _ => "generic",
            })
            .set_features(match triple.architecture {
                Architecture::Riscv64(_) => "+m,+a,+c,+d,+f",
                Architecture::LoongArch64 => "+f,+d",
                _ => &llvm_cpu_features,
            })
            .set_level(match opt_style {
                OptimizationStyle::ForSpeed => self.opt_level,
                OptimizationStyle::ForSize => LLVMOptLevel::Less,
                OptimizationStyle::Disabled => LLVMOptLevel::None,
            })
            .set_reloc_mode(self.reloc_mode(self.target_binary_format(target)))
            .set_code_model(match triple.architecture {
                Architecture::LoongArch64 | Architecture::Riscv64(_) => CodeModel::Medium,
                _ => self.code_model(self.target_binary_format(target)),
            });
        if let Architecture::Riscv64(_) = triple.architecture {
            llvm_target_machine_options = llvm_target_machine_options.set_abi("lp64d");
        }
        let target_machine = llvm_target
            .create_target_machine_from_options(&target_triple, llvm_target_machine_options)
            .unwrap();
        target_machine.set_asm_verbosity(self.verbose_asm);
        target_machine
    }
}

impl CompilerConfig for LLVM {
    fn experimental_artifact(&mut self, enable: bool) {
        LLVM::experimental_artifact(self, enable);
    }

    /// Emit code suitable for dlopen.
    fn enable_pic(&mut self) {
        // TODO: although we can emit PIC, the object file parser does not yet
        // support all the relocations.
        self.is_pic = true;
    }

    fn enable_perfmap(&mut self) {
        self.enable_perfmap = true
    }

    fn enable_debugger(&mut self, debugger: Debugger) {
        self.debugger = Some(debugger)
    }

    /// Whether to verify compiler IR.
    fn enable_verifier(&mut self) {
        self.enable_verifier = true;
    }

    /// For the LLVM compiler, we can use non-volatile memory operations which lead to a better performance
    /// (but are not 100% SPEC compliant).
    fn enable_non_volatile_memops(&mut self) {
        self.enable_non_volatile_memops = true;
    }

    /// Enables treating eligible funcref tables as read-only so the backend can
    /// place them in read-only data.
    fn enable_readonly_funcref_table(&mut self) {
        self.enable_readonly_funcref_table = true;
    }

    fn canonicalize_nans(&mut self, enable: bool) {
        self.enable_nan_canonicalization = enable;
    }

    /// Transform it into the compiler.
    fn compiler(self: Box<Self>) -> Box<dyn Compiler> {
        Box::new(LLVMCompiler::new(*self))
    }

    /// Pushes a middleware onto the back of the middleware chain.
    fn push_middleware(&mut self, middleware: Arc<dyn ModuleMiddleware>) {
        self.middlewares.push(middleware);
    }

    fn supported_features_for_target(&self, _target: &Target) -> wasmer_types::Features {
        let mut feats = Features::default();
        feats.exceptions(true);
        feats.relaxed_simd(true);
        feats.wide_arithmetic(true);
        feats.tail_call(true);
        feats
    }
}

impl Default for LLVM {
    fn default() -> LLVM {
        Self::new()
    }
}

impl From<LLVM> for Engine {
    fn from(config: LLVM) -> Self {
        EngineBuilder::new(config).engine()
    }
}

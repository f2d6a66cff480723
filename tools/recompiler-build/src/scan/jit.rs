//! Engines that make machine code while they run, recognised in ELF files.
//!
//! Owns the list of engines and the traces they leave: names of symbols and of needed libraries. The fact a newcomer gets wrong: many engines work without their compiler (PCRE, PHP, Ruby): these are *optional*, fail to get
//! executable memory under vkernel and go on interpreting; the others cannot run at all and are refused at build.

use object::{Object, ObjectSymbol};
use serde::Serialize;

/// What follows from an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// Runs no program without executable memory.
    Required,
    /// Goes on without.
    Optional,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jit {
    pub engine: &'static str,
    pub need: Need,
    /// The trace that was found.
    pub evidence: String,
}

struct Engine {
    name: &'static str,
    need: Need,
    /// Beginnings of defined symbols' names.
    symbols: &'static [&'static str],
    /// Beginnings of needed libraries' names.
    libraries: &'static [&'static str],
}

const fn engine(name: &'static str, need: Need, symbols: &'static [&'static str], libraries: &'static [&'static str]) -> Engine {
    Engine { name, need, symbols, libraries }
}

const ENGINES: &[Engine] = &[
    engine("V8", Need::Required, &["_ZN2v88internal", "_ZTVN2v88internal", "_ZN2v87Isolate"], &["libnode.so", "libv8.so"]),
    engine("SpiderMonkey", Need::Required, &["_ZN2js3jit", "JS_NewContext"], &["libmozjs"]),
    engine("JavaScriptCore", Need::Required, &["JSGlobalContextCreate"], &["libjavascriptcoregtk", "libJavaScriptCore"]),
    engine("HotSpot", Need::Required, &["JNI_CreateJavaVM"], &["libjvm.so", "libjli.so"]),
    engine("LuaJIT", Need::Required, &["luaJIT_setmode", "luaJIT_version"], &["libluajit"]),
    engine("Mono", Need::Required, &["mono_jit_init"], &["libmono"]),
    engine(".NET", Need::Required, &["coreclr_initialize", "jitStartup", "hostfxr_main"], &["libcoreclr", "libclrjit", "libhostfxr"]),
    engine("PyPy", Need::Required, &["pypy_execute_source", "rpython_startup_code"], &["libpypy"]),
    engine("BEAM", Need::Required, &["_ZN19BeamModuleAssembler", "beam_jit_"], &[]),
    engine("libgccjit", Need::Required, &["gcc_jit_context_compile"], &["libgccjit"]),
    engine("QEMU TCG", Need::Required, &["tcg_gen_code", "tcg_qemu_tb_exec"], &[]),
    engine("LLVM", Need::Optional, &["LLVMCreateMCJITCompilerForModule", "LLVMOrcCreateLLJIT"], &["libLLVM"]),
    engine("PCRE", Need::Optional, &["pcre2_jit_compile_", "pcre_jit_exec", "pcre_assign_jit_stack"], &["libpcre2-", "libpcre.so"]),
    engine("PHP", Need::Optional, &["zend_jit_"], &[]),
    engine("Ruby", Need::Optional, &["rb_yjit_", "mjit_init"], &["libruby"]),
    engine("Guile", Need::Optional, &["scm_jit_", "scm_init_jit"], &["libguile-3"]),
    engine("libffi closures", Need::Optional, &["ffi_closure_alloc"], &["libffi.so"]),
    engine("Orc", Need::Optional, &["orc_program_compile"], &["liborc-"]),
];

/// The engines in a file, each once. `needed` are its DT_NEEDED names.
pub fn detect(bytes: &[u8], needed: &[String]) -> Vec<Jit> {
    let file = object::File::parse(bytes).ok();
    let mut names: Vec<&str> = Vec::new();
    if let Some(file) = &file {
        let defined = file.symbols().chain(file.dynamic_symbols()).filter(|s| s.is_definition());
        names.extend(defined.filter_map(|s| s.name().ok()));
    }
    names.sort_unstable();
    names.dedup();
    ENGINES.iter().filter_map(|e| found(e, &names, needed)).collect()
}

fn found(engine: &Engine, sorted: &[&str], needed: &[String]) -> Option<Jit> {
    let beginning = |prefix: &&str| {
        let at = sorted.partition_point(|n| n < prefix);
        sorted.get(at).filter(|n| n.starts_with(*prefix)).map(|n| format!("symbol {n}"))
    };
    let library = || needed.iter().find(|n| engine.libraries.iter().any(|l| n.starts_with(l))).map(|n| format!("library {n}"));
    let evidence = engine.symbols.iter().find_map(beginning).or_else(library)?;
    Some(Jit { engine: engine.name, need: engine.need, evidence })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_engines_by_symbols_and_libraries_and_nothing_else() {
        let sorted = ["aaa", "luaJIT_version_2_1_0_beta3", "zzz"];
        let of = |names: &[&str], needed: &[&str]| {
            let needed: Vec<String> = needed.iter().map(|s| (*s).to_owned()).collect();
            ENGINES.iter().filter_map(|e| found(e, names, &needed)).map(|j| (j.engine, j.need)).collect::<Vec<_>>()
        };
        assert_eq!(of(&sorted, &[]), [("LuaJIT", Need::Required)]);
        assert_eq!(of(&["aaa"], &["libc.so.6", "libmozjs-102.so.0"]), [("SpiderMonkey", Need::Required)]);
        assert_eq!(of(&["pcre2_jit_compile_8"], &[]), [("PCRE", Need::Optional)]);
        assert_eq!(of(&["main", "luaL_newstate", "v8"], &["libc.so.6", "liblua5.4.so.0"]), []);
    }

    #[test]
    fn ls_has_no_jit() {
        let bytes = std::fs::read("/bin/ls").unwrap();
        assert!(detect(&bytes, &["libc.so.6".into()]).is_empty());
    }
}

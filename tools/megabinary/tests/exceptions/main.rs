//! Modules with exceptions before and after lowering.
//!
//! The oracles are engines that have exceptions: wasmtime for the standard form, node's V8 for the older one, which wasmtime never had. The fact a newcomer gets wrong: an exception that leaves the module is a trap after lowering, and an error of another
//! kind before; both are "ended" here.

mod random;
mod written;

use std::io::Write;
use std::process::{Command, Stdio};
use wasmtime::{Config, Engine, Instance, Module, Store};

/// What `f` gave, and the first bytes of the memory, in which modules write down what they do.
type Seen = (Option<i32>, Vec<u8>);

/// How much of the memory is looked at.
const NOTED: usize = 1 << 12;

/// Arguments that every module is tried with.
const ARGUMENTS: [i32; 8] = [0, 1, 2, 3, 5, 10, 77, -1];

fn engine(exceptions: bool) -> Engine {
    let mut config = Config::new();
    config.wasm_exceptions(exceptions).wasm_tail_call(true).wasm_function_references(exceptions);
    Engine::new(&config).unwrap()
}

/// Runs `f` of a fresh instance for each argument.
fn under_wasmtime(engine: &Engine, module: &[u8]) -> Vec<Seen> {
    let module = Module::new(engine, module).unwrap_or_else(|e| panic!("{e:?}"));
    let one = |argument: &i32| {
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let result = instance.get_typed_func::<i32, i32>(&mut store, "f").unwrap().call(&mut store, *argument).ok();
        (result, instance.get_memory(&mut store, "memory").unwrap().data(&store)[..NOTED].to_vec())
    };
    ARGUMENTS.iter().map(one).collect()
}

const SCRIPT: &str = "
const modules = JSON.parse(require('fs').readFileSync(0, 'utf8'));
for (const [bytes, args, noted] of modules) {
    const module = new WebAssembly.Module(Buffer.from(bytes, 'hex'));
    for (const argument of args) {
        const instance = new WebAssembly.Instance(module, {});
        let result = 'ended';
        try { result = instance.exports.f(argument); } catch {}
        console.log(result, Buffer.from(instance.exports.memory.buffer, 0, noted).toString('hex'));
    }
}";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The same in node, for many modules at once.
fn under_node(modules: &[Vec<u8>]) -> Vec<Vec<Seen>> {
    let input: Vec<_> = modules.iter().map(|m| (hex(m), ARGUMENTS, NOTED)).collect();
    let mut node = Command::new("node");
    // Its own notices are none of the results'.
    let mut child = node.args(["--no-warnings", "-e", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("nodejs is installed");
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&input).unwrap()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    let line = |line: &str| {
        let (result, memory) = line.split_once(' ').unwrap();
        let bytes = (0..memory.len()).step_by(2).map(|i| u8::from_str_radix(&memory[i..i + 2], 16).unwrap()).collect();
        (result.parse().ok(), bytes)
    };
    let seen: Vec<Seen> = text.lines().map(line).collect();
    assert_eq!(seen.len(), modules.len() * ARGUMENTS.len());
    seen.chunks(ARGUMENTS.len()).map(<[Seen]>::to_vec).collect()
}

fn lowered(module: &[u8]) -> Vec<u8> {
    let (lowered, _) = megabinary::read_wasi("m", module).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(lowered, megabinary::read_wasi("m", module).unwrap().0, "equal bytes each time");
    wasmparser::Validator::new_with_features(megabinary::wasi_features()).validate_all(&lowered).unwrap();
    lowered.into_owned()
}

/// Asserts that each module, given as text, does the same before and after.
fn twins(texts: &[String], modules: &[Vec<u8>], before: &[Vec<Seen>]) {
    let after = engine(false);
    for ((text, module), before) in texts.iter().zip(modules).zip(before) {
        for ((argument, before), after) in ARGUMENTS.iter().zip(before).zip(under_wasmtime(&after, &lowered(module))) {
            assert!(*before == after, "f({argument}) is {:?}, lowered {:?}, noted {:?} and {:?} of\n{text}", before.0, after.0, &before.1[..64], &after.1[..64]);
        }
    }
}

/// Of the standard form.
fn standard(texts: &[String]) {
    let modules: Vec<_> = texts.iter().map(|t| wat::parse_str(t).unwrap_or_else(|e| panic!("{e}\n{t}"))).collect();
    let engine = engine(true);
    twins(texts, &modules, &modules.iter().map(|m| under_wasmtime(&engine, m)).collect::<Vec<_>>());
}

/// Of the older form, whose blocks only wabt reads.
fn legacy(texts: &[String]) {
    let module = |text: &String| {
        let mut wabt =
            Command::new("wat2wasm").args(["--enable-exceptions", "-", "--output=/dev/stdout"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("wabt is installed");
        wabt.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let out = wabt.wait_with_output().unwrap();
        assert!(out.status.success(), "{text}");
        out.stdout
    };
    let modules: Vec<_> = texts.iter().map(module).collect();
    twins(texts, &modules, &under_node(&modules));
}

//! Code for AArch64 as it is released, read instruction by instruction: which barriers stand where. What it computes is `cargo xtask suite aarch64`'s, which runs it; but no emulator on an x86-64 host could show that order is missing.

use object::{Object, ObjectSection};
use std::fs;
use std::process::Command;

#[path = "../../../integration-tests/src/tiny.rs"]
pub mod tiny;

use tiny::Image;

/// One function each, in the order of addresses. All end in `ret`, which loads from the stack.
const FUNCTIONS: &[(&str, &str)] = &[
    ("load", "mov (%rdi),%rax"),
    ("store", "mov %rdx,(%rsi)"),
    ("own_stack", "mov -8(%rsp),%rax"),
    ("add", "lock addq %rdx,(%rdi)"),
    ("compare", "mov %rdx,%rax\n lock cmpxchgq %rsi,(%rdi)"),
    ("fence", "mfence"),
    ("strings", "mov %rdx,%rcx\n rep stosb"),
];

fn image() -> Image {
    let image = Image::empty(env!("CARGO_BIN_EXE_recompiler-build"));
    let function = |(name, body): &(&str, &str)| format!(".globl {name}\n.type {name},@function\n.balign 16\n{name}: {body}\n ret\n.size {name},.-{name}\n");
    let calls: String = FUNCTIONS.iter().map(|(name, _)| format!(" call {name}\n")).collect();
    let text: String = FUNCTIONS.iter().map(function).collect();
    fs::write(
        image.at("f.s"),
        format!("{text}.globl _start\n.type _start,@function\n_start:\n{calls} mov $60,%eax\n syscall\n.size _start,.-_start\n.section .note.GNU-stack,\"\",@progbits\n"),
    )
    .unwrap();
    let gcc = Command::new("gcc").args(["-nostdlib", "-static", "-no-pie", "-o"]).arg(image.at("f")).arg(image.at("f.s")).status();
    assert!(gcc.expect("gcc is installed").success());
    image.ok(&["lift", "f", "--output", "."]);
    image
}

/// The code of each of `FUNCTIONS`.
fn functions(image: &Image, form: &str, cpu: &str) -> Vec<Vec<u32>> {
    image.ok(&["compile", &format!("f.{form}.wasm"), "--target", "aarch64-unknown-linux-gnu", "--cpu", cpu, "--output", "."]);
    let file = fs::read(image.at(&format!("f.{form}.so"))).unwrap();
    let parsed = object::File::parse(&file[..]).unwrap();
    let text = parsed.section_by_name(".text").unwrap();
    let (code, start) = (text.data().unwrap(), text.address());
    let table = parsed.section_by_name(".w.fn_offsets").unwrap().data().unwrap();
    let offsets: Vec<usize> = table.chunks_exact(8).map(|w| (u64::from_le_bytes(w.try_into().unwrap()) - start) as usize).collect();
    let of = |k: usize| code[offsets[k]..offsets[k + 1]].chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect();
    (0..FUNCTIONS.len()).map(of).collect()
}

/// What an instruction of the structured form has to do with guest memory, if anything: x28 leads to the CPU state, sp to the native stack.
fn event(i: u32) -> Option<&'static str> {
    let base = i >> 5 & 0x1f;
    let of_guest = base != 28 && base != 31;
    let plain = i & 0x3b00_0000 == 0x3900_0000 || i & 0x3b20_0c00 == 0x3800_0000 || i & 0x3a00_0000 == 0x2800_0000;
    match i {
        0xd503_39bf => Some("ishld"),
        0xd503_3abf => Some("ishst"),
        0xd503_3bbf => Some("ish"),
        _ if i & 0x3fff_fc00 == 0x085f_fc00 => Some("ldaxr"),
        _ if i & 0x3fe0_fc00 == 0x0800_fc00 => Some("stlxr"),
        _ if i & 0x3fe0_fc00 == 0x38e0_0000 => Some("ldaddal"),
        _ if i & 0x3fe0_fc00 == 0x08e0_fc00 => Some("casal"),
        // Post-indexed stores of a byte: the loop that `rep stosb` is.
        _ if i & 0xffe0_0c00 == 0x3800_0400 => Some("store"),
        _ if plain && of_guest => Some(if i >> 22 & 3 == 0 { "store" } else { "load" }),
        _ => None,
    }
}

#[test]
fn memory_keeps_x86s_order() {
    let image = image();
    let events = |code: &Vec<u32>| code.iter().filter_map(|i| event(*i)).collect::<Vec<_>>();
    let without_ret = |mut events: Vec<&'static str>| {
        assert_eq!(events.split_off(events.len() - 2), ["load", "ishld"], "ret");
        events
    };
    let of = |cpu: &str| functions(&image, "structured", cpu).iter().map(|code| without_ret(events(code))).collect::<Vec<_>>();
    let baseline = of("armv8-a");
    assert_eq!(baseline[0], ["load", "ishld"]);
    assert_eq!(baseline[1], ["ishst", "store"]);
    assert_eq!(baseline[2], ["load", "ishld"], "threads may meet in a variable of one's stack");
    assert_eq!(baseline[3], ["ldaxr", "stlxr", "ish"]);
    assert_eq!(baseline[4], ["ish", "ldaxr", "stlxr", "ish"], "also where it fails, and stores nothing");
    assert_eq!(baseline[5], ["ish"]);
    assert!(baseline[6].windows(3).any(|w| w == ["ish", "store", "ish"]), "{:?}", baseline[6]);
    // With atomic instructions.
    let new = of("neoverse-n1");
    assert_eq!((&new[0], &new[1]), (&baseline[0], &baseline[1]));
    assert_eq!(new[3], ["ldaddal", "ish"]);
    assert_eq!(new[4], ["ish", "casal", "ish"]);
    // The resumable form's fences are all of one kind.
    for (code, (name, _)) in functions(&image, "resumable", "armv8-a").iter().zip(FUNCTIONS) {
        assert!(events(code).contains(&"ish"), "{name}");
    }
}

#[test]
fn a_wasi_program_is_compiled_too() {
    let image = Image::empty(env!("CARGO_BIN_EXE_recompiler-build"));
    fs::write(image.at("w.wat"), "(module (memory (export \"memory\") 1) (func (export \"_start\") (i32.store (i32.const 8) (i32.load (i32.const 0)))))").unwrap();
    let wat = Command::new("wat2wasm").arg(image.at("w.wat")).arg("-o").arg(image.at("w.wasm")).status();
    assert!(wat.expect("wabt is installed").success());
    image.ok(&["keygen", "k.pem"]);
    image.ok(&["bundle", "w.wasm", "--target", "aarch64-unknown-linux-gnu", "--key", "k.pem"]);
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(image.at("manifest.json")).unwrap()).unwrap();
    let row = &manifest["artifacts"][0];
    assert_eq!((row["form"].as_str(), row["target"].as_str()), (Some("wasi"), Some("aarch64-unknown-linux-gnu")));
    let file = fs::read(image.at(row["file"].as_str().unwrap())).unwrap();
    assert_eq!(object::File::parse(&file[..]).unwrap().architecture(), object::Architecture::Aarch64);
}

/// On x86-64, too, the one barrier that loads and stores do not keep by themselves: the optimising compiler used to leave it out.
#[test]
fn mfence_is_a_barrier_on_x86_64() {
    let image = image();
    image.ok(&["compile", "f.structured.wasm", "--cpu", "x86-64-v2", "--output", "."]);
    let file = fs::read(image.at("f.structured.so")).unwrap();
    let text = object::File::parse(&file[..]).unwrap().section_by_name(".text").unwrap().data().unwrap().to_vec();
    // `mfence`, or `lock or` of nothing into the native stack, which is as good and which LLVM prefers. No other function here has either.
    let barriers = [&[0x0f, 0xae, 0xf0][..], &[0xf0, 0x83, 0x4c, 0x24]];
    let count: usize = barriers.iter().map(|b| text.windows(b.len()).filter(|w| w == b).count()).sum();
    assert_eq!(count, 1);
}

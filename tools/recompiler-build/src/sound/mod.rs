//! A look at the machine code of the structured form before it is believed: what the lifter's modules cannot ask for must not be in it.
//!
//! Owns the rules (those for AArch64, where x28 is what GS is here, have a file of their own): GS, whose base is the thread's CPU state, is used within that state, and what stands behind it (`abi::Links`, addresses of the runtime's) is never written; and no instruction enters the kernel, changes a
//! segment's base or talks to a device. The fact a newcomer gets wrong: this guards against the compiler, not against the lifter: LLVM once took a load of `gs:0` for GS's own base, and a guest's pointer reached the runtime.

mod aarch64;
mod constant;

use aarch64::Reserved;
use constant::{Surroundings, Text};
use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register};
use object::{Architecture, Object, ObjectSection, SectionKind};
use policy::manifest::Form;
use std::cell::LazyCell;
use std::mem::{offset_of, size_of};
use syscalls::abi::{CpuState, Links};

/// The first instruction that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsound {
    pub address: u64,
    pub instruction: String,
}

/// Checks all code of an ELF image; one that cannot be read has none that runs.
pub fn check(image: &[u8], form: Form) -> Result<(), Unsound> {
    let Ok(file) = object::File::parse(image) else { return Ok(()) };
    for section in file.sections().filter(|s| s.kind() == SectionKind::Text) {
        let Ok(bytes) = section.data() else { continue };
        let bad = match file.architecture() {
            Architecture::Aarch64 => first_unsound_aarch64(bytes, section.address(), if form == Form::Wasi { Reserved::NONE } else { Reserved::LIFTED }),
            _ => first_unsound(bytes, section.address(), || Surroundings::of(&file)).map(|bad| Unsound { address: bad.ip(), instruction: bad.to_string() }),
        };
        if let Some(bad) = bad {
            return Err(bad);
        }
    }
    Ok(())
}

fn first_unsound_aarch64(bytes: &[u8], address: u64, reserved: Reserved) -> Option<Unsound> {
    let words = bytes.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().expect("four bytes")));
    let (index, bad) = words.enumerate().find(|(_, i)| !aarch64::is_sound(reserved, *i))?;
    Some(Unsound { address: address + 4 * index as u64, instruction: format!("{bad:08x}") })
}

fn first_unsound<'a>(bytes: &[u8], address: u64, around: impl FnOnce() -> Surroundings<'a>) -> Option<Instruction> {
    let mut factory = InstructionInfoFactory::new();
    // Hardly ever does an address need a proof.
    let text = LazyCell::new(|| Text::new(bytes, address, around()));
    let mut code = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).into_iter();
    code.find(|i| !is_sound(&mut factory, i, |_| Vec::new()) && !is_sound(&mut factory, i, |base| text.constants(i.ip(), base)))
}

/// `constants`: what a register may hold there; nothing if that cannot be said.
fn is_sound(factory: &mut InstructionInfoFactory, i: &Instruction, constants: impl Fn(Register) -> Vec<u64>) -> bool {
    use Mnemonic::*;
    let forbidden = matches!(
        i.mnemonic(),
        Syscall
            | Sysenter
            | Int
            | Int1
            | Into
            | Iret
            | Iretd
            | Iretq
            | Retf
            | Wrfsbase
            | Wrgsbase
            | Swapgs
            | Lgs
            | Lfs
            | Lss
            | In
            | Insb
            | Insw
            | Insd
            | Out
            | Outsb
            | Outsw
            | Outsd
            | Wrpkru
            | Xrstor
            | Xrstor64
    ) || i.is_invalid()
        || i.segment_prefix() == Register::FS;
    let writes_segment = i.op_count() > 0 && i.op0_register().is_segment_register();
    if forbidden || writes_segment {
        return false;
    }
    if i.segment_prefix() != Register::GS {
        return true;
    }
    factory.info(i).used_memory().iter().filter(|m| m.segment() == Register::GS).all(|m| {
        let writes = !matches!(m.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
        let limit = if writes { size_of::<CpuState>() as u64 } else { Links::AT + size_of::<Links>() as u64 };
        let ends_within = |at: u64| at.saturating_add(m.memory_size().size() as u64) <= limit;
        // Registers of the x87 are reached by their number: only there does an address depend on a register.
        let by_number = (offset_of!(CpuState, st) as u64..offset_of!(CpuState, scratch) as u64).contains(&m.displacement());
        if m.index() == Register::None && m.base() == Register::None || by_number {
            return ends_within(m.displacement());
        }
        let bases = if m.index() == Register::None { constants(m.base()) } else { Vec::new() };
        !bases.is_empty() && bases.iter().all(|base| ends_within(base.wrapping_add(m.displacement())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::code_asm::*;

    fn unsound(code: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Option<String> {
        let mut a = CodeAssembler::new(64).unwrap();
        code(&mut a).unwrap();
        a.ret().unwrap();
        first_unsound(&a.assemble(0x1000).unwrap(), 0x1000, Surroundings::default).map(|i| i.to_string())
    }

    const LINKS: i32 = Links::AT as i32;

    #[test]
    fn the_cpu_state_may_be_used_and_the_links_read() {
        assert_eq!(unsound(|a| a.mov(rax, qword_ptr(0x10).gs())), None);
        assert_eq!(unsound(|a| a.mov(qword_ptr(0).gs(), rcx)), None);
        assert_eq!(unsound(|a| a.mov(rax, qword_ptr(LINKS + 8).gs())), None);
        assert_eq!(unsound(|a| a.movups(xmm0, xmmword_ptr(rcx + offset_of!(CpuState, st)).gs())), None);
    }

    #[test]
    fn what_llvm_made_of_a_pointer_at_gs_0_is_refused() {
        assert!(unsound(|a| a.mov(qword_ptr(LINKS + 24).gs(), rcx)).is_some());
        assert!(unsound(|a| a.add(dword_ptr(LINKS).gs(), 1)).is_some());
        assert!(unsound(|a| a.mov(rbx, qword_ptr(rcx * 8 + 0x10).gs())).is_some());
        assert!(unsound(|a| a.mov(rbx, qword_ptr(0x10_0000).gs())).is_some());
        assert!(unsound(|a| a.mov(rbx, qword_ptr(-8).gs())).is_some());
    }

    #[test]
    fn an_address_in_a_register_is_looked_at_where_it_is_a_constant() {
        let through = |address: i32| {
            move |a: &mut CodeAssembler| {
                a.mov(eax, address)?;
                a.movdqa(xmmword_ptr(rax).gs(), xmm1)
            }
        };
        assert_eq!(unsound(through(0x150)), None);
        assert!(unsound(through(LINKS)).is_some());
        assert!(unsound(|a| a.movdqa(xmmword_ptr(rax).gs(), xmm1)).is_some());
    }

    #[test]
    fn the_kernel_and_the_segments_are_out_of_reach() {
        assert!(unsound(|a| a.syscall()).is_some());
        assert!(unsound(|a| a.int(0x80)).is_some());
        assert!(unsound(|a| a.wrgsbase(rax)).is_some());
        assert!(unsound(|a| a.mov(gs, eax)).is_some());
    }
}

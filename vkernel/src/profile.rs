//! The seccomp profile of a description, compiled. Owns the translation from runtime-spec's words; installing is `lockdown`'s.
//!
//! The facts a newcomer gets wrong: a profile can only take away what vkernel's own filters allow; and it must let `seccomp(2)` itself pass, because the allow-list, which refuses
//! that call for good, is installed after it.

use crate::failure::Failure;
use crate::filter::Program;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

fn failure(e: impl std::fmt::Display) -> Failure {
    Failure::new("seccomp profile", e, "correct it, or run without: vkernel's own filters hold in any case")
}

/// The BPF program of a profile.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program, Failure> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut filter = ScmpFilterContext::new(default).map_err(failure)?;
    if !filter.is_arch_present(ScmpArch::X8664).map_err(failure)? {
        filter.add_arch(ScmpArch::X8664).map_err(failure)?;
    }
    for rule in profile.syscalls().iter().flatten() {
        add(&mut filter, rule, default)?;
    }
    if default != ScmpAction::Allow {
        filter.add_rule(ScmpAction::Allow, ScmpSyscall::from(libc::SYS_seccomp as i32)).map_err(failure)?;
    }
    crate::filter::exported(&filter)
}

fn add(filter: &mut ScmpFilterContext, rule: &LinuxSyscall, default: ScmpAction) -> Result<(), Failure> {
    let wanted = action(rule.action(), rule.errno_ret())?;
    if wanted == default {
        return Ok(());
    }
    let conditions = rule.args().iter().flatten().map(condition).collect::<Result<Vec<_>, _>>()?;
    // The same argument twice means "either": a filter can only say "both", so each condition is a rule of its own, as in runc.
    let mut arguments: Vec<usize> = rule.args().iter().flatten().map(LinuxSeccompArg::index).collect();
    arguments.sort_unstable();
    let either = arguments.windows(2).any(|w| w[0] == w[1]);
    // Names this host does not know cannot be called either.
    let known = rule.names().iter().filter(|n| *n != "seccomp").filter_map(|n| ScmpSyscall::from_name(n).ok());
    for call in known {
        let added = match &conditions[..] {
            [] => filter.add_rule(wanted, call).map(drop),
            all if either => all.iter().try_for_each(|one| filter.add_rule_conditional(wanted, call, &[*one]).map(drop)),
            all => filter.add_rule_conditional(wanted, call, all).map(drop),
        };
        added.map_err(failure)?;
    }
    Ok(())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, Failure> {
    let errno = errno.unwrap_or(libc::EPERM as u32);
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno as i32),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(errno as u16),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        // A process has one listener, and it is the supervisor's.
        LinuxSeccompAction::ScmpActNotify => return Err(failure("SCMP_ACT_NOTIFY needs a listener, and the supervisor has it")),
    })
}

fn condition(arg: &LinuxSeccompArg) -> Result<ScmpArgCompare, Failure> {
    let (op, datum) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or(0)),
    };
    let index = u32::try_from(arg.index()).ok().filter(|i| *i < 6).ok_or_else(|| failure(format!("argument {} of 6", arg.index())))?;
    Ok(ScmpArgCompare::new(index, op, datum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(json: serde_json::Value) -> Result<Program, Failure> {
        compile(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn a_profile_as_podman_writes_it_compiles_and_notify_is_refused() {
        let rules = serde_json::json!([
            {"names": ["read", "seccomp", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2_114_060_288_u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
        ]);
        let allowing = program(serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": rules})).unwrap();
        assert!(allowing.len() > 10, "{}", allowing.len());
        let denying = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["seccomp"], "action": "SCMP_ACT_ERRNO"}]});
        let nothing = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"});
        assert_eq!(program(denying).unwrap().len(), program(nothing).unwrap().len(), "the profile cannot keep our own filter away");
        let notify = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
        assert!(program(notify).unwrap_err().to_string().contains("listener"));
    }
}

//! Sizes, limits and signals as people write them, for descriptions.

use super::invalid;
use crate::cli::Shape;
use crate::failure::Failure;
use serde_json::{Value, json};

/// `512m`, `1g`, `4096`; units b, k, m, g in powers of 1024.
pub fn bytes(option: &str, text: &str) -> Result<i64, Failure> {
    let lower = text.to_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower[digits.len()..].trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return Err(invalid(option, text, "write a number with a unit b, k, m or g")),
    };
    let value = digits.parse::<i64>().ok().and_then(|n| n.checked_mul(1 << shift)).filter(|n| *n >= 0);
    value.ok_or_else(|| invalid(option, text, "write a number with a unit b, k, m or g"))
}

/// `TERM`, `SIGTERM` or `15`.
pub fn signal(text: &str) -> Result<i32, Failure> {
    let upper = text.to_uppercase();
    let number = upper.parse::<i32>().ok().filter(|n| (0..=64).contains(n));
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    number.or_else(|| full.parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32)).ok_or_else(|| invalid("signal", text, "use a name or number of signal(7)"))
}

/// What control groups are to keep.
pub(super) fn resources(shape: &Shape) -> Result<Value, Failure> {
    let mut resources = json!({});
    let limit = shape.memory.as_deref().map(|m| bytes("--memory", m)).transpose()?;
    let swap = match shape.memory_swap.as_deref() {
        Some("-1") => Some(-1),
        other => other.map(|m| bytes("--memory-swap", m)).transpose()?,
    };
    if limit.is_some() || swap.is_some() {
        resources["memory"] = object([("limit", limit.map(Value::from)), ("swap", swap.map(Value::from))]);
    }
    if let Some(pids) = shape.pids_limit {
        resources["pids"] = json!({"limit": pids});
    }
    const PERIOD: u64 = 100_000;
    let quota = match shape.cpus {
        Some(cpus) if !(0.01..1e6).contains(&cpus) => return Err(invalid("--cpus", &cpus.to_string(), "write a number of CPUs, at least 0.01")),
        other => other.map(|cpus| (cpus * PERIOD as f64).round() as i64),
    };
    let cpu = object([
        ("quota", quota.map(Value::from)),
        ("period", quota.map(|_| PERIOD.into())),
        ("shares", shape.cpu_shares.map(Value::from)),
        ("cpus", shape.cpuset_cpus.clone().map(Value::from)),
    ]);
    if cpu.as_object().is_some_and(|c| !c.is_empty()) {
        resources["cpu"] = cpu;
    }
    Ok(resources)
}

fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    members.into_iter().filter_map(|(k, v)| v.map(|v| (k.to_owned(), v))).collect::<serde_json::Map<_, _>>().into()
}

/// `nofile=1024:4096`, `stack=unlimited`.
pub(super) fn rlimits(entries: &[String]) -> Result<Vec<Value>, Failure> {
    let wrong = |e: &str| invalid("--ulimit", e, "write NAME=SOFT[:HARD], e.g. nofile=1024:4096");
    let number = |e: &str, n: &str| match n {
        "unlimited" | "-1" => Ok(u64::MAX),
        n => n.parse().map_err(|_| wrong(e)),
    };
    let one = |e: &String| {
        let (name, values) = e.split_once('=').ok_or_else(|| wrong(e))?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let kind = format!("RLIMIT_{}", name.to_uppercase());
        serde_json::from_value::<oci_spec::runtime::PosixRlimitType>(kind.clone().into()).map_err(|_| wrong(e))?;
        let (soft, hard) = (number(e, soft)?, number(e, hard)?);
        if soft > hard { Err(wrong(e)) } else { Ok(json!({"type": kind, "soft": soft, "hard": hard})) }
    };
    entries.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_signals_are_read_as_podman_reads_them() {
        assert_eq!(["7", "7b", "1k", "2M", "1g", "3gb"].map(|t| bytes("--memory", t).unwrap()), [7, 7, 1024, 2 << 20, 1 << 30, 3 << 30]);
        for bad in ["", "m", "-1", "1t", "99999999999g", "1.5g"] {
            assert!(bytes("--memory", bad).is_err(), "{bad}");
        }
        assert_eq!(["9", "KILL", "sigterm"].map(|t| signal(t).unwrap()), [9, 9, 15]);
        assert!(signal("SIGNOTHING").is_err() && signal("99").is_err());
    }
}

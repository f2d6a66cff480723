//! Resource limits of a description as the files of control groups, for both versions. Pure: which file gets what; writing is `cgroup`'s.
//!
//! The fact a newcomer gets wrong: in version 2 swap is counted apart from memory, in version 1 (and in the description) together with it; and shares of 2 to 262144 became
//! weights of 1 to 10000.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

/// One value of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub controller: &'static str,
    pub file: &'static str,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// What to write where, in this order.
pub fn writes(resources: &LinuxResources, version: Version) -> Vec<Write> {
    let mut all = Vec::new();
    if let Some(m) = resources.memory() {
        memory(m, version, &mut all);
    }
    if let Some(pids) = resources.pids() {
        let limit = pids.limit();
        all.push(write("pids", "pids.max", if limit > 0 { limit.to_string() } else { "max".into() }));
    }
    if let Some(c) = resources.cpu() {
        cpu(c, version, &mut all);
    }
    all
}

fn write(controller: &'static str, file: &'static str, value: impl ToString) -> Write {
    Write { controller, file, value: value.to_string() }
}

fn memory(m: &LinuxMemory, version: Version, all: &mut Vec<Write>) {
    let unlimited = |v: i64, word: &str| if v < 0 { word.to_owned() } else { v.to_string() };
    let limit = m.limit().filter(|l| *l != 0);
    match version {
        Version::V1 => {
            all.extend(limit.map(|l| write("memory", "memory.limit_in_bytes", unlimited(l, "-1"))));
            all.extend(m.reservation().map(|r| write("memory", "memory.soft_limit_in_bytes", unlimited(r, "-1"))));
            all.extend(m.swap().filter(|s| *s != 0).map(|s| write("memory", "memory.memsw.limit_in_bytes", unlimited(s, "-1"))));
            all.extend(m.swappiness().map(|s| write("memory", "memory.swappiness", s)));
        }
        Version::V2 => {
            all.extend(limit.map(|l| write("memory", "memory.max", unlimited(l, "max"))));
            all.extend(m.reservation().map(|r| write("memory", "memory.low", unlimited(r, "max"))));
            let swap = m.swap().filter(|s| *s != 0).map(|s| if s < 0 { "max".to_owned() } else { s.saturating_sub(limit.unwrap_or(0).max(0)).max(0).to_string() });
            all.extend(swap.map(|s| write("memory", "memory.swap.max", s)));
        }
    }
}

fn cpu(c: &LinuxCpu, version: Version, all: &mut Vec<Write>) {
    let (quota, period) = (c.quota().filter(|q| *q != 0), c.period().filter(|p| *p != 0));
    let shares = c.shares().filter(|s| *s != 0);
    match version {
        Version::V1 => {
            all.extend(shares.map(|s| write("cpu", "cpu.shares", s)));
            all.extend(period.map(|p| write("cpu", "cpu.cfs_period_us", p)));
            all.extend(quota.map(|q| write("cpu", "cpu.cfs_quota_us", q)));
        }
        Version::V2 => {
            all.extend(shares.map(|s| write("cpu", "cpu.weight", 1 + (s.clamp(2, 262_144) - 2) * 9999 / 262_142)));
            if quota.is_some() || period.is_some() {
                let quota = quota.filter(|q| *q > 0).map_or("max".to_owned(), |q| q.to_string());
                all.push(write("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(100_000))));
            }
        }
    }
    all.extend(c.cpus().as_ref().filter(|v| !v.is_empty()).map(|v| write("cpuset", "cpuset.cpus", v)));
    all.extend(c.mems().as_ref().filter(|v| !v.is_empty()).map(|v| write("cpuset", "cpuset.mems", v)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: serde_json::Value, version: Version) -> Vec<String> {
        writes(&serde_json::from_value(json).unwrap(), version).into_iter().map(|w| format!("{} {}", w.file, w.value)).collect()
    }

    #[test]
    fn the_same_limits_in_both_versions() {
        let asked = serde_json::json!({
            "memory": {"limit": 1000, "swap": 1500, "reservation": 10}, "pids": {"limit": 7},
            "cpu": {"shares": 1024, "quota": 50000, "period": 100_000, "cpus": "0-1"}
        });
        let v1 = ["memory.limit_in_bytes 1000", "memory.soft_limit_in_bytes 10", "memory.memsw.limit_in_bytes 1500", "pids.max 7"];
        let v1_cpu = ["cpu.shares 1024", "cpu.cfs_period_us 100000", "cpu.cfs_quota_us 50000", "cpuset.cpus 0-1"];
        assert_eq!(of(asked.clone(), Version::V1), [v1.as_slice(), &v1_cpu].concat());
        let v2 = ["memory.max 1000", "memory.low 10", "memory.swap.max 500", "pids.max 7", "cpu.weight 39", "cpu.max 50000 100000", "cpuset.cpus 0-1"];
        assert_eq!(of(asked, Version::V2), v2);
    }

    #[test]
    fn no_limit_is_written_as_each_version_says_it() {
        let asked = serde_json::json!({"memory": {"limit": -1, "swap": -1}, "pids": {"limit": 0}, "cpu": {"period": 1000}});
        assert_eq!(of(asked.clone(), Version::V1), ["memory.limit_in_bytes -1", "memory.memsw.limit_in_bytes -1", "pids.max max", "cpu.cfs_period_us 1000"]);
        assert_eq!(of(asked, Version::V2), ["memory.max max", "memory.swap.max max", "pids.max max", "cpu.max max 1000"]);
    }
}

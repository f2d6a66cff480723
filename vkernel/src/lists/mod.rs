//! `vkernel policy`: reading manifests and logs for the `policy` crate's questions, and printing its answers. Owns files and words; no list is changed but in what `learn` writes.
//!
//! The fact a newcomer gets wrong: nothing here verifies a signature. A manifest that is looked at need not be trusted; one that is written has to be signed before it counts.

mod told;

use crate::cli::policy::{Diff, Form, Learn, Lint, Task};
use crate::failure::Failure;
use crate::keys;
use policy::compare::Comparison;
use policy::learn::{self, Learned, Recording};
use policy::lint::{Call, Level};
use policy::{Manifest, canonical, lint, rules, verify};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use syscalls::table::{self, Support};

/// No record is longer: two paths of 4096 bytes, each of which JSON may write sixfold.
const LONGEST_RECORD_BYTES: u64 = 64 << 10;

/// What is printed, and the exit code.
pub fn run(task: &Task) -> Result<(String, i32), Failure> {
    match task {
        Task::Learn(options) => learned(options).map(|text| (text, 0)),
        Task::Lint(options) => linted(options),
        Task::Diff(options) => compared(options),
    }
}

/// Well-formed and sensible, but believed by nobody.
fn manifest(path: &Path) -> Result<Manifest, Failure> {
    let failure = |e: &dyn std::fmt::Display| Failure::new(format!("manifest {}", path.display()), e, "name the manifest.json of a build");
    let value = canonical::parse(&keys::bytes(path)?).map_err(|e| failure(&e))?;
    let manifest = verify::typed(value).map_err(|e| failure(&e))?;
    rules::check(&manifest).map_err(|e| failure(&e))?;
    Ok(manifest)
}

fn call(name: &str) -> Call {
    match table::by_name(name) {
        None => Call::Unknown,
        Some(row) if row.support == Support::Refuse => Call::Refused,
        Some(_) => Call::Granted,
    }
}

fn learned(options: &Learn) -> Result<String, Failure> {
    let old = manifest(&options.manifest)?;
    let mut recording = Recording::default();
    options.logs.iter().try_for_each(|log| read(log, &mut recording))?;
    let always: Vec<&str> = table::BASE.iter().filter_map(|nr| table::row((*nr).into())).map(|row| row.name).collect();
    let learned = learn::learn(&old, &recording, options.tighten, &always, |name| call(name) == Call::Granted).map_err(|e| Failure::new("policy learn --tighten", e, ""))?;
    let difference = Comparison::of(&old, &learned.manifest);
    if let Some(file) = &options.output {
        let bytes = match options.form {
            Form::Manifest => canonical::to_bytes(&plain(&learned.manifest)),
            Form::Policy => format!("{:#}\n", policy_file(&learned.manifest)).into_bytes(),
        };
        replace(file, &bytes)?;
    }
    if options.json {
        let paths = |m: &BTreeSet<policy::Digest>| m.iter().map(ToString::to_string).collect::<Vec<_>>();
        let told = json!({
            "difference": plain(&difference), "containers": recording.permissive_containers(), "lost": recording.lost, "unreadable": recording.unreadable,
            "foreign": paths(&learned.foreign), "not_grantable": learned.not_grantable, "untold": learned.untold,
        });
        return Ok(format!("{told:#}\n"));
    }
    Ok(told::difference(&difference) + &doubts(&recording, &learned))
}

/// What the result is not to be taken for.
fn doubts(recording: &Recording, learned: &Learned) -> String {
    let mut text = String::new();
    let mut say = |line: String| text += &format!("{line}\n");
    if recording.permissive_containers() == 0 {
        say("note: no container of these logs ran with --permissive: there was nothing to learn from".into());
    }
    if recording.lost > 0 {
        say(format!("note: {} records are missing from the logs: run again to learn the rest", recording.lost));
    }
    if recording.unreadable > 0 {
        say(format!("note: {} lines are no audit records", recording.unreadable));
    }
    if !learned.foreign.is_empty() {
        say(format!("note: {} programs of the logs are not of this manifest: name the one that ran", learned.foreign.len()));
    }
    if !learned.not_grantable.is_empty() {
        say(format!("note: no list can grant {}", learned.not_grantable.iter().map(String::as_str).collect::<Vec<_>>().join(", ")));
    }
    if !learned.untold.is_empty() {
        say(format!("note: {} programs did not run, or not always recorded: nothing was taken from their lists", learned.untold.len()));
    }
    text
}

fn read(log: &Path, recording: &mut Recording) -> Result<(), Failure> {
    let failure = |e: std::io::Error| Failure::new(format!("audit log {}", log.display()), e, "name a file that `vkernel run --audit` wrote");
    let source: Box<dyn Read> = if log == Path::new("-") { Box::new(std::io::stdin()) } else { Box::new(File::open(log).map_err(failure)?) };
    let mut lines = BufReader::new(source);
    loop {
        let mut line = Vec::new();
        if (&mut lines).take(LONGEST_RECORD_BYTES).read_until(b'\n', &mut line).map_err(failure)? == 0 {
            return Ok(());
        }
        recording.add(&line);
    }
}

/// As `recompiler-build --policy` takes it.
fn policy_file(m: &Manifest) -> Value {
    let overrides = m.binaries.values().filter(|b| !b.overrides.is_empty()).map(|b| (b.path.clone(), plain(&b.overrides)));
    let mut value = plain(&m.global_policies);
    value["overrides"] = overrides.collect::<serde_json::Map<_, _>>().into();
    value
}

fn plain(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("plain data")
}

/// As a whole: a file that was half written would be signed by somebody.
fn replace(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = file.with_file_name(name);
    let written = File::create_new(&new).and_then(|mut f| f.write_all(bytes)).and_then(|()| std::fs::rename(&new, file));
    written.map_err(|e| {
        let _ = std::fs::remove_file(&new);
        Failure::new(format!("--output {}", file.display()), e, "name a file in a directory that can be written")
    })
}

fn linted(options: &Lint) -> Result<(String, i32), Failure> {
    let every: BTreeSet<&str> = table::rows().filter(|row| row.support != Support::Refuse).map(|row| row.name).collect();
    let findings = lint::lint(&manifest(&options.manifest)?, &every, call);
    let code = i32::from(findings.iter().any(|f| f.level == Level::Warning));
    Ok((if options.json { format!("{:#}\n", plain(&findings)) } else { told::findings(&findings) }, code))
}

fn compared(options: &Diff) -> Result<(String, i32), Failure> {
    let difference = Comparison::of(&manifest(&options.old)?, &manifest(&options.new)?);
    let code = i32::from(!difference.is_empty());
    Ok((if options.json { format!("{:#}\n", plain(&difference)) } else { told::difference(&difference) }, code))
}

//! One function per command of the command line. Owns what is printed; the work is done elsewhere.

use crate::building::{self, jobs};
use crate::cache::Cache;
use crate::cli::{Cli, Command, CompileArgs, KeygenArgs, LiftArgs, Request, ScanArgs, SignArgs, VerifyArgs};
use crate::compile::{self, Job};
use crate::output::Together;
use crate::pipeline::form_name;
use crate::processor::Processor;
use crate::recompile::Again;
use crate::scan::rootfs::Rootfs;
use crate::signing::Signer;
use crate::starting::{Start, Taken};
use crate::{attest, fetching, inventory, lifting, manual, output, prove, recompile, report, sbom, scan, starting, verifying};
use anyhow::Context;
use clap::CommandFactory;
use policy::manifest::Form;
use policy::signature::Kind;
use policy::{Manifest, PrivateKey, canonical};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub fn run(request: Request) -> anyhow::Result<()> {
    let command = match request {
        Request::Build(args) => return building::build(*args, false),
        Request::Command(command) => command,
    };
    match command {
        Command::Merge(args) => building::build(*args, true),
        Command::Bundle(args) => building::bundle(args),
        Command::Scan(args) => list(&args),
        Command::Report(args) => report::run(&args, print),
        Command::Sbom(args) => sbom::run(&args, print),
        Command::Lift(args) => lift(&args),
        Command::Compile(args) => compile_files(&args),
        Command::Sign(args) => sign(&args),
        Command::Verify(args) => verify(&args),
        Command::Prove(args) => print(&prove::run(&args)?),
        Command::Keygen(args) => keygen(&args),
        Command::Schema => {
            println!("{:#}", Manifest::schema());
            Ok(())
        }
        Command::Push(args) => Err(fetching::forward("push", &args.arguments)),
        Command::Pull(args) => Err(fetching::forward("pull", &args.arguments)),
        Command::Man => Ok(std::io::stdout().write_all(&manual::page()?)?),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "recompiler-build", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn list(args: &ScanArgs) -> anyhow::Result<()> {
    let rootfs = fetching::rootfs(&args.source, args.cache.as_deref())?;
    let found = inventory::survey(&Rootfs::open(&rootfs)?, &args.include)?;
    let text = match args {
        ScanArgs { json: true, .. } => format!("{}\n", serde_json::to_string_pretty(&found).context("an inventory is plain JSON")?),
        ScanArgs { dot: true, .. } => inventory::dot(&found),
        ScanArgs { svg: true, .. } => inventory::svg(&found)?,
        _ => inventory::table(&found),
    };
    print(&text)
}

pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    // A reader that has seen enough closes the pipe; that is no failure.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

fn lift(args: &LiftArgs) -> anyhow::Result<()> {
    let path = args.file.display().to_string();
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {path}"))?;
    anyhow::ensure!(scan::elf::is_elf(&bytes), "{path}: is not an ELF file");
    let facts = scan::elf::facts(&path, &bytes)?;
    let base = args.base.unwrap_or(if facts.non_pie { 0 } else { megabinary::slots::RANGE.start });
    let start = Instant::now();
    let shard = lifting::lift_bytes(&bytes, base, &path, args.tier.structured())?;
    let seconds = start.elapsed().as_secs_f64();
    if args.report {
        print_lifted(&facts, &shard, seconds);
    }
    if let Some(directory) = &args.output {
        output::directory(directory)?;
        let name = args.file.file_name().unwrap_or_default().to_string_lossy();
        for (form, module) in [(Form::Structured, &shard.structured), (Form::Resumable, &shard.resumable)] {
            output::replace(&directory.join(format!("{name}.{}.wasm", form_name(form))), module)?;
        }
    }
    Ok(())
}

fn print_lifted(facts: &scan::elf::ElfFacts, shard: &lift::Shard, seconds: f64) {
    let text = facts.text_bytes();
    let r = &shard.report;
    let total: u64 = r.gaps.values().sum();
    let d = &r.discovery;
    let rows: [(&str, String); 12] = [
        ("code forms", r.language.map_or("structured and resumable".into(), |l| format!("resumable only ({l})"))),
        ("functions", r.functions.to_string()),
        ("blocks", d.blocks.to_string()),
        ("instructions", d.instructions.to_string()),
        ("text bytes", format!("{text}, {:.1} % reached", d.covered_bytes as f64 * 100.0 / text.max(1) as f64)),
        ("jump tables", d.switches.to_string()),
        ("unresolved jumps", format!("{} (plus {} indirect calls)", d.unresolved_indirect_jumps, d.indirect_calls)),
        ("irreducible", format!("{} functions", r.irreducible)),
        ("resumable alone", format!("{} functions{}", r.resumable_only.len(), places(&r.resumable_only))),
        ("structured", format!("{} bytes, {:.2} x text", r.structured_bytes, r.structured_bytes as f64 / text.max(1) as f64)),
        ("resumable", format!("{} bytes, {:.2} x text", r.resumable_bytes, r.resumable_bytes as f64 / text.max(1) as f64)),
        ("seconds", format!("{seconds:.1}")),
    ];
    rows.iter().for_each(|(name, value)| println!("{name:<20} {value}"));
    println!("{:<20} {total} instructions of {} mnemonics", "unlifted", r.gaps.len());
    let mut gaps: Vec<_> = r.gaps.iter().collect();
    gaps.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
    gaps.iter().for_each(|(name, count)| println!("  {count:>6} {name}"));
}

/// The first of some addresses, in brackets.
fn places(addresses: &[u64]) -> String {
    const SHOWN: usize = 8;
    let mut text = addresses.iter().take(SHOWN).map(|a| format!(" {a:#x}")).collect::<String>();
    if addresses.len() > SHOWN {
        text.push_str(" …");
    }
    if text.is_empty() { text } else { format!(" at{text}") }
}

fn compile_files(args: &CompileArgs) -> anyhow::Result<()> {
    let cache = Cache::open(args.work.cache.as_deref())?;
    output::directory(&args.output)?;
    let processors = Processor::all(&[args.target], args.cpu.as_slice())?;
    let processor = processors.first().context("one target has one processor")?;
    for path in &args.files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.strip_suffix(".wasm").unwrap_or(&name);
        let form = [Form::Structured, Form::Resumable].into_iter().find(|f| stem.ends_with(form_name(*f)));
        let form = form.with_context(|| format!("{}: must end in .structured.wasm or .resumable.wasm", path.display()))?;
        let module = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let start = Instant::now();
        let job = Job { name: &name, form, module: &module };
        let compiled = match compile::cached(&cache, &job, processor) {
            Some(compiled) => compiled,
            None => compile::compile(&cache, &job, processor, jobs(&args.work))?,
        };
        output::replace(&args.output.join(format!("{stem}.{}", compile::EXTENSION)), &compiled.bytes)?;
        let (before, after) = (module.len() as f64, compiled.bytes.len() as f64);
        println!("{name}: {:.2} MB to {:.2} MB, {:.1} s, {}", before / 1e6, after / 1e6, start.elapsed().as_secs_f64(), compiled.engine);
    }
    Ok(())
}

fn sign(args: &SignArgs) -> anyhow::Result<()> {
    let signer = Signer::open(&args.signer)?.context("who signs? name a key with --key FILE, or a program with --signer COMMAND --signer-public FILE")?;
    let name = || args.manifest.display().to_string();
    let mut value = canonical::parse(&verifying::read_manifest(&args.manifest)?).with_context(name)?;
    let manifest = policy::verify::typed(value.clone()).with_context(name)?;
    policy::rules::check(&manifest).with_context(name)?;
    signer.sign_document(Kind::Manifest, &mut value)?;
    let mut files = Together::new();
    // Bundles speak of the files; who signs where only the manifest is, makes none.
    if args.manifest.parent().unwrap_or(Path::new("")).join(&manifest.megabinary).exists() {
        attest::sign(&args.manifest, &manifest, &signer)?.iter().try_for_each(|(path, bytes)| files.replace(path, bytes))?;
    } else {
        eprintln!("recompiler-build: note: {} is not beside the manifest, so only the manifest is signed, and no Sigstore bundle is made", manifest.megabinary);
    }
    files.replace(&args.manifest, &canonical::to_bytes(&value))?;
    Ok(files.commit()?)
}

fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let keys = verifying::trusted(&args.key)?;
    let revoked = verifying::revocations(args.revoked.as_deref())?;
    let (verified, beside) = verifying::verify(&args.manifest, &keys, args.threshold, &revoked)?;
    let m = verified.manifest();
    println!("{} {} (serial {}), signed by {}", m.name, m.version, m.serial, verified.signers().iter().cloned().collect::<Vec<_>>().join(", "));
    println!("{} programs, {} libraries, {} scripts, {} artifacts: all as signed", m.binaries.len(), m.libraries.len(), m.scripts.len(), m.artifacts.len());
    if beside.bundles > 0 {
        println!("{} Sigstore bundles say the same", beside.bundles);
    }
    if proof::path(&args.manifest).exists() {
        println!("{} commands are proved, as signed", proof::check(&args.manifest, m, &keys, &revoked)?);
    }
    if !beside.unsigned.is_empty() {
        println!("not signed, so believe them as you believe where they come from: {} (recompiler-build sign signs what lies beside the manifest)", beside.unsigned.join(", "));
    }
    if !args.recompile && args.start.is_none() {
        return Ok(());
    }
    let rootfs = fetching::rootfs(&args.source, args.work.cache.as_deref())?;
    if args.recompile {
        let equal = recompile::recompile(Again { rootfs: rootfs.clone(), manifest: &args.manifest, jobs: jobs(&args.work) }, m)?;
        println!("built again: {equal} files and the manifest are equal, byte for byte");
    }
    if let Some(program) = &args.start {
        let Taken { alone, ready } = starting::measure(&Start { manifest: &args.manifest, rootfs: &rootfs, keys: &args.key, threshold: args.threshold, program })?;
        println!("{program} starts and ends in {ready:.1} ms where containers are kept ready, in {alone:.1} ms elsewhere");
        anyhow::ensure!(ready <= args.start_limit as f64, "{program} takes {ready:.1} ms, more than {} (--start-limit)", args.start_limit);
    }
    Ok(())
}

fn keygen(args: &KeygenArgs) -> anyhow::Result<()> {
    let key = PrivateKey::generate()?;
    let public: PathBuf = args.file.with_extension("pub");
    anyhow::ensure!(public != args.file, "{}: the private key cannot end in .pub", args.file.display());
    for file in [&args.file, &public] {
        anyhow::ensure!(!file.exists(), "{} exists: move it away or choose another name", file.display());
    }
    key.write(&args.file)?;
    key.write_public(&public).inspect_err(|_| drop(std::fs::remove_file(&args.file)))?;
    println!("private key {} (keep it), public key {} (copy it to /etc/vkernel/keys of each host)", args.file.display(), public.display());
    Ok(())
}

//! `cargo xtask suite fuzz [SECONDS]`: coverage-guided fuzzing of everything that parses foreign bytes, with libFuzzer on the stable compiler.
//!
//! Owns how the targets of `fuzz/` are built and started, and their first inputs. The corpora grow in `target/vkernel/fuzz-corpus`; an input that once broke something is kept in
//! `fuzz/regressions/TARGET/` and runs first. The fact a newcomer gets wrong: coverage counters are an LLVM pass, so no nightly compiler and no sanitizer runtime is needed; `--target`
//! keeps them out of build scripts.

use crate::process::{self, output, root, say, work};
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &str = "--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Name and longest input.
const TARGETS: &[(&str, u32)] = &[
    ("audit_log", 1 << 12),
    ("command_line", 1 << 10),
    ("elf_discover", 1 << 16),
    ("elf_scan", 1 << 16),
    ("image_documents", 1 << 13),
    ("layer", 1 << 15),
    ("lift_code", 1 << 9),
    ("manifest", 1 << 14),
    ("megabinary", 1 << 14),
    ("packages", 1 << 10),
    ("request", 1 << 10),
    ("rpm_database", 1 << 15),
    ("shard_sections", 1 << 10),
    ("wasi_module", 1 << 14),
];

/// Runs all targets, `seconds` altogether.
pub(crate) fn run(seconds: u32) -> anyhow::Result<()> {
    say("fuzzing the parsers of foreign bytes");
    let mut build = process::cargo();
    build.current_dir(root().join("fuzz")).env("RUSTFLAGS", FLAGS);
    build.args(["build", "--quiet", "--release", "--target", TRIPLE, "--target-dir"]).arg(work().join("fuzz"));
    process::run(&mut build)?;
    let each = (seconds / TARGETS.len() as u32).max(1);
    let mut failures = Vec::new();
    for (name, longest) in TARGETS {
        let corpus = work().join("fuzz-corpus").join(name);
        fs::create_dir_all(&corpus)?;
        seed(name, &corpus)?;
        if let Err(e) = target(name, *longest, &corpus, each) {
            println!("{name}: {e:#}");
            failures.push(*name);
        }
    }
    ensure!(failures.is_empty(), "fuzzing found something in {}; once fixed, keep the input in fuzz/regressions", failures.join(", "));
    Ok(())
}

fn target(name: &str, longest: u32, corpus: &Path, seconds: u32) -> anyhow::Result<()> {
    let found = work().join("fuzz-found");
    fs::create_dir_all(&found)?;
    let mut c = Command::new(work().join("fuzz").join(TRIPLE).join("release").join(name));
    c.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={longest}")).arg(format!("-artifact_prefix={}/{name}-", found.display()));
    c.args(["-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1", "-verbosity=0"]).arg(corpus);
    // Two targets unpack every input.
    c.env("TMPDIR", "/dev/shm");
    let regressions = root().join("fuzz/regressions").join(name);
    if regressions.exists() {
        c.arg(regressions);
    }
    let out = output(&mut c)?;
    let text = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{}\n{}", out.status, text.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
    let runs = text.lines().find_map(|l| l.strip_prefix("stat::number_of_executed_units:")).map(str::trim).context("libFuzzer printed no figures")?;
    println!("{name:<16} {runs:>9} inputs in {seconds} s, corpus {}", fs::read_dir(corpus)?.count());
    ensure!(runs.parse::<u64>()? > 10, "only {runs} inputs ran");
    Ok(())
}

/// Inputs to start from: from nothing, a fuzzer hardly gets past a magic number.
fn seed(name: &str, corpus: &Path) -> anyhow::Result<()> {
    let put = |file: &str, bytes: &[u8]| fs::write(corpus.join(file), bytes);
    match name {
        "audit_log" => {
            let record = |event: &str, reason: &str, detail: &str| {
                format!(r#"{{"container":"c","event":"{event}","decision":"allowed","reason":"{reason}","hash":"blake3:{}","detail":"{detail}"}}"#, "1".repeat(64)) + "\n"
            };
            let lines =
                [record("policy-load", "syscalls-recorded", ""), record("exec", "listed", ""), record("syscall", "used", "read"), record("syscall", "would-refuse", "uname")];
            put("run", lines.concat().as_bytes())?
        }
        "command_line" => {
            let shell = r#"{"flags":"ex","words":["--","-o errexit"],"values":["-O"],"files":["--rcfile"],"ends":["--help"],"plus":true}"#;
            put("shell", format!("{shell}\0sh\0-ex\0+o\0errexit\0--rcfile=a\0--\0b\0-c").as_bytes())?;
            let multicall = r#"{"multicall":{"name":"box","applets":{"awk":{"files":["-f"],"attached":true,"text_first":true}}}}"#;
            put("multicall", format!("{multicall}\0/bin/box\0awk\0-fa\0-f\0b").as_bytes())?;
            put("told", &[&[23u32, 2, 1].map(u32::to_le_bytes).concat()[..], b"sh\0-c\0LD_X\0"].concat())?;
        }
        "elf_discover" | "elf_scan" => put("true", &fs::read("/usr/bin/true")?)?,
        "packages" => {
            put("dpkg", b"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u14\nSource: glibc\n\n")?;
            put("apk", b"P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nF:lib\nR:libc.so\n\n")?;
        }
        "rpm_database" => {
            let (sqlite, berkeley) = rpm_databases()?;
            put("package", &sqlite)?;
            put("berkeley", &berkeley)?;
            put("ndb", &fs::read(root().join("tools/recompiler-build/tests/rpm/Packages.db"))?)?;
        }
        "request" => {
            let schema: serde_json::Value = serde_json::from_slice(&fs::read(root().join("client/schema.json"))?)?;
            for variant in schema["$defs"]["request"]["oneOf"].as_array().context("requests")? {
                let example = |(name, member): (&String, &serde_json::Value)| {
                    let kind = member["type"].as_str().or_else(|| member["type"][0].as_str());
                    let value = member.get("const").cloned().unwrap_or_else(|| match kind {
                        Some("boolean") => true.into(),
                        Some("integer") => 1.into(),
                        Some("array") => vec!["a"].into(),
                        _ => "a".into(),
                    });
                    (name.clone(), value)
                };
                let request: serde_json::Map<String, serde_json::Value> = variant["properties"].as_object().context("members")?.iter().map(example).collect();
                let name = request["type"].as_str().context("a type")?.to_owned();
                put(&name, format!("A{}\n\n", serde_json::Value::from(request)).as_bytes())?;
            }
            // Arguments in all their forms.
            let calls = r#"{"name":"openat","args":[-1,"/a"]},{"name":"read","args":[{"result":0},{"out":9},9]},{"name":"write","args":[1,{"text":"b"},1]}"#;
            put("calls", format!("A{{\"type\":\"syscall\",\"container\":\"a\",\"calls\":[{calls}]}}\n").as_bytes())?;
        }
        "image_documents" => image_documents(corpus)?,
        "layer" => layers(corpus)?,
        "lift_code" => {
            let text = work().join("seed-text");
            process::run(Command::new("objcopy").args(["-O", "binary", "-j", ".text", "/usr/bin/true"]).arg(&text))?;
            for (k, piece) in fs::read(&text)?.chunks(256).enumerate() {
                put(&format!("text-{k}"), piece)?;
            }
        }
        "manifest" => {
            for folder in ["accept", "reject"] {
                for entry in fs::read_dir(root().join("policy/tests/manifests").join(folder))? {
                    let path: PathBuf = entry?.path();
                    put(&format!("{folder}-{}", path.file_name().context("files have names")?.to_string_lossy()), &fs::read(&path)?)?;
                }
            }
        }
        "megabinary" => {
            let digest = format!("blake3:{:064}", 0);
            let meta = format!("{{\"container_id\":\"{digest}\",\"format\":1,\"tools\":{{}}}}");
            let sections = [("vkernel.meta", meta), ("vkernel.programs", "[]".to_owned()), ("vkernel.shards", "[]".to_owned()), ("vkernel.map", "{}".to_owned())];
            put("empty", &sections.iter().fold(b"\0asm\x01\0\0\0".to_vec(), |m, (n, body)| [m, custom(n, body.as_bytes())].concat()))?;
        }
        "wasi_module" => {
            let source = work().join("seed.wat");
            fs::write(
                &source,
                "(module (import \"wasi_snapshot_preview1\" \"fd_close\" (func (param i32) (result i32))) (table 1 funcref) (memory (export \"memory\") 1) (global (mut i32) (i32.const 1)) (elem (i32.const 0) 1) (data (i32.const 8) \"x\") (func (export \"_start\") (drop (call 0 (global.get 0)))))",
            )?;
            process::run(Command::new("wat2wasm").arg(&source).arg("-o").arg(corpus.join("small")))?;
            fs::write(
                &source,
                "(module (memory (export \"memory\") 1) (tag $t (param i32)) (tag $n) (type $v (func)) (table 1 funcref) (elem (i32.const 0) $f) (func $f (throw $t (i32.const 1))) (func (export \"_start\") (try $a (do (try (do (call_indirect (type $v) (i32.const 0))) (delegate $a)) (try (do (throw $n)) (catch $n))) (catch $t (drop) (block (rethrow $a))) (catch_all))))",
            )?;
            process::run(Command::new("wat2wasm").arg("--enable-exceptions").arg(&source).arg("-o").arg(corpus.join("exceptions")))?;
        }
        _ => put("blocks", &[&[1_u32, 0, 0, 5, 0, 1].map(u32::to_le_bytes).concat()[..]].concat())?,
    }
    Ok(())
}

/// rpm's database of one package: its header in a table of SQLite's, and in a hash file of Berkeley DB.
fn rpm_databases() -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let script = r#"
import sqlite3, struct, sys
text = lambda *words: b"".join(w + b"\0" for w in words)
rows = [(1000, 6, 1, text(b"tiny")), (1001, 6, 1, text(b"1.5")), (1002, 6, 1, text(b"3")), (1003, 4, 1, struct.pack(">I", 2)), (1022, 6, 1, text(b"noarch")),
        (1116, 4, 2, struct.pack(">II", 0, 1)), (1117, 8, 2, text(b"moving", b"data")), (1118, 8, 2, text(b"/bin/", b"/usr/share/"))]
entries, store = b"", b""
for tag, kind, count, value in rows:
    store += b"\0" * (-len(store) % 4)
    entries += struct.pack(">IIII", tag, kind, len(store), count)
    store += value
db = sqlite3.connect(":memory:")
db.execute("pragma page_size = 512")
db.execute("create table Packages (hnum integer primary key autoincrement, blob blob not null)")
dump = "VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=512\nHEADER=END\n"
for number, padding in ((1, 0), (2, 3000)):
    blob = struct.pack(">II", len(rows), len(store) + padding) + entries + store + b"\0" * padding
    db.execute("insert into Packages (blob) values (?)", (blob,))
    dump += f" {struct.pack('<I', number).hex()}\n {blob.hex()}\n"
db.commit()
copy = sqlite3.connect(sys.argv[1])
db.backup(copy)
open(sys.argv[2], "w").write(dump + "DATA=END\n")
"#;
    let [sqlite, dump, berkeley] = ["sqlite", "dump", "berkeley"].map(|end| work().join("seed").with_extension(end));
    for old in [&sqlite, &berkeley] {
        let _ = fs::remove_file(old);
    }
    process::run(Command::new("python3").args(["-c", script]).args([&sqlite, &dump]))?;
    process::run(Command::new("db5.3_load").arg("-f").arg(&dump).arg(&berkeley))?;
    Ok((fs::read(&sqlite)?, fs::read(&berkeley)?))
}

/// Images in all their forms, as `fuzz/targets/image_documents.rs` spells them.
fn image_documents(corpus: &Path) -> anyhow::Result<()> {
    let digest = format!("sha256:{:064}", 0);
    let config =
        |digest: &str| format!(r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":[{{"created_by":"x"}}]}}"#);
    let manifest = |kinds: [&str; 3], config: (&str, &str), layer: (&str, &str)| {
        let [own, of_config, of_layer] = kinds;
        let listed = |kind: &str, (digest, size): (&str, &str)| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#);
        format!(r#"{{"schemaVersion":2,"mediaType":"{own}","config":{},"layers":[{}],"annotations":{{"a":"b"}}}}"#, listed(of_config, config), listed(of_layer, layer))
    };
    const OCI: [&str; 3] = ["application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"];
    const DOCKER: [&str; 3] =
        ["application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"];
    let index = "application/vnd.oci.image.index.v1+json";
    let put = |file: &str, parts: &[&str]| fs::write(corpus.join(file), parts.join("\0"));
    for (file, kinds) in [("oci", OCI), ("docker", DOCKER)] {
        put(file, &[&format!("J{}", manifest(kinds, (&digest, "9"), (&digest, "9"))), &config(&digest)])?;
    }
    let entry = |more: &str| format!(r#"{{"mediaType":"{}","digest":"{digest}","size":9,{more}}}"#, OCI[0]);
    let platform = |arch: &str| entry(&format!(r#""platform":{{"os":"linux","architecture":"{arch}","variant":"v8"}}"#));
    put("index", &[&format!(r#"J{{"schemaVersion":2,"mediaType":"{index}","manifests":[{},{}]}}"#, platform("arm64"), platform("amd64"))])?;
    let referrer = entry(r#""artifactType":"application/vnd.vkernel.release.v1+json","annotations":{"io.vkernel.serial":"3"}"#);
    put("referrers", &[&format!(r#"J{{"schemaVersion":2,"mediaType":"{index}","manifests":[{referrer}]}}"#)])?;
    // A layer, a configuration, an image, and an artifact that refers to it.
    let image = manifest(OCI, ("$1", "#1"), ("$0", "#0"));
    let subject = format!(r#","artifactType":"a/b","subject":{{"mediaType":"{}","digest":"$2","size":#2}}}}"#, OCI[0]);
    let artifact = format!("{}{subject}", image.trim_end_matches('}').to_owned() + "}");
    let listed = |n: u32, more: &str| format!(r#"{{"mediaType":"{}","digest":"${n}","size":#{n},{more}}}"#, OCI[0]);
    let both = [listed(2, r#""annotations":{"org.opencontainers.image.ref.name":"x"}"#), listed(3, r#""artifactType":"a/b""#)].join(",");
    put("layout", &["Llayer", &config("$0"), &image, &artifact, &format!(r#"{{"schemaVersion":2,"manifests":[{both}]}}"#)])?;
    let nested = format!(r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[{}]}}"#, listed(2, r#""platform":{"os":"linux","architecture":"amd64"}"#));
    let outer = format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{index}","digest":"$3","size":#3}}]}}"#);
    put("nested", &["Llayer", &config("$0"), &image, &nested, &outer])?;
    let saved = |layer: &str| format!(r#"[{{"Config":"c.json","RepoTags":["shop/front:1"],"Layers":["{layer}"]}}]"#);
    put("saved", &["Da/layer.tar", "layer", "c.json", &config(&digest), "manifest.json", &saved("a/layer.tar")])?;
    put("saved-link", &["Da/layer.tar", "layer", "b/layer.tar -> ../a/layer.tar", "", "c.json", &config(&digest), "manifest.json", &saved("b/layer.tar")])?;
    put("auths", &[r#"C{"auths":{"r.example":{"auth":"dTpw"},"r.example/team":{"auth":"djpx","username":"v","password":"q"},"s.example":{"identitytoken":"t"}}}"#])?;
    let place = work().join("seed-archive");
    let script = r#"rm -rf "$0"; mkdir -p "$0/blobs/sha256"; cd "$0"; echo '{"schemaVersion":2,"manifests":[]}' > index.json; echo x > blobs/sha256/0; ln -s 0 blobs/sha256/1; (printf A; tar -b 1 -cf - index.json blobs)"#;
    Ok(fs::write(corpus.join("archive"), output(Command::new("sh").args(["-ec", script]).arg(&place))?.stdout)?)
}

/// A small tree as tar writes it, with what a layer above it removes, in every compression.
fn layers(corpus: &Path) -> anyhow::Result<()> {
    let place = work().join("seed-layer");
    let script = r#"
rm -rf "$0"; mkdir -p "$0/a/b" "$0/c"; cd "$0"
echo one > a/one; ln a/one a/two; ln -s ../c a/out; mkfifo c/p; mknod c/null c 1 3; chmod 2750 c; touch a/.wh.gone c/.wh..wh..opq
touch "a/b/$(printf '%0120d' 7)"
for format in gnu pax; do tar --format=$format -b 1 -cf - a c > "$1/$format"; done
tar --format=ustar -b 1 -cf - c > "$1/ustar"
truncate -s 20000 c/hole; echo end >> c/hole
tar --format=pax --pax-option=SCHILY.xattr.user.a:=b -S -b 1 -cf - a c > "$1/sparse"; tar --format=gnu -S -b 1 -cf - c > "$1/sparse-gnu"
gzip -c "$1/pax" > "$1/gzip"; zstd -qc "$1/pax" > "$1/zstd"
"#;
    process::run(Command::new("sh").args(["-ec", script]).arg(&place).arg(corpus))
}

/// A custom section of a WASM module.
fn custom(name: &str, body: &[u8]) -> Vec<u8> {
    let leb = |n: usize| if n < 128 { vec![n as u8] } else { vec![n as u8 | 0x80, (n >> 7) as u8] };
    let content = [&leb(name.len())[..], name.as_bytes(), body].concat();
    [&[0][..], &leb(content.len()), &content].concat()
}

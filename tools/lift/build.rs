//! Names the lifter's own source in `LIFTER_VERSION`, so that no cache can hold code of another lifter.

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut files = vec![root.join("../../syscalls/src/abi.rs")];
    collect(&root.join("src"), &mut files)?;
    files.sort();
    let mut hash = DefaultHasher::new();
    for f in &files {
        hash.write(&fs::read(f)?);
        hash.write_u8(0xff);
    }
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=../../syscalls/src/abi.rs");
    println!("cargo::rustc-env=LIFTER_SOURCE={:016x}", hash.finish());
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

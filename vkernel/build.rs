//! How the program is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // 24,000 addresses are relative to where it lies: as a bitmap they take a twentieth of the room, and a start reads them all (glibc ≥ 2.36).
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}

//! Writes assembly programs that run every form of every row with random operands and print a checksum per form: `instruction_twins DIR`. Linked with
//! `integration-tests/programs/x86/driver.c`, one program per group; its output natively and lifted must be equal.
//!
//! Owns the files; the choice is `select`'s, the text `program`'s.

mod entry;
mod program;
mod select;

use select::Kind;

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).ok_or_else(|| std::io::Error::other("usage: instruction_twins DIR"))?;
    let mut all = 0;
    for (name, forms) in select::groups() {
        let mut source = String::new();
        let entries: Vec<program::Entry> = forms.iter().map(entry::entry).collect();
        program::program(&entries, &mut source).expect("a String takes all");
        std::fs::write(std::path::Path::new(&directory).join(format!("{name}.s")), source)?;
        println!("{name} {}", forms.len());
        all += forms.len();
    }
    println!("{all} forms");
    Ok(())
}

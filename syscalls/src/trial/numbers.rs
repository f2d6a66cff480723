//! The table against the kernel's own header: names, numbers, completeness.

use crate::table;
use std::collections::BTreeMap;

/// Numbers of <asm/unistd_64.h>.
fn header() -> BTreeMap<u32, String> {
    let path = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
    let text = std::fs::read_to_string(path).expect("the kernel's header: install linux-libc-dev");
    let numbers = text.lines().filter_map(|l| l.strip_prefix("#define __NR_")?.split_once(' ')).map(|(name, nr)| (nr.trim().parse().unwrap(), name.to_owned()));
    numbers.collect()
}

#[test]
fn every_number_has_at_most_one_row() {
    let mut seen = BTreeMap::new();
    for (family, rows) in table::FAMILIES {
        for row in *rows {
            assert!((row.nr as usize) < table::MAX_NR);
            if let Some(other) = seen.insert(row.nr, *family) {
                panic!("{} ({}) has rows in {other} and {family}", row.name, row.nr);
            }
        }
    }
}

#[test]
fn names_are_the_kernels() {
    let header = header();
    for row in table::rows() {
        // Newer than this header: fchmodat2 and later.
        if let Some(name) = header.get(&row.nr) {
            assert_eq!(row.name, name, "number {}", row.nr);
        } else {
            assert!(row.nr > 450, "{} is not a number of this kernel interface", row.name);
        }
    }
}

#[test]
fn every_syscall_of_the_header_has_a_row() {
    let missing: Vec<_> = header().into_iter().filter(|(nr, _)| table::row(u64::from(*nr)).is_none()).map(|(nr, name)| format!("{nr} {name}")).collect();
    assert!(missing.is_empty(), "without a row: {}", missing.join(", "));
}

#[test]
fn a_row_has_at_most_six_arguments_and_buffers_have_lengths() {
    for row in table::rows() {
        assert!(row.args.len() <= 6, "{}", row.name);
        for (i, arg) in row.args.iter().enumerate() {
            if matches!(arg, table::Arg::BufIn | table::Arg::BufOut) {
                assert!(matches!(row.args.get(i + 1), Some(table::Arg::Len | table::Arg::Int | table::Arg::Ptr)) || row.nr == 204, "{}: no length after its buffer", row.name);
            }
        }
    }
}

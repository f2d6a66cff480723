//! What the benches work on: deterministic, made once, in the image's /srv.

use anyhow::Context;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Knuth's generator: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
}

/// A tree of 20,000 files, 1 M lines, 100 MB of text.
pub(super) fn common(srv: &Path) -> anyhow::Result<()> {
    for d in 0..200 {
        let dir = srv.join(format!("tree/{d:03}"));
        fs::create_dir_all(&dir)?;
        for f in 0..100 {
            fs::write(dir.join(format!("file-{f}")), [])?;
        }
    }
    let mut r = Random(1);
    let lines: String = (0..1_000_000).map(|_| format!("{:010}\n", r.next())).collect();
    fs::write(srv.join("lines"), &lines)?;
    let line = |r: &mut Random| format!("{:x} the quick brown fox {:x} jumps over the lazy dog {:x}, and {:x} more\n", r.next(), r.next(), r.next(), r.next());
    let text: String = (0..1_100_000).map(|_| line(&mut r)).collect();
    Ok(fs::write(srv.join("text"), text)?)
}

/// Rows that sqlite3 makes itself, so that it measures neither the shell nor the disk.
const SQL: &str = "create table t (id integer primary key, k text, v real);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)
insert into t select i, printf('%x', i * 2654435761 % 4294967296), i / 7.0 from n;
commit;
create index x on t (k);
select count(*), sum(v), max(k) from t where k like 'a%';
select k, count(*) from t group by substr(k, 1, 2) order by 2 desc, 1 limit 5;
select sum(a.v) from t a join t b on a.k = b.k where b.id % 10 = 0;
";

/// What `tools` and `gcc` need besides: parts of the text, SQL, and a C file of ten thousand lines.
pub(super) fn programs(srv: &Path) -> anyhow::Result<()> {
    let text = fs::read(srv.join("text"))?;
    for (name, megabytes) in [("text2", 2), ("text20", 20)] {
        fs::write(srv.join(name), text.get(..megabytes * 1_000_000).context("the text is shorter")?)?;
    }
    fs::write(srv.join("rows.sql"), SQL)?;
    Ok(fs::write(srv.join("large.c"), c_source(10_000))?)
}

/// Functions of the kinds that fill ordinary programs: a state machine, list and string work, numbers, bits; all different in their constants, so that the compiler has to look at each.
fn c_source(lines: usize) -> String {
    let mut r = Random(2);
    let mut out = String::from("#include <stdlib.h>\n#include <string.h>\n#include <stdio.h>\nstruct node { struct node *next; long key; double weight; char name[24]; };\n");
    let mut n = 0;
    while out.lines().count() < lines {
        let (a, b, c) = (r.next() % 1000 + 3, r.next() % 61 + 2, r.next() % 7 + 2);
        let _ = match r.next() % 5 {
            0 => write!(
                out,
                "int machine{n}(const char *s, int n) {{\n    int state = {b}, out = 0;\n    for (int i = 0; i < n; i++) {{\n        switch ((s[i] + state) % {c}) {{\n        case 0: state = s[i] ^ {a}; break;\n        \
case 1: out += state * {b}; state--; break;\n        case 2: if (out > {a}) return out; state += s[i]; break;\n        case 3: out ^= state << {c}; break;\n        default: state = (state >> 1) + out % {b};\n        }}\n    }}\n    return out;\n}}\n"
            ),
            1 => write!(
                out,
                "struct node *insert{n}(struct node *list, long key, const char *name) {{\n    struct node *p, *q = NULL, *fresh = malloc(sizeof *fresh);\n    for (p = list; p && p->key % {a} < key % {a}; p = p->next)\n        q = p;\n    \
fresh->key = key;\n    fresh->weight = key / {b}.0;\n    strncpy(fresh->name, name, sizeof fresh->name - 1);\n    fresh->name[{c}] = 0;\n    fresh->next = p;\n    if (!q)\n        return fresh;\n    q->next = fresh;\n    return list;\n}}\n"
            ),
            2 => write!(
                out,
                "double numbers{n}(double *m, const double *v, int n) {{\n    double sum = {a}.0;\n    for (int i = 0; i < n; i++) {{\n        double row = 0;\n        for (int k = 0; k < {b}; k++)\n            row += m[i * {b} + k] * v[k] - {c}.5;\n        \
if (row < 0)\n            row = -row * {c};\n        m[i] = row;\n        sum += row / (i + {a});\n    }}\n    return sum;\n}}\n"
            ),
            3 => write!(
                out,
                "unsigned long bits{n}(unsigned long x, unsigned rounds) {{\n    unsigned long t[{c}];\n    memset(t, {b}, sizeof t);\n    while (rounds--) {{\n        x = (x << {b} | x >> (64 - {b})) * {a}ul;\n        t[x % {c}] ^= x >> {c};\n        \
if ((t[0] & {a}) == {b})\n            x += t[{c} - 1];\n    }}\n    return x ^ t[0];\n}}\n"
            ),
            _ => write!(
                out,
                "int words{n}(char *text, char **list, int max) {{\n    int count = 0;\n    for (char *w = strtok(text, \" ,;{b}\"); w && count < max; w = strtok(NULL, \" \")) {{\n        size_t length = strlen(w);\n        if (length > {c} && w[0] != '#')\n            \
list[count++] = w;\n        else if (!strcmp(w, \"end{a}\"))\n            break;\n        else\n            printf(\"%s %d\\n\", w, count + {a});\n    }}\n    return count;\n}}\n"
            ),
        };
        n += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_file_has_ten_thousand_lines_and_is_the_same_every_time() {
        let source = c_source(10_000);
        assert!((10_000..10_030).contains(&source.lines().count()));
        assert_eq!(source, c_source(10_000));
    }
}

//! The page: one HTML file that needs nothing else.
//!
//! Owns its frame and order of sections. Refuses to own escaping: maud escapes every splice by itself, which fifty `format!`s of ours would forget once; `shown` adds what HTML does not care about (control characters, marks
//! that turn text around). The fact a newcomer gets wrong: the Content-Security-Policy allows the one style sheet by its hash and nothing else, so neither a `style` attribute nor a script would work, whoever put it there.

mod changes;
mod sections;

use super::diff::Changes;
use super::facts::Facts;
use super::timings::Timings;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use policy::Digest;

const STYLE: &str = include_str!("style.css");

/// The whole file.
pub(super) fn render(facts: &Facts, changes: Option<&Changes>, timings: Option<&Timings>) -> String {
    let policy = format!("default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'", BASE64_STANDARD.encode(Digest::sha256(STYLE.as_bytes()).bytes));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="referrer" content="no-referrer";
                meta name="viewport" content="width=device-width";
                title { "vkernel report: " (shown(&facts.title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.kicker { "vkernel · release report" }
                    h1 { (shown(&facts.title)) }
                    dl { @for (name, value) in &facts.identity { dt { (name) } dd { (shown(value)) } } }
                }
                (sections::summary(facts))
                @if let Some(changes) = changes { (changes::section(changes)) }
                (sections::powers(facts))
                (sections::inventory(facts))
                (sections::coverage(facts))
                (sections::syscalls(facts))
                (sections::libraries(facts))
                (sections::omitted(facts))
                (sections::sizes(facts))
                @if let Some(timings) = timings { (sections::timings(timings)) }
                (sections::definitions())
            }
        }
    };
    page.into_string()
}

/// Text from an image, with everything made visible that would change how it looks.
fn shown(text: &str) -> String {
    let odd = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}');
    text.chars().flat_map(|c| if odd(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// A section with a table under its own heading.
fn section(id: &str, title: &str, words: &str, body: Markup) -> Markup {
    html! { section id=(id) { h2 { (title) } @if !words.is_empty() { p.words { (words) } } (body) } }
}

/// `1 234 567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let first = digits.len() % 3;
    let mut groups: Vec<&str> = if first > 0 { vec![&digits[..first]] } else { Vec::new() };
    groups.extend((first..digits.len()).step_by(3).map(|i| &digits[i..i + 3]));
    groups.join("\u{202f}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_would_hide_something_is_spelled_out() {
        assert_eq!(shown("a\nb\u{202e}c\u{0}é"), "a\\nb\\u{202e}c\\u{0}é");
    }

    #[test]
    fn numbers_are_grouped_from_the_right() {
        assert_eq!([0, 12, 123, 1234, 1_234_567].map(grouped), ["0", "12", "123", "1\u{202f}234", "1\u{202f}234\u{202f}567"]);
    }
}

//! Progress bars on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `count` steps of one stage.
pub fn bar(stage: &'static str, count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>9} [{bar:30}] {pos}/{len} {wide_msg} {elapsed}").expect("the template is fixed");
    ProgressBar::new(count as u64).with_style(style.progress_chars("=> ")).with_prefix(stage)
}

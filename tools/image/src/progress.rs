//! Progress bars on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over bytes.
pub fn bytes(stage: &'static str, total: u64, message: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>9} [{bar:30}] {bytes}/{total_bytes} {wide_msg} {elapsed}").expect("the template is fixed");
    ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_prefix(stage).with_message(message.to_owned())
}

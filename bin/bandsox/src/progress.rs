//! How far a transfer is, for somebody who watches.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Ui, human_bytes};

/// What takes less is over before anybody could read how far it is.
const WORTH_SHOWING: Duration = Duration::from_secs(1);

/// A transfer's progress: a bar on a terminal, nothing elsewhere.
pub(crate) struct Progress<'a> {
    ui: &'a Ui,
    bar: ProgressBar,
    began: Instant,
    shown: bool,
    bytes: u64,
}

impl<'a> Progress<'a> {
    /// Begins. `total` is the number of bytes to come, where that is known.
    pub(crate) fn begin(ui: &'a Ui, total: Option<u64>) -> Self {
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden()),
                "{wide_bar} {percent:>3} %  {binary_bytes_per_sec}  {binary_bytes} of \
                 {binary_total_bytes}, {eta} left",
            ),
            None => (
                ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
                "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {elapsed}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { ui, bar, began: Instant::now(), shown: !ui.wants_progress(), bytes: 0 }
    }

    /// So many bytes have moved in all.
    pub(crate) fn reach(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.bar.set_position(bytes);
        if !self.shown && self.began.elapsed() >= WORTH_SHOWING {
            self.shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// So many bytes have moved since the last call.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.reach(self.bytes.saturating_add(bytes));
    }

    /// Ends: the bar goes, and whoever watched is told the rate.
    pub(crate) fn end(self, bytes: u64) {
        self.bar.finish_and_clear();
        if self.ui.wants_progress() {
            let took = self.began.elapsed();
            let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
            let rate = bytes.saturating_mul(1000) / millis;
            let (seconds, rest) = (millis / 1000, millis % 1000);
            self.ui.message(format!(
                "{} in {seconds}.{rest:03} s, {}/s",
                human_bytes(bytes),
                human_bytes(rate)
            ));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        // After a failure: the message must not be drawn into the bar.
        self.bar.finish_and_clear();
    }
}

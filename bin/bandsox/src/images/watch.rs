//! How far a pull is, for somebody who watches: a bar for each layer, and one for the base.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use bandsox_oci::{Digest, Image, Phase, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Ui, human_bytes};

/// A pull that is being watched. On a terminal it is drawn; elsewhere it is told when it is over.
pub(crate) struct Watch<'a> {
    ui: &'a Ui,
    image: &'a str,
    began: Instant,
    drawn: MultiProgress,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    bars: HashMap<Option<Digest>, ProgressBar>,
    /// Bytes that came over the network or out of an archive, by what they belong to.
    pulled: HashMap<Digest, u64>,
}

impl<'a> Watch<'a> {
    pub(crate) fn begin(ui: &'a Ui, image: &'a str) -> Self {
        let target = if ui.wants_progress() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let drawn = MultiProgress::with_draw_target(target);
        Self { ui, image, began: Instant::now(), drawn, seen: Mutex::default() }
    }

    /// Takes note of a step; called from several threads.
    pub(crate) fn see(&self, step: &Progress) {
        let Progress { digest, phase, done, total } = step;
        // A thread that panicked left at worst a bar that stands still.
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (Some(digest), Phase::Pulling) = (digest, phase) {
            seen.pulled.insert(digest.clone(), *done);
        }
        let bar = seen.bars.entry(digest.clone()).or_insert_with(|| self.drawn.add(fresh(*total)));
        bar.set_length(*total);
        bar.set_position(*done);
        let name =
            digest.as_ref().map_or("base", |digest| digest.hex().get(..12).unwrap_or_default());
        bar.set_prefix(name.to_owned());
        bar.set_message(word(*phase));
        if matches!(phase, Phase::Pulled | Phase::Exists | Phase::Done) {
            bar.set_position(*total);
            bar.abandon();
        }
    }

    /// The image is there. If it was not there before, what of it is not honoured is worth a word.
    pub(crate) fn end(self, image: &Image) {
        let seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bytes = seen.pulled.values().copied().fold(0, u64::saturating_add);
        if bytes > 0 {
            let took = self.began.elapsed().as_secs_f64();
            self.ui.message(format!(
                "Pulled {}: {} in {took:.1} s",
                self.image,
                human_bytes(bytes)
            ));
        }
        if seen.bars.is_empty() {
            return;
        }
        for ignored in &image.ignored {
            self.ui.warn(format!("{}: {ignored}", self.image));
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // Nothing is written into the bars afterwards.
        self.drawn.clear().ok();
    }
}

fn fresh(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let template = "{prefix:12} {msg:9} {wide_bar} {binary_bytes:>10} of {binary_total_bytes:10} {binary_bytes_per_sec:>12} {eta:>4}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Pulling => "pulling",
        Phase::Verifying => "verifying",
        Phase::Exists => "is here",
        Phase::Pulled => "pulled",
        Phase::Building => "building",
        Phase::Done => "done",
        _ => "",
    }
}

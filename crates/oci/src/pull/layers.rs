//! The layers, several at once, and the base image that is made of them meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{PullError, Resolved};
use crate::blobs::{FetchError, Job, fetch};
use crate::builder::{BaseBuilder, Layer, LayerMissing};
use crate::config::ConfigFile;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::progress::{Phase, Progress};
use crate::store::ImageStore;

/// What is known about the layers of one pull.
struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Not yet begun, from the lowest up.
    queue: VecDeque<Descriptor>,
    /// Over, well or badly.
    over: BTreeMap<Digest, Outcome>,
    /// The first that went wrong by itself.
    error: Option<(Digest, FetchError)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    There,
    Failed,
}

impl ImageStore {
    /// Pulls the layers and builds the base.
    pub(super) fn base_of(
        &self,
        resolved: &Resolved,
        file: &ConfigFile,
        parallel: NonZeroUsize,
        builder: &dyn BaseBuilder,
        job: Job<'_>,
    ) -> Result<PathBuf, PullError> {
        let layers = &resolved.manifest.layers;
        let board = Board::of(layers);
        let built = thread::scope(|scope| {
            for _ in 0..parallel.get().min(layers.len()) {
                scope.spawn(|| board.work(job));
            }
            let mut arriving = layers.iter().zip(&file.diff_ids).map(|(layer, diff_id)| {
                let blob = board
                    .wait_for(&layer.digest)
                    .and_then(|()| self.blobs.reader(&layer.digest).map_err(|_| LayerMissing))?;
                let (label, diff_id) = (layer.digest.to_string(), Some(diff_id.to_string()));
                Ok(Layer { blob, label, diff_id })
            });
            let mut building = |index, done| tell(job, layers.get(index), Phase::Building, done);
            let built = builder.build(&mut arriving, &key(file), self.dir(), &mut building);
            if built.is_err() {
                job.cancel.set();
            }
            built
        });
        let State { error, .. } = board.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (error, built) {
            (Some((digest, source)), _) => Err(PullError::fetch(format!("layer {digest}"), source)),
            (None, Ok(base)) => Ok(base),
            (None, Err(source)) => {
                Err(PullError::Build { reference: resolved.reference.clone(), source })
            }
        }
    }
}

impl Board {
    fn of(layers: &[Descriptor]) -> Self {
        let mut queue: VecDeque<Descriptor> = VecDeque::new();
        for layer in layers {
            // Some images have one empty layer many times.
            if !queue.iter().any(|known| known.digest == layer.digest) {
                queue.push_back(layer.clone());
            }
        }
        let state = State { queue, ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Pulls one layer after the other until none is left.
    fn work(&self, job: Job<'_>) {
        loop {
            let Some(layer) = self.lock().queue.pop_front() else {
                return;
            };
            let result =
                if job.cancel.is_set() { Err(FetchError::Cancelled) } else { fetch(job, &layer) };
            let mut state = self.lock();
            let outcome = if result.is_ok() { Outcome::There } else { Outcome::Failed };
            state.over.insert(layer.digest.clone(), outcome);
            match result {
                Ok(()) | Err(FetchError::Cancelled) => {}
                Err(error) => {
                    state.error.get_or_insert((layer.digest, error));
                    job.cancel.set();
                }
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Blocks until a layer is over.
    fn wait_for(&self, digest: &Digest) -> Result<(), LayerMissing> {
        let mut state = self.lock();
        loop {
            match state.over.get(digest) {
                Some(Outcome::There) => return Ok(()),
                Some(Outcome::Failed) => return Err(LayerMissing),
                None => {}
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(job: Job<'_>, layer: Option<&Descriptor>, phase: Phase, done: u64) {
    let digest = layer.map(|layer| layer.digest.clone());
    (job.report)(Progress { digest, phase, done, total: layer.map_or(0, |layer| layer.size) });
}

/// Equal for equal content, however it is compressed.
fn key(file: &ConfigFile) -> String {
    file.diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

//! From what a person types to the VM that is meant.

use std::fmt;

use bandsox_spec::VmId;

use crate::file::FileError;
use crate::store::Store;

impl Store {
    /// Finds the VM that a text means: one with exactly that id, else exactly that name, else the
    /// only one whose id begins so. VMs with damaged metadata are found by id.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] if there is none, or there are several.
    pub fn resolve(&self, text: &str) -> Result<VmId, ResolveError> {
        let mut all = self.metadata_ids()?;
        if let Some(exact) = all.iter().find(|id| id.as_str() == text) {
            return Ok(exact.clone());
        }
        all.extend(self.orphaned_monitors()?);
        let all: Vec<Candidate> = all
            .into_iter()
            .map(|id| {
                let metadata = self.read(&id).ok();
                let name = metadata.and_then(|metadata| metadata.name().map(str::to_owned));
                Candidate { id, name }
            })
            .collect();
        let named = all.iter().filter(|candidate| candidate.name.as_deref() == Some(text));
        let begun = all.iter().filter(|candidate| candidate.id.as_str().starts_with(text));
        let mut candidates: Vec<Candidate> = named.cloned().collect();
        if candidates.is_empty() && !text.is_empty() {
            candidates = begun.cloned().collect();
        }
        match candidates.as_slice() {
            [] => Err(ResolveError::NotFound { text: text.chars().take(MAX_SHOWN).collect() }),
            [only] => Ok(only.id.clone()),
            [_, _, ..] => Err(ResolveError::Ambiguous { text: text.to_owned(), candidates }),
        }
    }
}

/// A VM that a text may have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: VmId,
    /// Its name, if it has one.
    pub name: Option<String>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({})", self.id, name.escape_debug()),
            None => self.id.fmt(f),
        }
    }
}

/// Longest part of a text that an error repeats. Unit: characters.
const MAX_SHOWN: usize = 80;

/// Why a text means no VM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// No VM has such an id or name.
    #[error("there is no VM {text:?}")]
    NotFound {
        /// What was typed; cut off when long.
        text: String,
    },
    /// Several do.
    #[error("{text:?} may mean any of {}", Listed(candidates))]
    Ambiguous {
        /// What was typed.
        text: String,
        /// Whom it may mean.
        candidates: Vec<Candidate>,
    },
    /// The VMs could not be looked at.
    #[error(transparent)]
    File(#[from] FileError),
}

struct Listed<'a>(&'a [Candidate]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, candidate) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{candidate}")?;
        }
        Ok(())
    }
}

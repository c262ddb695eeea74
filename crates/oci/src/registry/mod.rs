//! Registries: OCI distribution specification 1.1, "pull".
//!
//! One [`Registry`] is one repository, seen through its mirrors first and itself last.

mod credentials;
mod endpoint;
mod http;
mod pace;
mod settings;
mod token;
mod unreachable;

use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci_spec::distribution::Reference;

pub use credentials::CredentialError;
pub use settings::{Mirror, RegistrySettings, SettingsError};
pub use token::TokenError;
pub use unreachable::Unreachable;

use crate::blobs::{FetchError, Origin, Patience, Piece};
use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::manifest::{ACCEPT, Descriptor, MAX_DOCUMENT_BYTES};
use endpoint::{Answer, Endpoint};

/// One repository of a registry.
pub(crate) struct Registry {
    repository: String,
    /// In the order in which they are asked; at least one.
    endpoints: Vec<Endpoint>,
    /// The first that had the image.
    chosen: AtomicUsize,
    patience: Patience,
}

impl Registry {
    pub(crate) fn new(
        reference: &Reference,
        settings: &RegistrySettings,
        patience: &Patience,
    ) -> Result<Self, FetchError> {
        let host = reference.resolve_registry();
        let origin = Endpoint::new(host, settings, patience)?;
        let mirrors = settings.mirrors_of(reference.registry());
        let mut endpoints = mirrors
            .map(|mirror| Endpoint::of_mirror(mirror, settings, patience))
            .collect::<Result<Vec<_>, _>>()?;
        endpoints.push(origin);
        let repository = reference.repository().to_owned();
        Ok(Self { repository, endpoints, chosen: AtomicUsize::new(0), patience: patience.clone() })
    }

    /// A manifest or an index by its tag or its digest, with its bytes as the registry has them.
    pub(crate) fn manifest(&self, name: &str, cancel: &Cancel) -> Result<Vec<u8>, FetchError> {
        let mut failures = Vec::new();
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            match self.patiently(cancel, || self.manifest_from(endpoint, name)) {
                Ok(bytes) => {
                    self.chosen.store(index, Ordering::Relaxed);
                    return Ok(bytes);
                }
                Err(failure) => failures.push(failure),
            }
        }
        Err(FetchError::of_all(failures))
    }

    fn manifest_from(&self, endpoint: &Endpoint, name: &str) -> Result<Vec<u8>, FetchError> {
        let path = format!("/v2/{}/manifests/{name}", self.repository);
        let response = endpoint.get(&self.repository, &path, ACCEPT, 0)?;
        let url = response.url.clone();
        let mut bytes = Vec::new();
        let most = MAX_DOCUMENT_BYTES;
        let read = response.body.take(most.saturating_add(1)).read_to_end(&mut bytes);
        let actual = Digest::of(&bytes);
        let have = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let expected = name.parse::<Digest>().ok().or(response.digest);
        if have > most {
            return Err(FetchError::DocumentTooLong { url, most });
        }
        if let Err(source) = read {
            let digest = expected.unwrap_or(actual);
            return Err(FetchError::Broken { digest, have, source });
        }
        match expected {
            Some(expected) if expected != actual => {
                Err(FetchError::WrongDigest { expected, actual })
            }
            Some(_) | None => Ok(bytes),
        }
    }

    fn patiently<T>(
        &self,
        cancel: &Cancel,
        mut attempt: impl FnMut() -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        let mut failures = 0u32;
        loop {
            let error = match attempt() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures = failures.saturating_add(1);
            match error.wait(&self.patience, failures) {
                Some(wait) if cancel.sleep(wait) => {}
                Some(_) => return Err(FetchError::Cancelled),
                None => return Err(error),
            }
        }
    }
}

impl Origin for Registry {
    fn open(&self, what: &Descriptor, offset: u64) -> Result<Piece, FetchError> {
        let path = format!("/v2/{}/blobs/{}", self.repository, what.digest);
        let chosen = self.chosen.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for endpoint in self.endpoints.iter().skip(chosen) {
            match endpoint.get(&self.repository, &path, "*/*", offset) {
                Ok(Answer { from, body, .. }) => {
                    return Ok(Piece { from, reader: Box::new(body) });
                }
                Err(failure) => failures.push(failure),
            }
        }
        Err(FetchError::of_all(failures))
    }

    fn patience(&self) -> &Patience {
        &self.patience
    }
}

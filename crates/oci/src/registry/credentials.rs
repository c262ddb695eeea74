//! Logins: Docker's `config.json` and its credential helpers.

use std::env;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};

/// What we can show to a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    Password {
        user: String,
        password: String,
    },
    /// An OAuth 2 refresh token.
    Identity(String),
}

/// Why the user's login for a registry cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("could not read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file, or the helper that it names, has no usable login.
    #[error("no usable login for {host} by {path}")]
    Unusable {
        /// For which registry.
        host: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CredentialRetrievalError,
    },
}

/// The user's login for `host`, if there is one.
pub(super) fn find(host: &str) -> Result<Option<Credential>, CredentialError> {
    match directory() {
        Some(directory) => find_in(&directory.join("config.json"), host),
        None => Ok(None),
    }
}

fn find_in(path: &Path, host: &str) -> Result<Option<Credential>, CredentialError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialError::Read { path: path.to_owned(), source }),
    };
    match get_credential_from_reader(file.take(MAX_BYTES), key(host)) {
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credential::Identity(token))),
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(Credential::Password { user, password }))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // What every helper says, on its standard output, of a registry that it does not know.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok(None)
        }
        Err(source) => {
            Err(CredentialError::Unusable { host: host.to_owned(), path: path.to_owned(), source })
        }
    }
}

fn directory() -> Option<PathBuf> {
    let given = env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    given.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".docker")))
}

/// By what Docker files the login for a registry.
fn key(host: &str) -> &str {
    if ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host) {
        "https://index.docker.io/v1/"
    } else {
        host
    }
}

const MAX_BYTES: u64 = 4 << 20;

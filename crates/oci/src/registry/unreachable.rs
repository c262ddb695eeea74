//! Why a host cannot be spoken to, in words that say what to do about it.

use std::error::Error;
use std::io;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;
use rustls::{CertificateError, Error as TlsError};

use super::settings::{host_of, is_loopback, without_port};
use crate::blobs::FetchError;

/// Why there is no connection to a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreachable {
    /// Who answers cannot show that it is who it should be, or does not speak TLS at all.
    #[error("no safe connection to {host}: {}", tls_advice(host, source))]
    Tls {
        /// Whom we asked, `HOST[:PORT]`.
        host: String,
        /// What the TLS library said.
        source: TlsError,
    },
    /// The proxy that the environment names is not there, or does not let us through.
    #[error(
        "could not reach {host} through the proxy {proxy}, which HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names"
    )]
    Proxy {
        /// Whom we asked, `HOST[:PORT]`.
        host: String,
        /// Where the proxy should be, without the login to it.
        proxy: String,
        /// What went wrong.
        source: reqwest::Error,
    },
}

impl Unreachable {
    /// Whether another attempt may go better.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Tls { .. } => false,
            Self::Proxy { .. } => true,
        }
    }
}

/// What an error of a request to `url` means.
pub(super) fn failure(url: &str, error: reqwest::Error) -> FetchError {
    let (source, parsed) = (error.without_url(), Url::parse(url).ok());
    let host = parsed.as_ref().and_then(host_of).unwrap_or_else(|| url.to_owned());
    if let Some(tls) = tls_error(&source) {
        return Unreachable::Tls { host, source: tls.clone() }.into();
    }
    let proxy =
        (source.is_connect() && !is_loopback(without_port(&host))).then(|| proxy_to(url)).flatten();
    match proxy {
        Some(proxy) => Unreachable::Proxy { host, proxy, source }.into(),
        None => FetchError::Request { url: url.to_owned(), source },
    }
}

/// What the TLS library said, if it was the one to complain.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let mut next: Option<&'a (dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // An I/O error's source is the source of what is in it.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The proxy that requests to `url` take by the environment, as the HTTP library reads it.
fn proxy_to(url: &str) -> Option<String> {
    let found = Matcher::from_env().intercept(&url.parse().ok()?)?;
    let uri = found.uri();
    let host = uri.host()?;
    Some(uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn tls_advice(host: &str, error: &TlsError) -> String {
    use CertificateError as C;
    if let TlsError::InvalidCertificate(error) = error {
        // A signature that does not fit: an authority of the same name, but not the same.
        let text = if matches!(error, C::UnknownIssuer | C::BadSignature) {
            "nobody whom this machine trusts has signed its certificate; to trust who did, add it to the system's \
             certificates, or name a PEM file in SSL_CERT_FILE"
        } else if matches!(error, C::NotValidForName | C::NotValidForNameContext { .. }) {
            "its certificate is for other names"
        } else if matches!(error, C::Expired | C::ExpiredContext { .. }) {
            "its certificate has expired"
        } else {
            "its certificate cannot be verified"
        };
        text.to_owned()
    } else if matches!(error, TlsError::InvalidMessage(_)) {
        format!("it does not speak TLS; `--insecure-registry {host}` allows plain HTTP")
    } else if matches!(error, TlsError::General(_)) {
        // What the platform's verifier says of a machine without certificates.
        "there may be no certificates to trust: install ca-certificates, or name a PEM file in SSL_CERT_FILE"
            .to_owned()
    } else {
        "TLS failed".to_owned()
    }
}

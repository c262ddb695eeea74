//! The HTTP client.

use std::time::Duration;

use reqwest::blocking::{Client, ClientBuilder};
use reqwest::redirect::{Attempt, Policy};

use super::settings::{RegistrySettings, host_of, is_loopback, without_port};

/// A redirect that we do not follow.
#[derive(Debug, thiserror::Error)]
enum RedirectError {
    #[error("more than {MAX_REDIRECTS} redirects")]
    TooMany,
    #[error("redirected to {host} without TLS")]
    Plain { host: String },
}

/// A client for `host`, which is `HOST[:PORT]`.
pub(super) fn client(
    host: &str,
    settings: &RegistrySettings,
    stall: Duration,
) -> reqwest::Result<Client> {
    let allowed = settings.clone();
    let policy = Policy::custom(move |attempt| follow(attempt, &allowed));
    let provider = rustls::crypto::ring::default_provider();
    // Somebody may have installed another one, which does as well.
    drop(provider.install_default());
    let builder = ClientBuilder::new()
        .user_agent(concat!("bandsox/", env!("CARGO_PKG_VERSION")))
        .redirect(policy)
        // Of a transfer, for each read of it.
        .timeout(stall)
        .connect_timeout(CONNECT_TIMEOUT.min(stall))
        .danger_accept_invalid_certs(settings.allows_http(host));
    // No proxy is on the way to ourselves, whatever the environment says.
    let builder = if is_loopback(without_port(host)) { builder.no_proxy() } else { builder };
    builder.build()
}

/// Follows to another host, since that is how registries hand out blobs, but never from TLS to the open wire.
fn follow(attempt: Attempt<'_>, settings: &RegistrySettings) -> reqwest::redirect::Action {
    let url = attempt.url();
    let host = host_of(url).unwrap_or_default();
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error(RedirectError::TooMany)
    } else if url.scheme() != "https" && !settings.allows_http(&host) {
        attempt.error(RedirectError::Plain { host })
    } else {
        attempt.follow()
    }
}

const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

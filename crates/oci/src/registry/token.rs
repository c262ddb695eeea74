//! Tokens: what a 401 asks for, and where it is to be had.
//!
//! Source: CNCF distribution, "Token Authentication Specification" and "OAuth2 token authentication".

use std::io::Read as _;

use http_auth::{ChallengeRef, parse_challenges};
use reqwest::Url;
use reqwest::blocking::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::credentials::Credential;
use super::http;
use super::pace::Paced;
use super::settings::{RegistrySettings, host_of};
use super::unreachable::failure;
use crate::blobs::{FetchError, Patience};

/// What a request is sent with.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Authorization {
    Bearer(String),
    Basic { user: String, password: String },
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The user's login cannot be used.
    #[error(transparent)]
    Credential(#[from] super::CredentialError),
    /// The registry names a place that is no URL, or that would see our login in the clear.
    #[error("the token is to be had from {realm:?}, which is not an https address")]
    Realm {
        /// The place, cut to 200 characters.
        realm: String,
    },
    /// No answer.
    #[error(transparent)]
    Request(Box<FetchError>),
    /// The place does not give one.
    #[error("{realm} answered {status}")]
    Status {
        /// Whom we asked.
        realm: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer cannot be read.
    #[error("{realm} gave no token")]
    Answer {
        /// Whom we asked.
        realm: String,
    },
}

impl TokenError {
    /// Whether another attempt may go better.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Request(source) => source.is_temporary(),
            Self::Status { status, .. } => *status >= 500 || [408, 429].contains(status),
            Self::Credential(_) | Self::Realm { .. } | Self::Answer { .. } => false,
        }
    }
}

/// What a 401 asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Bearer { realm: String, service: Option<String> },
    Basic,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

/// The first challenge that we can meet; a token before a password.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|text| text.to_str().ok());
    let all: Vec<ChallengeRef<'_>> =
        texts.filter_map(|text| parse_challenges(text).ok()).flatten().collect();
    let is = |challenge: &&ChallengeRef<'_>, scheme| challenge.scheme.eq_ignore_ascii_case(scheme);
    let bearer = all.iter().find(|challenge| is(challenge, "bearer")).and_then(|challenge| {
        let value = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        Some(Challenge::Bearer { realm: value("realm")?, service: value("service") })
    });
    bearer.or_else(|| all.iter().find(|c| is(c, "basic")).map(|_| Challenge::Basic))
}

/// Asks `realm` for a token that lets us pull `repository`.
pub(super) fn request(
    patience: &Patience,
    settings: &RegistrySettings,
    (realm, service): (&str, Option<&str>),
    repository: &str,
    credential: Option<&Credential>,
) -> Result<Authorization, TokenError> {
    let bad_realm = || TokenError::Realm { realm: realm.chars().take(200).collect() };
    let mut url = Url::parse(realm).map_err(|_| bad_realm())?;
    let host = host_of(&url).ok_or_else(bad_realm)?;
    if url.scheme() != "https" && !(url.scheme() == "http" && settings.allows_http(&host)) {
        return Err(bad_realm());
    }
    // Not the registry's own client: that one may take any certificate, and a login would go to whoever shows one.
    let client = http::client(&host, settings, patience.stall)
        .map_err(|error| TokenError::Request(Box::new(failure(realm, error))))?;
    let scope = format!("repository:{repository}:pull");
    let mut fields = vec![("scope", scope.as_str())];
    fields.extend(service.map(|service| ("service", service)));
    let request = match credential {
        Some(Credential::Identity(token)) => {
            let own = [("grant_type", "refresh_token"), ("client_id", "bandsox")];
            fields.extend(own.into_iter().chain([("refresh_token", token.as_str())]));
            let body = encoded(&fields);
            client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
        }
        Some(Credential::Password { user, password }) => {
            url.query_pairs_mut().extend_pairs(&fields);
            client.get(url).basic_auth(user, Some(password))
        }
        None => {
            url.query_pairs_mut().extend_pairs(&fields);
            client.get(url)
        }
    };
    answer((&host, realm), patience, request).map(Authorization::Bearer)
}

fn answer(
    (host, url): (&str, &str),
    patience: &Patience,
    request: RequestBuilder,
) -> Result<String, TokenError> {
    let realm = host.to_owned();
    let response =
        request.send().map_err(|error| TokenError::Request(Box::new(failure(url, error))))?;
    let status = response.status();
    if !status.is_success() {
        return Err(TokenError::Status { realm, status: status.as_u16() });
    }
    let mut text = Vec::new();
    let read = Paced::new(response, patience).take(MAX_BYTES).read_to_end(&mut text);
    let answer = read.ok().and_then(|_| serde_json::from_slice::<Answer>(&text).ok());
    let token = answer.and_then(|answer| answer.token.or(answer.access_token));
    token.filter(|token| !token.is_empty()).ok_or(TokenError::Answer { realm })
}

/// As a form has it.
fn encoded(fields: &[(&str, &str)]) -> String {
    let mut url = Url::parse("https://form.invalid/").expect("this is a URL");
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

const MAX_BYTES: u64 = 256 << 10;

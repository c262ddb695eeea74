//! One host that answers for a registry.

use std::io::Read;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT, CONTENT_RANGE, HeaderMap, RANGE, RETRY_AFTER};

use super::credentials::{self, Credential};
use super::http;
use super::pace::Paced;
use super::settings::{Mirror, RegistrySettings, Scheme};
use super::token::{self, Authorization, Challenge, TokenError};
use super::unreachable::failure;
use crate::blobs::{FetchError, Patience};
use crate::digest::Digest;

/// A host, and what it wants to see from us.
pub(super) struct Endpoint {
    host: String,
    scheme: OnceLock<Scheme>,
    client: Client,
    settings: RegistrySettings,
    patience: Patience,
    credential: OnceLock<Option<Credential>>,
    authorization: Mutex<Option<Authorization>>,
}

/// A successful answer.
pub(super) struct Answer {
    /// Without its query, which may hold a signature.
    pub(super) url: String,
    /// The first byte that the body has.
    pub(super) from: u64,
    /// `Docker-Content-Digest`.
    pub(super) digest: Option<Digest>,
    pub(super) body: Paced<Response>,
}

impl Endpoint {
    pub(super) fn new(
        host: &str,
        settings: &RegistrySettings,
        patience: &Patience,
    ) -> Result<Self, FetchError> {
        let client = http::client(host, settings, patience.stall)
            .map_err(|error| failure(&format!("https://{host}/v2/"), error))?;
        let scheme = OnceLock::new();
        if !settings.allows_http(host) {
            scheme.get_or_init(|| Scheme::Https);
        }
        Ok(Self {
            host: host.to_owned(),
            scheme,
            client,
            settings: settings.clone(),
            patience: patience.clone(),
            credential: OnceLock::new(),
            authorization: Mutex::new(None),
        })
    }

    pub(super) fn of_mirror(
        mirror: &Mirror,
        settings: &RegistrySettings,
        patience: &Patience,
    ) -> Result<Self, FetchError> {
        let mut settings = settings.clone();
        if mirror.scheme == Scheme::Http {
            settings.allow_insecure(&mirror.host);
        }
        let endpoint = Self::new(&mirror.host, &settings, patience)?;
        endpoint.scheme.get_or_init(|| mirror.scheme);
        Ok(endpoint)
    }

    /// GETs `path`, from byte `offset` on if the host can do that.
    pub(super) fn get(
        &self,
        repository: &str,
        path: &str,
        accept: &str,
        offset: u64,
    ) -> Result<Answer, FetchError> {
        let url = format!("{}://{}{path}", self.scheme(), self.host);
        let used = self.authorization();
        let response = self.send(&url, accept, offset, used.as_ref())?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.answer(url, offset, response);
        }
        let token =
            |source| FetchError::Token { host: self.host.clone(), source: Box::new(source) };
        let renewed = self.renew(repository, response.headers(), used).map_err(token)?;
        match renewed {
            None => self.answer(url, offset, response),
            Some(renewed) => {
                let response = self.send(&url, accept, offset, Some(&renewed))?;
                self.answer(url, offset, response)
            }
        }
    }

    /// `http` or `https`. A host that may be spoken to in either way is asked once which one it speaks.
    fn scheme(&self) -> &'static str {
        let scheme = self.scheme.get_or_init(|| {
            let probe =
                self.client.get(format!("https://{}/v2/", self.host)).timeout(PROBE_TIMEOUT);
            match probe.send() {
                Ok(_) => Scheme::Https,
                Err(_) => Scheme::Http,
            }
        });
        match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn authorization(&self) -> Option<Authorization> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gets what a 401 asks for, unless somebody else did so meanwhile; `None` if there is nothing more to try.
    fn renew(
        &self,
        repository: &str,
        headers: &HeaderMap,
        used: Option<Authorization>,
    ) -> Result<Option<Authorization>, TokenError> {
        let mut current = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != used {
            return Ok(current.clone());
        }
        let credential = self.credential()?;
        let renewed = match token::challenge(headers) {
            Some(Challenge::Bearer { realm, service }) => {
                let place = (realm.as_str(), service.as_deref());
                let (patience, settings) = (&self.patience, &self.settings);
                Some(token::request(patience, settings, place, repository, credential)?)
            }
            Some(Challenge::Basic) => match credential {
                Some(Credential::Password { user, password }) => {
                    let (user, password) = (user.clone(), password.clone());
                    Some(Authorization::Basic { user, password })
                }
                Some(Credential::Identity(_)) | None => None,
            },
            None => None,
        };
        // The same password again would be refused again.
        let renewed = renewed.filter(|new| used.as_ref() != Some(new));
        current.clone_from(&renewed);
        Ok(renewed)
    }

    fn credential(&self) -> Result<Option<&Credential>, super::CredentialError> {
        if let Some(known) = self.credential.get() {
            return Ok(known.as_ref());
        }
        let found = credentials::find(&self.host)?;
        Ok(self.credential.get_or_init(|| found).as_ref())
    }

    fn send(
        &self,
        url: &str,
        accept: &str,
        offset: u64,
        authorization: Option<&Authorization>,
    ) -> Result<Response, FetchError> {
        let request = self.client.get(url).header(ACCEPT, accept);
        let request = match authorization {
            Some(Authorization::Bearer(token)) => request.bearer_auth(token),
            Some(Authorization::Basic { user, password }) => {
                request.basic_auth(user, Some(password))
            }
            None => request,
        };
        let request =
            if offset > 0 { request.header(RANGE, format!("bytes={offset}-")) } else { request };
        request.send().map_err(|error| failure(url, error))
    }

    fn answer(&self, url: String, offset: u64, response: Response) -> Result<Answer, FetchError> {
        let headers = response.headers();
        let retry_after = retry_after(headers);
        let host = self.host.clone();
        let status = response.status().as_u16();
        match status {
            200 => {
                let digest = content_digest(headers);
                Ok(Answer { url, from: 0, digest, body: Paced::new(response, &self.patience) })
            }
            206 if starts_at(headers, offset) => {
                let body = Paced::new(response, &self.patience);
                Ok(Answer { url, from: offset, digest: None, body })
            }
            401 | 403 => {
                let credentials = self.credential.get().is_some_and(Option::is_some);
                Err(FetchError::Denied { host, url, status, credentials })
            }
            404 => Err(FetchError::NotFound { url }),
            429 => Err(FetchError::TooManyRequests { host, retry_after }),
            _ => {
                let detail = detail(Paced::new(response, &self.patience));
                Err(FetchError::Status { url, status, detail, retry_after })
            }
        }
    }
}

/// Whether `Content-Range` begins where we asked for.
fn starts_at(headers: &HeaderMap, offset: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
    start.is_some_and(|(start, _)| start.trim().parse() == Ok(offset))
}

fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

/// In seconds; the form with a date is rare, and our own wait does as well.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The registry's own words: the first message of an error as the specification has them, or the beginning of the text.
fn detail(response: impl Read) -> String {
    let mut bytes = Vec::new();
    // Without them the status has to do.
    if response.take(4096).read_to_end(&mut bytes).is_err() {
        bytes.clear();
    }
    let json = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
    let message = json.as_ref().and_then(|json| json.pointer("/errors/0/message")?.as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(&bytes).into_owned(), str::to_owned);
    text.chars().filter(|c| !c.is_control()).take(200).collect::<String>().trim().to_owned()
}

const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

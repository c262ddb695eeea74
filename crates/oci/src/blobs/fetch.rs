//! One blob from where it comes from: resumed, retried, verified.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use super::{Blobs, Partial, Slot};
use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::progress::{Phase, Progress, Report};
use crate::registry::{TokenError, Unreachable};

/// How long to go on when a registry does not do what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// Attempts in a row that bring fewer than `least` bytes before we give up.
    pub attempts: u32,
    /// Wait after the first of them; doubled after each further one.
    pub first_wait: Duration,
    /// Longest wait, and the longest that a registry may ask for by `Retry-After`.
    pub longest_wait: Duration,
    /// How long no byte may come.
    pub stall: Duration,
    /// How many bytes must come in each `window`, and in an attempt that counts as one that brought something.
    pub least: u64,
    /// For how long less may come, as long as anything does.
    pub window: Duration,
}

impl Default for Patience {
    /// 5 attempts, 0.5 s doubled up to 60 s, 30 s without a byte, 1 KiB/s over a minute.
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            least: 60 << 10,
            window: Duration::from_secs(60),
        }
    }
}

/// Why content could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// 401 or 403 after everything was tried.
    #[error("{host} refuses access to {url} ({status}): {}", advice(host, *.credentials))]
    Denied {
        /// Whom we asked.
        host: String,
        /// For what, without its query.
        url: String,
        /// 401 or 403.
        status: u16,
        /// Whether we had credentials to show.
        credentials: bool,
    },
    /// 404.
    #[error("{url} does not exist (404)")]
    NotFound {
        /// What we asked for, without its query.
        url: String,
    },
    /// 429.
    #[error("{host} asks us to slow down (429){}", after(*.retry_after))]
    TooManyRequests {
        /// Whom we asked.
        host: String,
        /// What it said about when to come again.
        retry_after: Option<Duration>,
    },
    /// Any other status that is no success.
    #[error("{url} answered {status}{}", said(detail))]
    Status {
        /// What we asked for, without its query.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words, at most 200 characters; may be empty.
        detail: String,
        /// What it said about when to come again.
        retry_after: Option<Duration>,
    },
    /// No answer.
    #[error("could not get {url}")]
    Request {
        /// What we asked for, without its query.
        url: String,
        /// Name resolution, connection, TLS, redirects, or silence.
        source: reqwest::Error,
    },
    /// No connection, for a reason that the user can do something about.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// No way to log in.
    #[error("could not get a token for {host}")]
    Token {
        /// Whom we asked for content.
        host: String,
        /// What went wrong.
        #[source]
        source: Box<TokenError>,
    },
    /// The connection broke, or nothing came any more.
    #[error("the transfer of {digest} broke off after {have} bytes")]
    Broken {
        /// Of what.
        digest: Digest,
        /// How much is there.
        have: u64,
        /// What the operating system or the HTTP library said.
        source: io::Error,
    },
    /// It ended too early.
    #[error("{digest} ended after {have} of {size} bytes")]
    Truncated {
        /// What.
        digest: Digest,
        /// How much is there.
        have: u64,
        /// How much should be.
        size: u64,
    },
    /// There is more of it than the manifest says.
    #[error("{digest} is longer than the {size} bytes that the manifest says")]
    TooLong {
        /// What.
        digest: Digest,
        /// How much should be.
        size: u64,
    },
    /// It is here already, and the manifest does not know it.
    #[error("{digest} does not have the {size} bytes that the manifest says")]
    WrongSize {
        /// What.
        digest: Digest,
        /// How much should be.
        size: u64,
    },
    /// It is something else.
    #[error("wrong content: its digest is {actual}; want {expected}")]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A manifest beyond its bound.
    #[error("{url} is longer than {most} bytes")]
    DocumentTooLong {
        /// What we asked for.
        url: String,
        /// The bound.
        most: u64,
    },
    /// An archive's manifest names content that the archive does not have.
    #[error("{digest} is not in the archive")]
    NotInArchive {
        /// What.
        digest: Digest,
    },
    /// The store cannot be written, or a local source not be read.
    #[error("could not read or write {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No mirror had it, and the registry has not either.
    #[error("no mirror had it ({}), nor the registry", mirrors.iter().map(|it| bandsox_proto::chain(it)).collect::<Vec<_>>().join("; "))]
    Everywhere {
        /// What the mirrors said, in the order in which they were asked.
        mirrors: Vec<FetchError>,
        /// What the registry itself said.
        source: Box<FetchError>,
    },
    /// Something else went wrong meanwhile.
    #[error("stopped, since the pull had failed")]
    Cancelled,
}

/// What to do after an error.
enum Verdict {
    GiveUp,
    Again(Option<Duration>),
    /// Once more from the beginning, and no more than once.
    OnceMore,
}

/// Where blobs come from.
pub(crate) trait Origin: Sync {
    /// Opens a blob, from `offset` if that is possible.
    fn open(&self, what: &Descriptor, offset: u64) -> Result<Piece, FetchError>;

    /// How long to go on with this origin.
    fn patience(&self) -> &Patience;
}

/// A blob from some byte on.
pub(crate) struct Piece {
    /// The first byte that `reader` gives: the offset asked for, or zero.
    pub(crate) from: u64,
    pub(crate) reader: Box<dyn Read>,
}

/// What all blobs of a pull have in common.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) blobs: &'a Blobs,
    pub(crate) origin: &'a dyn Origin,
    pub(crate) cancel: &'a Cancel,
    pub(crate) report: &'a Report<'a>,
}

/// Sees to it that a blob is in the store.
pub(crate) fn fetch(job: Job<'_>, what: &Descriptor) -> Result<(), FetchError> {
    let tell = |phase, done| job.tell(what, phase, done);
    if job.blobs.size(&what.digest).is_some_and(|size| size != what.size) {
        wrong_size(job, what)?;
    }
    let slot = job.blobs.slot(&what.digest, job.cancel, &mut || tell(Phase::Waiting, 0));
    let path = job.blobs.path(&what.digest);
    match slot.map_err(|source| FetchError::File { path, source })? {
        Slot::There => {
            tell(Phase::Exists, what.size);
            Ok(())
        }
        Slot::Cancelled => Err(FetchError::Cancelled),
        Slot::Ours(partial) => fill(job, what, partial),
    }
}

/// A blob is there, of another size than the manifest says: one of the two is wrong.
fn wrong_size(job: Job<'_>, what: &Descriptor) -> Result<(), FetchError> {
    let path = job.blobs.path(&what.digest);
    if job.blobs.is_damaged(&what.digest) {
        crate::atomic::delete(&path).map_err(|source| FetchError::File { path, source })
    } else {
        Err(FetchError::WrongSize { digest: what.digest.clone(), size: what.size })
    }
}

fn fill(job: Job<'_>, what: &Descriptor, mut partial: Partial) -> Result<(), FetchError> {
    let patience = job.origin.patience();
    let io_error = |source| FetchError::File { path: job.blobs.path(&what.digest), source };
    let (mut failures, mut best, mut mended) = (0, partial.have(), false);
    loop {
        let error = match attempt(job, what, &mut partial) {
            Ok(()) => {
                partial.publish().map_err(io_error)?;
                job.tell(what, Phase::Pulled, what.size);
                return Ok(());
            }
            Err(error) => error,
        };
        if partial.have() >= best.saturating_add(patience.least) {
            (best, failures) = (partial.have(), 0);
        }
        failures = u32::saturating_add(failures, 1);
        let wait = match error.verdict() {
            Verdict::Again(asked) if failures < patience.attempts => patience.wait(failures, asked),
            Verdict::OnceMore if !mended => {
                mended = true;
                partial.restart().map_err(io_error)?;
                continue;
            }
            Verdict::OnceMore => {
                partial.discard().map_err(io_error)?;
                return Err(error);
            }
            Verdict::GiveUp | Verdict::Again(_) => None,
        };
        let Some(wait) = wait else {
            if partial.have() == 0 {
                partial.discard().map_err(io_error)?;
            }
            return Err(error);
        };
        job.tell(what, Phase::Waiting, partial.have());
        if !job.cancel.sleep(wait) {
            return Err(FetchError::Cancelled);
        }
    }
}

/// Gets what is missing and compares the digest.
fn attempt(job: Job<'_>, what: &Descriptor, partial: &mut Partial) -> Result<(), FetchError> {
    let io_error = |source| FetchError::File { path: job.blobs.path(&what.digest), source };
    if partial.have() > what.size {
        partial.restart().map_err(io_error)?;
    }
    // Even an empty blob is asked for, so that one which does not exist is not invented.
    if partial.have() < what.size || what.size == 0 {
        let piece = job.origin.open(what, partial.have())?;
        if piece.from != partial.have() {
            partial.restart().map_err(io_error)?;
        }
        copy(job, what, partial, piece.reader)?;
    }
    job.tell(what, Phase::Verifying, what.size);
    let actual = partial.digest();
    if actual == what.digest {
        Ok(())
    } else {
        Err(FetchError::WrongDigest { expected: what.digest.clone(), actual })
    }
}

fn copy(
    job: Job<'_>,
    what: &Descriptor,
    partial: &mut Partial,
    mut reader: Box<dyn Read>,
) -> Result<(), FetchError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        if job.cancel.is_set() {
            return Err(FetchError::Cancelled);
        }
        job.tell(what, Phase::Pulling, partial.have());
        let got = match reader.read(&mut buffer) {
            Ok(0) if partial.have() == what.size => return Ok(()),
            Ok(0) => {
                let (digest, have) = (what.digest.clone(), partial.have());
                return Err(FetchError::Truncated { digest, have, size: what.size });
            }
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => {
                let (digest, have) = (what.digest.clone(), partial.have());
                return Err(FetchError::Broken { digest, have, source });
            }
        };
        let room = what.size.saturating_sub(partial.have());
        if u64::try_from(got).is_ok_and(|got| got > room) {
            return Err(FetchError::TooLong { digest: what.digest.clone(), size: what.size });
        }
        let bytes = buffer.get(..got).unwrap_or_default();
        let path = || job.blobs.path(&what.digest);
        partial.append(bytes).map_err(|source| FetchError::File { path: path(), source })?;
    }
}

impl Job<'_> {
    fn tell(&self, what: &Descriptor, phase: Phase, done: u64) {
        let digest = Some(what.digest.clone());
        (self.report)(Progress { digest, phase, done, total: what.size });
    }
}

impl Patience {
    /// How long to wait after so many failures; `None` if the registry asks for more than we have.
    pub(crate) fn wait(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        let own = self.first_wait.saturating_mul(doubled).min(self.longest_wait);
        match asked {
            Some(asked) if asked > self.longest_wait => None,
            Some(asked) => Some(asked.max(own)),
            None => Some(own),
        }
    }
}

impl FetchError {
    /// From what mirrors, and at last the registry, said.
    pub(crate) fn of_all(mut failures: Vec<Self>) -> Self {
        match failures.pop() {
            None => Self::Cancelled,
            Some(last) if failures.is_empty() => last,
            Some(last) => Self::Everywhere { mirrors: failures, source: Box::new(last) },
        }
    }

    /// Whether another attempt may go better.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self.verdict(), Verdict::Again(_))
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::TooManyRequests { retry_after, .. } => Verdict::Again(*retry_after),
            Self::Status { status, retry_after, .. } if *status >= 500 || *status == 408 => {
                Verdict::Again(*retry_after)
            }
            // What an earlier attempt left does not fit what is there.
            Self::Status { status: 416, .. } => Verdict::OnceMore,
            // A loop of redirects, or one that we do not follow, does not get better.
            Self::Request { source, .. } if source.is_redirect() || source.is_builder() => {
                Verdict::GiveUp
            }
            Self::Request { .. } | Self::Broken { .. } | Self::Truncated { .. } => {
                Verdict::Again(None)
            }
            Self::Everywhere { source, .. } => source.verdict(),
            Self::Unreachable(source) if source.is_temporary() => Verdict::Again(None),
            Self::Token { source, .. } if source.is_temporary() => Verdict::Again(None),
            Self::WrongDigest { .. } | Self::TooLong { .. } => Verdict::OnceMore,
            Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::Status { .. }
            | Self::Unreachable(_)
            | Self::Token { .. }
            | Self::DocumentTooLong { .. }
            | Self::NotInArchive { .. }
            | Self::WrongSize { .. }
            | Self::File { .. }
            | Self::Cancelled => Verdict::GiveUp,
        }
    }

    /// How long to wait before the same is asked for again; `None` if that is pointless.
    pub(crate) fn wait(&self, patience: &Patience, failures: u32) -> Option<Duration> {
        match self.verdict() {
            Verdict::Again(asked) if failures < patience.attempts => patience.wait(failures, asked),
            Verdict::OnceMore if failures < 2 => Some(Duration::ZERO),
            Verdict::Again(_) | Verdict::OnceMore | Verdict::GiveUp => None,
        }
    }
}

fn advice(host: &str, credentials: bool) -> String {
    if credentials {
        format!("the login for {host} is not accepted, or does not cover this image")
    } else {
        format!("the image does not exist, or needs a login (docker login {host})")
    }
}

fn after(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |time| format!("; try again in {} s", time.as_secs()))
}

fn said(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

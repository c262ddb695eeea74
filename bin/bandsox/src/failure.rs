//! Why a command failed, in the form in which it is reported.

use std::error::Error;
use std::fmt::Display;

/// Exit code of a command that failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code of `exec`, `run` and `terminal` when it is not the guest's command that failed.
pub(crate) const EXEC_FAILED: u8 = 125;

/// A failure on its way to [`Ui::fail`](crate::output::Ui::fail), the one place that prints it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What was being done, innermost first.
    context: Vec<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
    code: u8,
    silent: bool,
}

impl Failure {
    /// A failure that the program itself found.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            context: vec![message.into()],
            source: None,
            hint: None,
            code: FAILED,
            silent: false,
        }
    }

    /// A failure that has been reported already, or that needs no words.
    pub(crate) fn silent(code: u8) -> Self {
        Self { context: Vec::new(), source: None, hint: None, code, silent: true }
    }

    /// Adds what was being done.
    pub(crate) fn context(mut self, what: impl Into<String>) -> Self {
        self.context.push(what.into());
        self
    }

    /// Says what the user can do about it. The first hint wins: it knows most.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert(hint.into());
        self
    }

    /// Adds what the user can do, if that is known.
    pub(crate) fn hint_if(self, hint: Option<String>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Sets the exit code.
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Sets the exit code of a failure that has no particular one.
    pub(crate) fn code_if_general(self, code: u8) -> Self {
        if self.code == FAILED { self.code(code) } else { self }
    }

    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        self.code
    }

    /// Whether nothing is to be printed.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// The error behind it, if it is not the program itself that found it.
    pub(crate) fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }

    /// What the user can do.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The chain of messages, outermost first, without a cause that its parent already names.
    pub(crate) fn chain(&self) -> Vec<String> {
        let mut sources = Vec::new();
        let mut next = self.cause();
        while let Some(error) = next {
            sources.push(error.to_string());
            next = error.source();
        }
        let mut chain: Vec<String> = Vec::new();
        for message in self.context.iter().rev().cloned().chain(sources) {
            if chain.last().is_none_or(|last| !last.contains(&message)) {
                chain.push(message);
            }
        }
        chain
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            context: Vec::new(),
            source: Some(Box::new(error)),
            hint: None,
            code: FAILED,
            silent: false,
        }
    }
}

/// Context and advice for results, whatever their error is.
pub(crate) trait Explain<T> {
    /// Adds what was being done.
    fn context(self, what: impl Display) -> Result<T, Failure>;
    /// Adds what the user can do.
    fn hint(self, hint: impl Display) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> Explain<T> for Result<T, E> {
    fn context(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| error.into().context(what.to_string()))
    }

    fn hint(self, hint: impl Display) -> Result<T, Failure> {
        self.map_err(|error| error.into().hint(hint.to_string()))
    }
}

//! Errors as messages carry them.

use std::error::Error;

/// An error and its causes, the outermost first, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn every_cause_is_told_once_and_in_order() {
        #[derive(Debug, thiserror::Error)]
        #[error("outermost")]
        struct Outermost(#[source] Outer);

        assert_eq!(chain(&Outermost(Outer(io::Error::other("inner")))), "outermost: outer: inner");
        assert_eq!(chain(&io::Error::other("alone")), "alone");
    }
}

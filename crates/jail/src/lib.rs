//! Starts an engine with nothing that it does not need.

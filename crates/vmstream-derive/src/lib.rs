//! `#[derive(Record)]`, for `vmstream`.
#![forbid(unsafe_code)]

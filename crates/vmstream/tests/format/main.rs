//! The format against its specification, from outside.

mod file;
mod json;
mod raw;
mod round;
mod sample;

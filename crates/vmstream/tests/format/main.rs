//! The format against its specification, from outside.

mod raw;
mod round;
mod sample;

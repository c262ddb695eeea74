//! The format against its specification, from outside.

mod devices;
mod elsewhere;
mod file;
mod frames;
mod hostile;
mod json;
mod messages;
mod order;
mod pages;
mod raw;
mod round;
mod sample;
mod specification;
mod values;

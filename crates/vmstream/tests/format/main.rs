//! The format against its specification, from outside.

mod contracts;
mod devices;
mod elsewhere;
mod file;
mod frames;
mod hostile;
mod json;
mod messages;
mod order;
mod pages;
mod python;
mod raw;
mod records;
mod resolution;
mod round;
mod sample;
mod specification;
mod values;

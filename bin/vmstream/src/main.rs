//! `vmstream`: looks into VM state streams.

fn main() {}

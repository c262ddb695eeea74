//! cargo xtask: demo, test, bench, soak, check.

fn main() {}

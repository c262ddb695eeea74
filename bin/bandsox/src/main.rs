//! Self-hosted microVM sandboxes: one program, no daemon.

fn main() {}

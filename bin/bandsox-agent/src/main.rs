//! The guest's PID 1: boots the root, runs commands, moves files.

fn main() {}

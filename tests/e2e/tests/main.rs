//! End to end: the real program, a real kernel, real guests.
//!
//! One file per subject; `cargo xtask check` sees to it that none is forgotten here.

//! The guest agent that this program carries, and puts into every initramfs that it makes.

/// The static agent as the build script built it; `bandsox init` stores it as `/init`.
pub(crate) static AGENT: &[u8] = include_bytes!(env!("BANDSOX_EMBEDDED_AGENT"));

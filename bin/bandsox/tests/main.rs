//! The program as its users meet it, and the client that it stands on against the real agent,
//! both without a VM. What takes a VM is in `tests/e2e`.

#[path = "suite/agent.rs"]
mod agent;
#[path = "suite/bed.rs"]
mod bed;
#[path = "suite/commands.rs"]
mod commands;
#[path = "suite/files.rs"]
mod files;
#[path = "suite/image_bed.rs"]
mod image_bed;
#[path = "suite/image_sources.rs"]
mod image_sources;
#[path = "suite/images.rs"]
mod images;
#[path = "suite/reference.rs"]
mod reference;
#[path = "suite/sessions.rs"]
mod sessions;

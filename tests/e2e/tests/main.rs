//! End to end: the real program, a real kernel, real guests.
//!
//! One file per subject; `cargo xtask check` sees to it that none is forgotten here.

mod damage;
mod deaths;
mod exec;
mod full_disk;
mod guide;
mod hostile;
mod image_config;
mod image_content;
mod images;
mod jail;
mod lifecycle;
mod logs;
mod old_metadata;
mod ordinary_user;
mod permissions;
mod program;
mod protocol_v1;
mod pulls;
mod reconnect;
mod registries;
mod soak;
mod sockets;
mod space;
mod transfers;
mod trees;

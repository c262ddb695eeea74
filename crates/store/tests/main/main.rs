//! What the store promises, seen from outside, over real files and real processes.

mod allocators;
mod cleanup;
mod creation;
mod damage;
mod full_disk;
mod helper;
mod interrupted;
mod liveness;
mod logs;
mod model;
mod older_versions;
mod removal;
mod resolution;
mod scene;
mod usage;

//! Images by real parts: Debian's `docker-registry` on loopback, filled by `skopeo` and `umoci`.

mod builder;
mod content;
mod registry;

mod pull;

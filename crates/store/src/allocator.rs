//! The allocator files: what people look at, and reset.
//!
//! ```text
//!   cid_allocator.json   {"next_cid": 4, "leases": {"<id>": 3}}
//!   port_allocator.json  {"next_port": 9001, "used_ports": [9000], "leases": {"<id>": 9000}}
//! ```
//!
//! `next_…` is what the next VM to start would get, `used_ports` what running VMs have. Both are
//! written for people only. `leases` is read back for VMs that live, or whose metadata are damaged,
//! and whose lock record is lost. Keys that we do not know stay.

use std::path::Path;

use bandsox_spec::VmId;
use serde_json::{Map, Value};

use crate::file::{self, Content, FileError};
use crate::guard::StoreGuard;
use crate::lease::{CIDS, Held, PORTS, Taken, lowest_free};
use crate::paths::Paths;

/// What both allocator files hold.
#[derive(Debug, Default)]
pub(crate) struct Allocators {
    cids: Map<String, Value>,
    ports: Map<String, Value>,
}

impl Allocators {
    /// Reads both files. One that is missing, empty or makes no sense is as good as reset.
    pub(crate) fn load(paths: &Paths) -> Self {
        Self { cids: load(&paths.cid_allocator()), ports: load(&paths.port_allocator()) }
    }

    /// What the files say that a VM has.
    pub(crate) fn recorded(&self, id: &VmId) -> impl Iterator<Item = Taken> {
        let number = |object: &Map<String, Value>| {
            let leases = object.get("leases")?.as_object()?;
            u32::try_from(leases.get(id.as_str())?.as_u64()?).ok()
        };
        let cid = number(&self.cids).map(Taken::Cid);
        cid.into_iter().chain(number(&self.ports).map(Taken::Port))
    }

    /// Writes both files, each only if it changes.
    pub(crate) fn store(
        &mut self,
        guard: &StoreGuard,
        paths: &Paths,
        held: &Held,
    ) -> Result<(), FileError> {
        let (cids, ports) = (held.cids(), held.ports());
        let used: Vec<Value> = ports.iter().map(|port| (*port).into()).collect();

        self.cids.insert("next_cid".to_owned(), next(lowest_free(&CIDS, cids), *CIDS.end()));
        self.cids.insert(
            "leases".to_owned(),
            leases(held, |taken| match taken {
                Taken::Cid(cid) => Some(cid),
                Taken::Port(_) => None,
            }),
        );
        self.ports.insert("next_port".to_owned(), next(lowest_free(&PORTS, ports), *PORTS.end()));
        self.ports.insert("used_ports".to_owned(), used.into());
        self.ports.insert(
            "leases".to_owned(),
            leases(held, |taken| match taken {
                Taken::Port(port) => Some(port),
                Taken::Cid(_) => None,
            }),
        );

        write(guard, &paths.cid_allocator(), &self.cids)?;
        write(guard, &paths.port_allocator(), &self.ports)
    }

    /// Writes both files; that it failed is worth a warning only, since they are a cache.
    pub(crate) fn store_or_warn(&mut self, guard: &StoreGuard, paths: &Paths, held: &Held) {
        if let Err(error) = self.store(guard, paths, held) {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, reason, "an allocator file is out of date");
        }
    }
}

/// The largest allocator file that is read. Unit: bytes. A full one has some 60 KiB.
const MAX_BYTES: u64 = 1 << 20;

fn load(path: &Path) -> Map<String, Value> {
    let bytes = match file::read_bounded(path, MAX_BYTES) {
        Ok(Content::Missing) => return Map::new(),
        Ok(Content::Bytes(bytes)) => bytes,
        Ok(Content::NotRegular | Content::TooLarge) => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "an allocator file is taken as reset");
            return Map::new();
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => object,
        Ok(_) | Err(_) => {
            tracing::warn!(
                path = %path.display(),
                "an allocator file is empty or damaged; it is made anew from the running VMs"
            );
            Map::new()
        }
    }
}

/// One beyond the end if nothing is free.
fn next(free: Option<u32>, end: u32) -> Value {
    free.unwrap_or_else(|| end.saturating_add(1)).into()
}

fn leases(held: &Held, number: impl Fn(Taken) -> Option<u32>) -> Value {
    held.all()
        .filter_map(|(id, taken)| Some((id.to_string(), number(taken)?.into())))
        .collect::<Map<String, Value>>()
        .into()
}

fn write(guard: &StoreGuard, path: &Path, object: &Map<String, Value>) -> Result<(), FileError> {
    let mut bytes =
        serde_json::to_vec(object).expect("an object with text for keys is always JSON");
    bytes.push(b'\n');
    let same = matches!(
        file::read_bounded(path, MAX_BYTES),
        Ok(Content::Bytes(present)) if present == bytes
    );
    if same { Ok(()) } else { file::replace(guard, path, &bytes) }
}

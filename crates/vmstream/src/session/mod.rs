//! What a stream has said so far. Reader and writer keep one each, so that neither passes what the other would not.

mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::broken::Broken;
use crate::frame::{HEADER_BYTES, Header, Kind, MAGIC, PROVISIONAL};
use crate::limits;
use crate::message::{DeviceRecord, Finish, Hello, Manifest, Pages, Ram};
use crate::rule::Rule;
use crate::schema::Schema;

pub(crate) use order::Order;

/// Counts of what came so far.
#[derive(Clone, Debug)]
struct Ledger {
    frames: u64,
    bytes: u64,
    pages: u64,
    devices: u64,
    headers: Sha256,
}

/// What a stream has said so far.
#[derive(Debug)]
pub(crate) struct Session {
    order: Order,
    ledger: Ledger,
    channel: Option<u16>,
    epoch: u32,
    hello: Option<Hello>,
    manifest: Option<Manifest>,
    schemas: BTreeMap<u32, Arc<Schema>>,
    schema_bytes: u64,
    schema_values: usize,
    device_bytes: u64,
    records: u64,
    /// Digests of the paths that have final records: paths may be long, and many.
    paths: BTreeSet<[u8; 32]>,
    /// Schema ids of declared devices, by path; none where the manifest declares none.
    declared: Option<BTreeMap<String, u32>>,
}

impl Session {
    pub(crate) fn new() -> Self {
        let bytes = u64::try_from(MAGIC.len()).unwrap_or(0);
        Self {
            order: Order::default(),
            ledger: Ledger { frames: 0, bytes, pages: 0, devices: 0, headers: Sha256::new() },
            channel: None,
            epoch: 0,
            hello: None,
            manifest: None,
            schemas: BTreeMap::new(),
            schema_bytes: 0,
            schema_values: 0,
            device_bytes: 0,
            records: 0,
            paths: BTreeSet::new(),
            declared: None,
        }
    }

    pub(crate) const fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    pub(crate) const fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    pub(crate) const fn schemas(&self) -> &BTreeMap<u32, Arc<Schema>> {
        &self.schemas
    }

    /// Offset of the next frame, bytes.
    pub(crate) const fn offset(&self) -> u64 {
        self.ledger.bytes
    }

    /// Number of the next frame, which is its sequence number.
    pub(crate) const fn frame(&self) -> u64 {
        self.ledger.frames
    }

    pub(crate) const fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.order.is_over()
    }

    /// Checks a header against all before it. Nothing is counted yet.
    pub(crate) fn admit(&mut self, header: &Header, kind: Option<Kind>) -> Result<(), Broken> {
        if *self.channel.get_or_insert(header.channel) != header.channel {
            return Err(Broken::new(Rule::F10).at(6).found(header.channel));
        }
        if header.sequence != self.ledger.frames {
            return Err(Broken::new(Rule::F11).at(9).found(header.sequence));
        }
        if header.epoch < self.epoch {
            return Err(Broken::new(Rule::F12).at(18).found(header.epoch));
        }
        let purpose = self.hello.as_ref().map(|hello| hello.purpose);
        let late = self.hello.as_ref().is_some_and(|hello| hello.needs("late-schemas"));
        self.order.admit(kind, header.has(PROVISIONAL), purpose, late)?;
        self.order.admit_epoch(kind, self.epoch, header.epoch)
    }

    /// Counts a frame that is whole.
    pub(crate) fn count(&mut self, header: &Header) {
        self.epoch = header.epoch;
        self.ledger.headers.update(header.encode());
        self.ledger.frames = self.ledger.frames.saturating_add(1);
        let whole = u64::try_from(HEADER_BYTES).unwrap_or(0).saturating_add(header.length);
        self.ledger.bytes = self.ledger.bytes.saturating_add(whole);
    }

    pub(crate) fn learn_hello(&mut self, hello: Hello) {
        self.hello = Some(hello);
    }

    /// Takes a schema whose document has `values` values and `bytes` bytes.
    pub(crate) fn learn_schema(
        &mut self,
        id: u32,
        schema: Arc<Schema>,
        values: usize,
        bytes: u64,
    ) -> Result<(), Broken> {
        self.schema_bytes = self.schema_bytes.saturating_add(bytes);
        self.schema_values = self.schema_values.saturating_add(values);
        if self.schemas.len() >= limits::SCHEMAS
            || self.schema_bytes > limits::SCHEMA_BYTES
            || self.schema_values > limits::SCHEMA_VALUES
        {
            return Err(Broken::new(Rule::S3));
        }
        match self.schemas.insert(id, schema) {
            None => Ok(()),
            Some(_) => Err(Broken::new(Rule::O2).path("id").found(id)),
        }
    }

    pub(crate) fn learn_manifest(&mut self, manifest: Manifest) -> Result<(), Broken> {
        for device in manifest.devices.iter().flatten() {
            let schema = self.schemas.get(&device.schema);
            if schema.is_none_or(|schema| schema.name != device.kind) {
                return Err(Broken::new(Rule::M7).path("devices").found(&device.path));
            }
        }
        let declared = manifest.devices.as_ref().map(|devices| {
            devices.iter().map(|device| (device.path.clone(), device.schema)).collect()
        });
        self.declared = declared;
        self.manifest = Some(manifest);
        Ok(())
    }

    pub(crate) fn learn_pages(&mut self, kind: Kind, pages: &Pages) -> Result<(), Broken> {
        let manifest = self.manifest.as_ref().ok_or_else(|| Broken::new(Rule::O3))?;
        let size = if kind == Kind::Disk {
            manifest.disk_pages(pages.region())
        } else {
            manifest.region_pages(pages.region())
        };
        let size =
            size.ok_or_else(|| Broken::new(Rule::P2).path("region").found(pages.region()))?;
        pages.check_within(size, manifest.page_size, manifest.parent.is_some())?;
        self.ledger.pages = self.ledger.pages.saturating_add(pages.count());
        Ok(())
    }

    pub(crate) fn learn_ram(&mut self, ram: &Ram) -> Result<(), Broken> {
        let manifest = self.manifest.as_ref().ok_or_else(|| Broken::new(Rule::O3))?;
        let page = manifest.page_size;
        let pages = manifest.region_pages(ram.region);
        let pages = pages.ok_or_else(|| Broken::new(Rule::R1).at(1).found(ram.region))?;
        let end = ram.offset.checked_add(ram.length);
        if end.is_none_or(|end| end > pages.saturating_mul(page)) {
            return Err(Broken::new(Rule::R1).at(6).found("over the end of the region"));
        }
        match (ram.offset.checked_rem(page), ram.length.checked_rem(page)) {
            (Some(0), Some(0)) => {
                let count = ram.length.checked_div(page).unwrap_or(0);
                self.ledger.pages = self.ledger.pages.saturating_add(count);
                Ok(())
            }
            _ => Err(Broken::new(Rule::R1).at(6).found("no whole pages")),
        }
    }

    /// Checks records, of `bytes` bytes inflated in all.
    pub(crate) fn learn_records(
        &mut self,
        records: &[DeviceRecord],
        provisional: bool,
        bytes: u64,
    ) -> Result<(), Broken> {
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        self.device_bytes = self.device_bytes.saturating_add(bytes);
        self.records = self.records.saturating_add(count);
        if self.device_bytes > limits::DEVICE_STATE || self.records > limits::DEVICES {
            return Err(Broken::new(Rule::D5).found(self.device_bytes));
        }
        for (index, record) in records.iter().enumerate() {
            self.check_record(record).map_err(|broken| broken.below(index))?;
            if !provisional {
                if !self.paths.insert(Sha256::digest(&record.path).into()) {
                    return Err(Broken::new(Rule::D4).found(&record.path).below(index));
                }
                self.ledger.devices = self.ledger.devices.saturating_add(1);
            }
        }
        Ok(())
    }

    pub(crate) fn check_record(&self, record: &DeviceRecord) -> Result<(), Broken> {
        let schema = self.schemas.get(&record.schema);
        let schema = schema.filter(|schema| schema.name == record.kind);
        let schema = schema.ok_or_else(|| Broken::new(Rule::D2).found(&record.path))?;
        let state = schema.check_state(&record.state);
        state.map_err(|broken| broken.below("state"))?;
        match self.declared.as_ref().map(|declared| declared.get(&record.path)) {
            None => Ok(()),
            Some(Some(schema)) if *schema == record.schema => Ok(()),
            Some(_) => Err(Broken::new(Rule::D6).found(&record.path)),
        }
    }

    /// The finish frame that belongs here.
    pub(crate) fn finish(&self, follows: u64) -> Finish {
        let Ledger { frames, bytes, pages, devices, ref headers } = self.ledger;
        let digest = headers.clone().finalize().into();
        Finish { frames, bytes, pages, devices, digest, follows }
    }

    /// Says that a finish frame has been written.
    pub(crate) const fn end(&mut self, follows: u64) {
        self.order.finish(follows);
    }

    /// Checks a finish frame, before it is counted.
    pub(crate) fn learn_finish(&mut self, finish: &Finish) -> Result<(), Broken> {
        let want = self.finish(finish.follows);
        if finish.digest != want.digest {
            return Err(Broken::new(Rule::E2).path("digest"));
        }
        if *finish != want {
            let found = format!(
                "{} frames, {} bytes, {} pages, {} devices",
                finish.frames, finish.bytes, finish.pages, finish.devices
            );
            return Err(Broken::new(Rule::E1).found(found));
        }
        self.check_complete()?;
        self.order.finish(finish.follows);
        Ok(())
    }

    /// Every device that was declared has its record.
    pub(crate) fn check_complete(&self) -> Result<(), Broken> {
        if !self.order.has_switched() {
            return Ok(());
        }
        let paths = self.declared.iter().flat_map(BTreeMap::keys);
        let has_record = |path: &str| self.paths.contains::<[u8; 32]>(&Sha256::digest(path).into());
        match paths.into_iter().find(|path| !has_record(path)) {
            None => Ok(()),
            Some(path) => Err(Broken::new(Rule::D6).found(format_args!("{path} has no record"))),
        }
    }
}

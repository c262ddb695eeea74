//! What an index would say, by looking at every header.

use std::io::{Read, Seek};

use super::{Archive, io_error};
use crate::broken::Broken;
use crate::frame::{Header, Kind, MAGIC, PROVISIONAL};
use crate::message::{Index, IndexedRam, records_from};
use crate::reader::ReadError;
use crate::rule::Rule;

impl<F: Read + Seek> Archive<F> {
    pub(super) fn scan_all(&mut self) -> Result<(), ReadError> {
        let mut magic = [0; 3];
        self.seek(0)?;
        self.file.read_exact(&mut magic).map_err(|source| io_error(0, source))?;
        if magic != MAGIC {
            return Err(self.broken(0, 0, Broken::new(Rule::F1)));
        }
        self.index = Index::default();
        let (mut at, mut in_pages) = (3_u64, false);
        while at < self.length {
            let (header, kind) = self.header_at(at)?;
            let admitted = self.session.admit(&header, kind);
            self.take(at, &header, admitted)?;
            let next = at.checked_add(51).and_then(|after| after.checked_add(header.length));
            let next = next
                .filter(|next| *next <= self.length)
                .ok_or_else(|| self.broken(header.sequence, self.length, Broken::new(Rule::F14)))?;
            let is_pages = matches!(kind, Some(Kind::Pages | Kind::Disk));
            if is_pages {
                self.group(at, in_pages);
            } else {
                self.note_frame(at, header, kind)?;
            }
            in_pages = is_pages;
            self.session.count(&header);
            at = next;
        }
        if !self.session.is_over() {
            return Err(self.broken(self.session.frame(), self.length, Broken::new(Rule::F14)));
        }
        self.index.order_devices();
        Ok(())
    }

    /// Adds a frame of pages to the group before, if there is one.
    fn group(&mut self, at: u64, grouped: bool) {
        match self.index.pages.last_mut() {
            Some((_, count)) if grouped => *count = count.saturating_add(1),
            _ => self.index.pages.push((at, 1)),
        }
    }

    fn note_frame(&mut self, at: u64, header: Header, kind: Option<Kind>) -> Result<(), ReadError> {
        match kind {
            Some(kind @ (Kind::Hello | Kind::Schema | Kind::Manifest | Kind::Finish)) => {
                let found = self.message(at, header)?;
                if kind == Kind::Schema {
                    let id = found.value.as_map().and_then(|map| map.get("id"));
                    let id =
                        id.and_then(crate::Value::as_u64).and_then(|id| u32::try_from(id).ok());
                    self.index.schemas.extend(id.map(|id| (id, at)));
                }
                self.learn(at, found, kind)?;
                match (kind, &self.finish) {
                    (Kind::Manifest, _) => self.index.manifest = at,
                    (Kind::Finish, Some(finish)) => {
                        let (digest, follows) = (finish.digest, finish.follows);
                        if self.session.finish(follows).digest != digest {
                            return Err(self.broken(header.sequence, at, Broken::new(Rule::E2)));
                        }
                        self.session.end(follows);
                        self.index.finish = at;
                    }
                    _ => {}
                }
            }
            Some(Kind::Device) if !header.has(PROVISIONAL) => {
                let found = self.message(at, header)?;
                let records = self.take(at, &found.header, records_from(found.value))?;
                let learnt = self.session.learn_records(&records, false, found.bytes);
                self.take(at, &found.header, learnt)?;
                let paths = records.into_iter().map(|record| (record.path, at));
                self.index.devices.extend(paths);
            }
            Some(Kind::Ram) => {
                let ram = self.ram_prefix(at, &header)?;
                self.index.ram.push(IndexedRam {
                    frame: at,
                    data: at.saturating_add(51 + 29),
                    region: ram.region,
                    offset: ram.offset,
                    length: ram.length,
                });
            }
            _ => {}
        }
        Ok(())
    }
}

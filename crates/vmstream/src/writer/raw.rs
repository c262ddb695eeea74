//! Messages that are values already: what comes back from JSON.

use std::io::Write;
use std::sync::Arc;

use super::{WriteError, Writer};
use crate::broken::Broken;
use crate::finding::Finding;
use crate::frame::{COMPRESSED, Kind, PROVISIONAL};
use crate::message::{
    Fields, Hello, Manifest, Message, Note, Request, Switch, Verdict, records_from,
};
use crate::reader::inflate;
use crate::rule::Rule;
use crate::schema::Schema;
use crate::session::Session;
use crate::value::{Value, encode};

impl<W: Write> Writer<W> {
    /// Begins a stream with a hello that is a value, keys that no one knows included.
    pub(crate) fn of_value(out: W, channel: u16, hello: &Value) -> Result<Self, WriteError> {
        let message = Hello::from_value(hello.clone());
        let message = message.map_err(|broken| WriteError::Broken { frame: 0, broken })?;
        let mut writer = Self::on_channel_with(out, channel, hello)?;
        writer.session.learn_hello(message);
        Ok(writer)
    }

    pub(crate) const fn session(&self) -> &Session {
        &self.session
    }

    /// Sets the epoch of the next frame, for a stream that is copied: where it falls, the frame is refused.
    pub const fn set_epoch(&mut self, epoch: u32) {
        self.epoch = epoch;
    }

    /// Writes a message. `packed` is its compressed form, to be taken if it still is that.
    pub(crate) fn value(
        &mut self,
        kind: Kind,
        provisional: bool,
        value: &Value,
        packed: Option<&[u8]>,
    ) -> Result<(), WriteError> {
        let bytes = encode(value);
        let offset = self.offset();
        let learnt = self.learn_value(kind, provisional, value, bytes.len());
        let learnt = self.check(learnt)?;
        let flags = if provisional { PROVISIONAL } else { 0 };
        match packed {
            Some(packed) if inflate(packed).is_ok_and(|inflated| inflated == bytes) => {
                self.frame(kind, flags | COMPRESSED, packed)?;
            }
            _ => self.metadata(kind, flags, value)?,
        }
        match learnt {
            Learnt::Nothing => {}
            Learnt::Manifest => self.index.manifest = offset,
            Learnt::Schema(id) => self.index.schemas.push((id, offset)),
            Learnt::Paths(paths) => {
                self.index.devices.extend(paths.into_iter().map(|path| (path, offset)));
            }
        }
        Ok(())
    }

    fn learn_value(
        &mut self,
        kind: Kind,
        provisional: bool,
        value: &Value,
        bytes: usize,
    ) -> Result<Learnt, Broken> {
        let (value, bytes) = (value.clone(), u64::try_from(bytes).unwrap_or(u64::MAX));
        match kind {
            Kind::Schema => {
                let mut fields = Fields::of(value)?;
                let (id, document) = (fields.small("id")?, fields.value("schema")?);
                fields.done()?;
                let schema = Arc::new(Schema::parse(&document)?);
                self.session.learn_schema(id, schema, document.count(), bytes)?;
                Ok(Learnt::Schema(id))
            }
            Kind::Manifest => {
                self.session.learn_manifest(Manifest::from_value(value)?)?;
                Ok(Learnt::Manifest)
            }
            Kind::Device => {
                let records = records_from(value)?;
                self.session.learn_records(&records, provisional, bytes)?;
                let paths = records.into_iter().map(|record| record.path).collect();
                Ok(if provisional { Learnt::Nothing } else { Learnt::Paths(paths) })
            }
            Kind::Verdict => Verdict::from_value(value).map(|_| Learnt::Nothing),
            Kind::Switch => Switch::from_value(value).map(|_| Learnt::Nothing),
            Kind::Note => Note::from_value(value).map(|_| Learnt::Nothing),
            Kind::Abort => Finding::from_value(value).map(|_| Learnt::Nothing),
            Kind::Request => {
                let items = value.as_list().ok_or_else(|| Broken::new(Rule::M1))?;
                let each = |item: &Value| Request::from_value(item.clone()).map(drop);
                items.iter().try_for_each(each).map(|()| Learnt::Nothing)
            }
            Kind::Hello
            | Kind::Pages
            | Kind::Disk
            | Kind::Ram
            | Kind::Checksums
            | Kind::Pad
            | Kind::Finish
            | Kind::Index
            | Kind::Tail => Err(Broken::new(Rule::M1).found(kind.name())),
        }
    }
}

/// What a message adds to the index.
enum Learnt {
    Nothing,
    Manifest,
    Schema(u32),
    Paths(Vec<String>),
}

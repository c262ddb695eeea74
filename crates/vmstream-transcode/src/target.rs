//! What of QEMU's is written, in either form.

use std::io::Write;

use vmstream::message::{Manifest, Pages, RunKind};
use vmstream_qemu::BlockHead;

use crate::error::Error;
use crate::op::{Odd, Op};
use crate::precopy::Precopy;
use crate::same::{OnePage, Same};

/// Pages that are written with one call: the kernel takes 1024 slices, two for each (`UIO_MAXIOV`, Linux).
const TOGETHER: usize = 511;

/// What is written.
pub(crate) enum Target<W: Write> {
    Same(Same<W>),
    Precopy(Precopy<W>),
}

impl<W: Write> Target<W> {
    pub(crate) fn manifest(&mut self, manifest: &Manifest) {
        let head = |region: &vmstream::message::Region| BlockHead {
            name: region.name.as_str().into(),
            bytes: region.bytes,
            page_bytes: None,
            gpa: region.gpa,
            mapped: None,
        };
        let blocks = manifest.memory.iter().map(head).collect();
        match self {
            Self::Same(same) => same.manifest(manifest.page_size),
            Self::Precopy(precopy) => precopy.manifest(blocks, manifest.page_size),
        }
    }

    pub(crate) fn step(&mut self, op: Op) -> Result<(), Error> {
        match self {
            Self::Same(same) => same.step(op),
            Self::Precopy(precopy) => precopy.step(op),
        }
    }

    /// Bytes of steps that follow, for a machine that can load them meanwhile.
    pub(crate) fn ahead(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Same(same) => same.ahead(bytes),
            // What it writes is in another order.
            Self::Precopy(_) => Ok(()),
        }
    }

    pub(crate) fn body(&mut self, structure: &vmstream_qemu::Structure) -> Result<(), Error> {
        match self {
            Self::Same(same) => same.body(structure),
            Self::Precopy(precopy) => precopy.body(structure),
        }
    }

    pub(crate) fn page(&mut self, block: u32, page: u64, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::Same(_) => Err(Error::moved("memory is in frames that can be mapped")),
            Self::Precopy(precopy) => precopy.page(block, page, Some(data)),
        }
    }

    pub(crate) fn pages(&mut self, pages: &Pages, odd: Odd) -> Result<(), Error> {
        let data = pages.data().map_err(|broken| Error::notes(broken.to_string()))?;
        let page_bytes = match self {
            Self::Same(same) => same.page_bytes(),
            Self::Precopy(precopy) => precopy.page_bytes(),
        };
        let mut data = data.chunks(usize::try_from(page_bytes).unwrap_or(4096).max(1));
        let mut odd = OddPages { odd, number: 0 };
        let mut together = Vec::with_capacity(TOGETHER);
        for run in pages.runs() {
            for page in (run.first..).take(usize::try_from(run.count).unwrap_or(usize::MAX)) {
                let bytes = match run.kind {
                    RunKind::Data => Some(data.next().unwrap_or_default()),
                    RunKind::Zero => None,
                    RunKind::SameAs(_) | RunKind::Absent => {
                        return Err(Error::moved("pages are elsewhere: apply the chain first"));
                    }
                };
                let (named, full) = odd.next();
                match self {
                    Self::Same(same) => {
                        together.push(OnePage { page, data: bytes, odd: named, full });
                        if together.len() == TOGETHER {
                            same.pages(pages.region(), &together)?;
                            together.clear();
                        }
                    }
                    Self::Precopy(precopy) => precopy.page(pages.region(), page, bytes)?,
                }
            }
        }
        match self {
            Self::Same(same) if !together.is_empty() => same.pages(pages.region(), &together),
            Self::Same(_) | Self::Precopy(_) => Ok(()),
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        match self {
            Self::Same(same) => same.flush(),
            // It waits for the end anyway.
            Self::Precopy(_) => Ok(()),
        }
    }

    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        match self {
            Self::Same(same) => same.finish(),
            Self::Precopy(precopy) => precopy.finish(),
        }
    }

    pub(crate) fn into_inner(self) -> Result<W, Error> {
        match self {
            Self::Same(same) => Ok(same.into_inner()),
            Self::Precopy(precopy) => precopy.into_inner(),
        }
    }
}

/// Goes through the pages of a frame and says which are odd.
struct OddPages {
    odd: Odd,
    number: u64,
}

impl OddPages {
    /// Whether the next page is odd in how it is named, and in being written in full.
    fn next(&mut self) -> (bool, bool) {
        let number = self.number;
        self.number = number.saturating_add(1);
        let Odd { named, full } = &self.odd;
        (named.binary_search(&number).is_ok(), full.binary_search(&number).is_ok())
    }
}

//! Which frame may come when.
//!
//! ```text
//!   Start --hello--> Described --manifest--> Manifested --switch--> Switched --finish--> Finished --index, tail--> Over
//!                       |  schema                |  pages, disk, ram      |  device, pages, disk, ram
//!                       |                        |  provisional device, verdict
//!                       +---- abort: Over, from anywhere ----+
//! ```

use crate::broken::Broken;
use crate::frame::Kind;
use crate::message::Purpose;
use crate::rule::Rule;

/// How far a stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing has come.
    #[default]
    Start,
    /// Hello has.
    Described,
    /// The manifest has.
    Manifested,
    /// The source has stopped.
    Switched,
    /// Finish has; so many frames are to come.
    Finished(u64),
    /// An abort has.
    Aborted,
}

/// Which frame may come next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    phase: Phase,
    checksums_next: bool,
    has_verdict: bool,
    switched: bool,
}

impl Order {
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Finished(0) | Phase::Aborted)
    }

    pub(crate) const fn has_switched(&self) -> bool {
        self.switched
    }

    /// Says that a finish frame was right.
    pub(crate) const fn finish(&mut self, follows: u64) {
        self.phase = Phase::Finished(follows);
    }

    /// Whether a frame may come here; if so, it has come. None is a kind that is skipped.
    pub(crate) fn admit(
        &mut self,
        kind: Option<Kind>,
        provisional: bool,
        purpose: Option<Purpose>,
        late_schemas: bool,
    ) -> Result<(), Broken> {
        let broken = |rule| {
            Broken::new(rule).at(1).found(kind.map_or("a frame of an unknown kind", Kind::name))
        };
        if self.phase == Phase::Aborted {
            return Err(broken(Rule::O11));
        }
        if let Phase::Finished(left) = self.phase {
            let wanted = if left == 2 { Kind::Index } else { Kind::Tail };
            if left == 0 || kind != Some(wanted) {
                return Err(broken(Rule::O8));
            }
            self.phase = Phase::Finished(left.saturating_sub(1));
            return Ok(());
        }
        if (self.phase == Phase::Start) != (kind == Some(Kind::Hello)) {
            return Err(broken(Rule::O1));
        }
        if self.checksums_next != (kind == Some(Kind::Checksums)) {
            return Err(broken(Rule::O7));
        }
        self.checksums_next = false;
        let Some(kind) = kind else { return Ok(()) };
        if purpose.is_some_and(|purpose| !belongs(kind, purpose)) {
            return Err(broken(Rule::O4));
        }
        self.step(kind, provisional, purpose, late_schemas).map_err(broken)
    }

    fn step(
        &mut self,
        kind: Kind,
        provisional: bool,
        purpose: Option<Purpose>,
        late_schemas: bool,
    ) -> Result<(), Rule> {
        let (described, manifested) =
            (self.phase == Phase::Described, self.phase == Phase::Manifested);
        let answer = purpose == Some(Purpose::Answer);
        match kind {
            Kind::Hello => self.phase = Phase::Described,
            Kind::Schema if !described && !late_schemas => return Err(Rule::O9),
            Kind::Manifest if described => self.phase = Phase::Manifested,
            Kind::Manifest => return Err(Rule::O3),
            Kind::Verdict if self.has_verdict || !(manifested || answer) => return Err(Rule::O10),
            Kind::Verdict => self.has_verdict = true,
            Kind::Pages | Kind::Disk | Kind::Ram | Kind::Device if described => {
                return Err(Rule::O3);
            }
            Kind::Ram => self.checksums_next = true,
            Kind::Device if provisional != manifested => return Err(Rule::O6),
            Kind::Switch if described => return Err(Rule::O3),
            Kind::Switch if !manifested => return Err(Rule::O5),
            Kind::Switch => (self.phase, self.switched) = (Phase::Switched, true),
            Kind::Finish => match purpose {
                Some(Purpose::State) if !self.switched => return Err(Rule::O5),
                Some(Purpose::Contract) if !manifested => return Err(Rule::O3),
                _ => {}
            },
            Kind::Index | Kind::Tail => return Err(Rule::O8),
            Kind::Abort => self.phase = Phase::Aborted,
            Kind::Schema
            | Kind::Pages
            | Kind::Disk
            | Kind::Device
            | Kind::Checksums
            | Kind::Pad
            | Kind::Note
            | Kind::Request => {}
        }
        Ok(())
    }

    /// Whether a frame that may come has the epoch that it must have.
    pub(crate) fn admit_epoch(
        &self,
        kind: Option<Kind>,
        last: u32,
        epoch: u32,
    ) -> Result<(), Broken> {
        let right = match kind {
            Some(Kind::Hello) => epoch == 0,
            Some(Kind::Switch) => epoch > last,
            _ => !self.switched || epoch == last,
        };
        if right { Ok(()) } else { Err(Broken::new(Rule::O5).at(18).found(epoch)) }
    }
}

/// Whether a purpose has frames of a kind.
const fn belongs(kind: Kind, purpose: Purpose) -> bool {
    match kind {
        Kind::Hello | Kind::Schema | Kind::Manifest | Kind::Finish => true,
        Kind::Pad | Kind::Note | Kind::Abort => true,
        Kind::Verdict => matches!(purpose, Purpose::State | Purpose::Answer),
        Kind::Request => matches!(purpose, Purpose::Answer),
        Kind::Pages | Kind::Disk | Kind::Ram | Kind::Checksums | Kind::Switch | Kind::Device => {
            matches!(purpose, Purpose::State)
        }
        Kind::Index | Kind::Tail => matches!(purpose, Purpose::State),
    }
}

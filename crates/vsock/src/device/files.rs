//! Loans of guest memory to threads that transfer files; see [`transfer`](crate::transfer).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::from_guest::Run;
use super::link::{Link, Packet};
use super::to_guest::{Turn, spare_buffers};
use super::{Device, Farewell};
use vm_memory::GuestMemoryMmap;

use crate::chain::RxBuffer;
use crate::connection::{Connection, Incoming, Outgoing, Phase};
use crate::span::Spans;
use crate::spec::Op;
use crate::stats::Counters;
use crate::table::ConnectionId;
use crate::transfer::Loan;

/// Bytes lent at a time.
const LOAN_BYTES: u32 = 256 << 10;

/// Pieces of memory lent at a time, below what one system call takes.
const LOAN_PIECES: usize = 512;

/// Receive buffers that are worth a loan, if more bytes than they hold are wanted.
const LEAST_LOAN: usize = 16;

/// Transmit descriptors that one file may hold, as a fraction of the ring. What comes on top is
/// copied: other connections need the ring too.
const HELD: u16 = 4;

/// How long a guest that is being detached waits for a transfer's system call to end.
const RECALL_PATIENCE: Duration = Duration::from_secs(10);

impl Device {
    /// A caller wants to send a file.
    pub(super) fn send_file(&mut self, id: ConnectionId, bytes: u64, loans: Sender<Loan>) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if !matches!(connection.phase, Phase::Open)
            || connection.host_ended
            || connection.guest_deaf
        {
            return;
        }
        if bytes == 0 {
            loans.send(Loan::Done).ok();
            return;
        }
        // A look at the socket decides whether it is empty, whatever has been noticed so far.
        connection.readable = true;
        connection.outgoing =
            Some(Outgoing { left: bytes, loans, begun: false, lent: VecDeque::new() });
        self.schedule(id);
    }

    /// A caller wants to receive a file.
    pub(super) fn receive_file(&mut self, id: ConnectionId, bytes: u64, loans: Sender<Loan>) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if !matches!(connection.phase, Phase::Open) || connection.guest_ended {
            return;
        }
        // This thread is the one that looks at what the guest sends: it looks again only after this.
        loans.send(Loan::Begun).ok();
        if bytes == 0 {
            loans.send(Loan::Done).ok();
            return;
        }
        connection.incoming = Some(Incoming::new(bytes, loans));
    }

    /// A loan has come back, `bytes` of it used.
    pub(super) fn repaid(&mut self, mut link: Option<&mut Link>, id: ConnectionId, bytes: u32) {
        let Some(connection) = self.table.get_mut(id) else { return };
        match &mut link {
            Some(link) => put_lent(connection, link, bytes, &self.mailbox.counters),
            // Its buffers are no longer the guest's.
            None => connection.forget_outgoing(),
        }
        take_lent(connection, link, bytes);
        self.tally.add(u64::from(bytes), connection.credit.expected_by_guest());
        self.streaming.push(id);
        self.lenders.push(id);
        self.tell_if_worth(id);
        self.schedule(id);
        self.bury(id);
    }

    /// Takes payload that belongs to a file. True if its descriptors must be kept.
    pub(super) fn take_file_bytes(
        &mut self,
        link: &mut Link,
        run: &mut Run,
        id: ConnectionId,
        head: u16,
        payload: Spans,
    ) -> bool {
        let Some(connection) = self.table.get_mut(id) else { return false };
        let Some(file) = &mut connection.incoming else { return false };
        let len = payload.bytes();
        let mine = u32::try_from(file.left).unwrap_or(u32::MAX).min(len);
        file.left -= u64::from(mine);
        let heads = file.held_heads.len() + file.lent_heads.len();
        let has_room = heads < usize::from(link.tx.size() / HELD)
            && file.held.count() + payload.count() <= LOAN_PIECES;
        if self.lenders.last() != Some(&id) {
            self.lenders.push(id);
        }
        if mine == len && len > 0 && has_room && file.overflow.is_empty() {
            file.hold(head, &payload);
            return true;
        }
        let (front, rest) = payload.split(mine);
        if file.overflow.append(&link.memory, &front).is_err() {
            self.end(id, Farewell::Reset);
        } else if rest.bytes() > 0 {
            self.add_to_run(link, run, id, rest);
        }
        false
    }

    /// Lends callers what has arrived for their files. Without a guest, that is what was copied.
    pub(super) fn lend_arrived(&mut self, mut link: Option<&mut Link>) {
        for id in std::mem::take(&mut self.lenders) {
            let Some(connection) = self.table.get_mut(id) else { continue };
            let memory = link.as_ref().map(|link| &link.memory);
            if lend_payload(connection, memory).is_err() {
                self.drop_arrived(link.as_deref_mut(), id);
                self.end(id, Farewell::Reset);
            }
        }
    }

    /// Drops what has arrived for a file and is not lent.
    pub(super) fn drop_arrived(&mut self, link: Option<&mut Link>, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if let Some(file) = &mut connection.incoming {
            give_up(link, &mut file.held_heads);
            file.held = Spans::default();
            file.overflow.take();
        }
    }

    /// Waits for what is lent, and copies what is held: the guest is about to have its memory
    /// back.
    pub(super) fn recall(&mut self, link: &mut Link) {
        let until = Instant::now() + RECALL_PATIENCE;
        while self.table.ids().into_iter().any(|id| self.has_loan(id)) {
            let patience = until.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                tracing::warn!("vsock: a file transfer does not let go of guest memory");
                break;
            }
            for (id, bytes) in self.mailbox.collect_repayments(patience) {
                self.repaid(Some(link), id, bytes);
            }
        }
        for id in self.table.ids() {
            let Some(connection) = self.table.get_mut(id) else { continue };
            let Some(file) = &mut connection.incoming else { continue };
            link.finished.append(&mut file.held_heads);
            let held = std::mem::take(&mut file.held);
            if file.overflow.prepend(&link.memory, &held).is_err() {
                self.end(id, Farewell::Reset);
            }
            self.lenders.push(id);
        }
    }

    fn has_loan(&mut self, id: ConnectionId) -> bool {
        self.table.get_mut(id).is_some_and(|connection| connection.has_loan())
    }
}

/// Lends receive buffers to the thread that sends a file.
pub(super) fn lend_buffers(connection: &mut Connection, link: &mut Link) -> Turn {
    connection.bulky = true;
    let spare = spare_buffers(connection, link);
    let credit = connection.credit.sendable().min(LOAN_BYTES);
    let Some(file) = &mut connection.outgoing else { return Turn::Rest };
    let wanted = u32::try_from(file.left).unwrap_or(u32::MAX).min(credit);
    if wanted == 0 {
        return Turn::Rest;
    }
    let mut spans = Spans::default();
    let mut used = 0;
    for buffer in link.pool.iter().take(spare) {
        if spans.bytes() >= wanted || spans.count() + buffer.payload.count() > LOAN_PIECES {
            break;
        }
        for span in buffer.payload.iter() {
            // At most a loan's bytes and one buffer more, far below 2^32.
            spans.push(span).ok();
        }
        used += 1;
    }
    let least = LEAST_LOAN.min(usize::from(link.rx.size() / 4)).max(1);
    if spans.bytes() < wanted && used < least {
        return Turn::Starved;
    }
    let spans = if spans.bytes() > wanted { spans.split(wanted).0 } else { spans };
    file.lent = link.pool.drain(..used).collect();
    let loan = Loan::Fill { memory: Arc::clone(&link.memory), spans };
    if file.loans.send(loan).is_err() {
        // The caller's thread is gone; nothing happened in between, so the order is kept.
        for buffer in file.lent.drain(..).rev() {
            link.pool.push_front(buffer);
        }
        connection.outgoing = None;
    }
    Turn::Rest
}

/// Gives the guest what a caller has put into lent receive buffers.
fn put_lent(connection: &mut Connection, link: &mut Link, bytes: u32, counters: &Counters) {
    let Some(mut file) = connection.outgoing.take() else { return };
    if file.lent.is_empty() {
        connection.outgoing = Some(file);
        return;
    }
    let is_open = matches!(connection.phase, Phase::Open);
    let mut left = bytes;
    for buffer in file.lent.drain(..) {
        let len = buffer.payload.bytes().min(left);
        left -= len;
        put_one(connection, link, &buffer, if is_open { Some(len) } else { None }, counters);
    }
    file.left = file.left.saturating_sub(u64::from(bytes));
    if file.left == 0 {
        file.loans.send(Loan::Done).ok();
    } else if bytes > 0 && is_open && !connection.guest_deaf {
        connection.outgoing = Some(file);
    }
}

fn put_one(
    connection: &mut Connection,
    link: &mut Link,
    buffer: &RxBuffer,
    len: Option<u32>,
    counters: &Counters,
) {
    let packet = match len {
        Some(len) if len > 0 => {
            connection.credit.send(len);
            Packet { op: Op::ReadWrite, flags: 0, len }
        }
        // A buffer that nothing was read into cannot go back to the pool, whose order matters.
        // It is spent on a packet that says nothing new.
        Some(_) => Packet::bare(Op::CreditUpdate),
        None => Packet::bare(Op::Reset),
    };
    link.put_for(connection, buffer, packet, counters);
}

/// The caller is gone.
struct NoCaller;

/// Lends what has arrived to the thread that receives a file.
fn lend_payload(
    connection: &mut Connection,
    memory: Option<&Arc<GuestMemoryMmap>>,
) -> Result<(), NoCaller> {
    let Some(file) = &mut connection.incoming else { return Ok(()) };
    if file.lent.is_some() {
        return Ok(());
    }
    let (bytes, loan) = if let Some(memory) = memory.filter(|_| file.held.bytes() > 0) {
        let spans = std::mem::take(&mut file.held);
        file.lent_heads = std::mem::take(&mut file.held_heads);
        (spans.bytes(), Loan::Store { memory: Arc::clone(memory), spans })
    } else if !file.overflow.is_empty() {
        let copy = file.overflow.take();
        (u32::try_from(copy.len()).unwrap_or(0), Loan::StoreCopy(copy))
    } else {
        return Ok(());
    };
    file.lent = Some(bytes);
    file.loans.send(loan).map_err(|_| {
        file.lent = None;
        NoCaller
    })
}

/// Takes back what a caller has written to its file.
fn take_lent(connection: &mut Connection, link: Option<&mut Link>, written: u32) {
    let is_open = matches!(connection.phase, Phase::Open) && !connection.guest_ended;
    let Some(file) = &mut connection.incoming else { return };
    let Some(bytes) = file.lent.take() else { return };
    let mut heads = std::mem::take(&mut file.lent_heads);
    connection.credit.take(bytes);
    if written < bytes {
        // The file could not be written. The caller resets the connection.
        heads.append(&mut file.held_heads);
        connection.incoming = None;
    } else if file.left == 0 && file.is_idle() {
        file.loans.send(Loan::Done).ok();
        connection.incoming = None;
    } else if !is_open && file.is_idle() {
        connection.incoming = None;
    }
    give_up(link, &mut heads);
}

/// Is done with transmit descriptors; without a guest there is nobody to have them back.
fn give_up(link: Option<&mut Link>, heads: &mut Vec<u16>) {
    match link {
        Some(link) => link.finished.append(heads),
        None => heads.clear(),
    }
}

//! The machine against a good line, a bad line and a hostile peer.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::mux::frame::{Hello, encode};

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Carries bytes both ways until neither has more to say.
fn settle(a: &mut Mux, b: &mut Mux) {
    while !a.pending().is_empty() || !b.pending().is_empty() {
        let from_a = a.pending().to_vec();
        a.sent(from_a.len());
        b.receive(&from_a);
        let from_b = b.pending().to_vec();
        b.sent(from_b.len());
        a.receive(&from_b);
    }
}

fn events(mux: &mut Mux) -> Vec<Event> {
    std::iter::from_fn(|| mux.next_event()).collect()
}

fn connected() -> (Mux, Mux) {
    let (mut host, mut guest) = (Mux::new(Role::Host, 7), Mux::new(Role::Guest, 9));
    settle(&mut host, &mut guest);
    assert_eq!((events(&mut host), events(&mut guest)), (vec![Event::Up], vec![Event::Up]));
    (host, guest)
}

#[test]
fn a_side_that_starts_late_is_found_by_the_hello_said_again() {
    let mut host = Mux::new(Role::Host, 7);
    let lost = host.pending().len();
    host.sent(lost);
    let mut guest = Mux::new(Role::Guest, 9);
    let lost = guest.pending().len();
    guest.sent(lost);

    host.tick();
    settle(&mut host, &mut guest);

    assert!(host.is_up() && guest.is_up());
}

#[test]
fn an_idle_link_needs_no_clock() {
    let (mut host, mut guest) = connected();
    assert!(!host.needs_tick() && !guest.needs_tick());

    host.open().expect("up");
    settle(&mut host, &mut guest);

    assert!(host.needs_tick() && guest.needs_tick());
    assert!(Mux::new(Role::Host, 1).needs_tick());
}

#[test]
fn the_loss_of_a_last_frame_is_noticed_by_the_clock() {
    let (mut host, mut guest) = connected();
    let id = host.open().expect("up");
    settle(&mut host, &mut guest);
    events(&mut guest);
    host.send(id, b"lost");
    host.sent(host.pending().len());

    host.tick();
    settle(&mut host, &mut guest);

    assert_eq!(events(&mut guest), [Event::Down, Event::Up]);
}

/// The beginning of a frame of 4096 bytes that never comes.
const NOISE: [u8; 10] = [MAGIC[0], MAGIC[1], 3, 0, 0, 0, 0, 0, 0x00, 0x10];

#[test]
fn noise_that_looks_like_a_long_frame_delays_a_new_stream_by_seconds_only() {
    for deaf in [Role::Host, Role::Guest] {
        let (mut host, mut guest) = connected();
        if deaf == Role::Host {
            host.receive(&NOISE)
        } else {
            guest.receive(&NOISE)
        }
        let id = host.open().expect("up");

        let mut arrived = Vec::new();
        for _ in 0..4 {
            settle(&mut host, &mut guest);
            arrived.extend(events(&mut guest));
            if arrived.contains(&Event::Opened(id)) {
                guest.accept(id);
            }
            settle(&mut host, &mut guest);
            host.tick();
            guest.tick();
        }
        settle(&mut host, &mut guest);

        assert!(arrived.contains(&Event::Opened(id)), "{deaf:?}: {arrived:?}");
        assert!(events(&mut host).contains(&Event::Accepted(id)), "{deaf:?}");
    }
}

#[test]
fn noise_before_the_link_is_up_delays_it_by_seconds_only() {
    for deaf in [Role::Host, Role::Guest] {
        let (mut host, mut guest) = (Mux::new(Role::Host, 7), Mux::new(Role::Guest, 9));
        if deaf == Role::Host {
            host.receive(&NOISE)
        } else {
            guest.receive(&NOISE)
        }

        for _ in 0..4 {
            settle(&mut host, &mut guest);
            host.tick();
            guest.tick();
        }
        settle(&mut host, &mut guest);

        assert!(host.is_up() && guest.is_up(), "{deaf:?}");
    }
}

#[test]
fn a_peer_that_asks_for_padding_again_and_again_fills_no_memory() {
    let (mut host, _) = connected();
    for seq in 0..=255 {
        let mut bytes = Vec::new();
        encode(FrameKind::Pad, seq, 0, &[], &mut bytes);
        host.receive(&bytes);
    }

    assert!(host.pending().len() < 3 * MAX_DATA);
}

#[test]
fn an_old_hello_that_arrives_late_resets_nothing() {
    let (mut host, mut guest) = connected();
    let id = guest.open().expect("up");
    let mut old = Vec::new();
    encode(FrameKind::Hello, 0, 0, &Hello { epoch: 7, ack: 9, up: true }.to_bytes(), &mut old);

    // The line's sequence stays whole: the old Hello is number 0, the next frame says its own.
    guest.receive(&old);
    settle(&mut host, &mut guest);

    assert!(guest.is_up());
    assert_eq!(events(&mut host), [Event::Opened(id)]);
}

#[test]
fn whichever_hellos_are_lost_both_sides_agree_in_the_end() {
    // Each bit says whether one frame of the handshake is lost.
    for lost in 0..256_u32 {
        let (mut host, mut guest) = (Mux::new(Role::Host, 7), Mux::new(Role::Guest, 9));
        let mut sent = 0;
        for _ in 0..40 {
            carry(&mut host, &mut guest, lost, &mut sent);
            carry(&mut guest, &mut host, lost, &mut sent);
            host.open();
            host.tick();
            guest.tick();
        }
        settle(&mut host, &mut guest);

        assert!(host.is_up() && guest.is_up(), "losing {lost:#b}");
        events(&mut guest);
        let id = host.open().expect("up");
        settle(&mut host, &mut guest);
        assert_eq!(events(&mut guest), [Event::Opened(id)], "losing {lost:#b}");
    }
}

/// Carries what `from` has to say as one piece, or loses it if the next bit of `lost` says so.
fn carry(from: &mut Mux, to: &mut Mux, lost: u32, sent: &mut u32) {
    let bytes = from.pending().to_vec();
    from.sent(bytes.len());
    if bytes.is_empty() {
        return;
    }
    if *sent >= 8 || lost >> *sent & 1 == 0 {
        to.receive(&bytes);
    }
    *sent += 1;
}

#[test]
fn a_peer_that_starts_anew_resets_all_streams() {
    let (mut host, mut guest) = connected();
    host.open().expect("up");
    settle(&mut host, &mut guest);
    events(&mut guest);

    let mut reborn = Mux::new(Role::Host, 8);
    settle(&mut reborn, &mut guest);

    assert_eq!(events(&mut guest), [Event::Down, Event::Up]);
    assert_eq!(events(&mut reborn), [Event::Up]);
}

#[test]
fn no_more_than_the_window_is_sent_and_consuming_opens_it() {
    let (mut host, mut guest) = connected();
    let id = host.open().expect("up");
    let data = vec![1; MAX_DATA];
    let mut sent = 0;
    while let count @ 1.. = host.send(id, &data) {
        sent += count;
    }
    settle(&mut host, &mut guest);

    assert_eq!(sent, INITIAL_WINDOW as usize);
    guest.consumed(id, sent);
    settle(&mut host, &mut guest);
    assert_eq!(host.credit(id), INITIAL_WINDOW as usize);
}

#[test]
fn a_peer_that_ignores_the_window_has_its_stream_reset() {
    let (mut host, mut guest) = connected();
    let mut flood = Vec::new();
    let mut seq = next_seq(&mut host);
    encode(FrameKind::Open, seq, 1, &[], &mut flood);
    for _ in 0..17 {
        seq += 1;
        encode(FrameKind::Data, seq, 1, &[0; MAX_DATA], &mut flood);
    }
    guest.receive(&flood);

    let events = events(&mut guest);
    assert_eq!(events.first(), Some(&Event::Opened(1)));
    assert_eq!(events.last(), Some(&Event::Reset(1)));
    assert_eq!(events.len(), 18);
}

#[test]
fn a_peer_that_opens_without_end_is_refused() {
    let (mut host, mut guest) = connected();
    for _ in 1..MAX_STREAMS {
        host.open().expect("there is room");
    }
    assert_eq!(host.open(), None);
    settle(&mut host, &mut guest);
    let mut one_more = Vec::new();
    encode(FrameKind::Open, next_seq(&mut host), 9999, &[], &mut one_more);
    events(&mut guest);

    guest.receive(&one_more);

    assert_eq!(events(&mut guest), []);
    assert!(!guest.pending().is_empty(), "a Reset was due");
}

/// The sequence number that the peer expects next from `mux`, seen on a frame that is then lost.
fn next_seq(mux: &mut Mux) -> u8 {
    mux.finish(CONTROL);
    let seq = mux.pending()[3];
    mux.sent(mux.pending().len());
    seq
}

#[test]
fn garbage_between_frames_is_skipped() {
    let (mut host, mut guest) = connected();
    let id = host.open().expect("up");
    let open = host.pending().to_vec();
    host.sent(open.len());
    host.send(id, b"data");
    let data = host.pending().to_vec();

    guest.receive(&open);
    guest.receive(b"\xb5\x5a\xb5[  1.0] kernel message\xb5");
    guest.receive(&data);

    assert_eq!(events(&mut guest), [Event::Opened(id), Event::Data(id, b"data".to_vec())]);
}

#[test]
fn a_lost_frame_brings_the_link_down_and_up_again() {
    let (mut host, mut guest) = connected();
    let id = host.open().expect("up");
    settle(&mut host, &mut guest);
    guest.accept(id);
    settle(&mut host, &mut guest);
    events(&mut host);
    events(&mut guest);

    host.send(id, b"lost");
    host.sent(host.pending().len());
    host.send(id, b"after");
    settle(&mut host, &mut guest);

    assert_eq!(events(&mut guest), [Event::Down, Event::Up]);
    assert_eq!(events(&mut host), [Event::Down, Event::Up]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_hoard(bytes: Vec<u8>, at in 0_usize..64) {
        let (mut host, mut guest) = connected();
        host.open();
        let mut line = host.pending().to_vec();
        let at = at.min(line.len());
        line.splice(at..at, bytes);
        guest.receive(&line);
        guest.receive(&line);
        prop_assert!(events(&mut guest).len() <= 4);
    }

    #[test]
    fn what_arrives_is_a_prefix_of_what_was_sent_whatever_the_line_does(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..20),
        damage in proptest::collection::vec((0_usize..8000, any::<u8>()), 0..4),
        drops in proptest::collection::vec(0_usize..8000, 0..4),
    ) {
        let (mut host, mut guest) = connected();
        let id = host.open().expect("up");
        let mut sent = Vec::new();
        for piece in &pieces {
            host.send(id, piece);
            sent.extend_from_slice(piece);
        }
        let mut line = host.pending().to_vec();
        for (at, value) in damage {
            if let Some(byte) = line.get_mut(at) {
                *byte ^= value;
            }
        }
        for at in drops {
            if at < line.len() {
                line.remove(at);
            }
        }

        guest.receive(&line);

        let mut got = Vec::new();
        for event in events(&mut guest) {
            if let Event::Data(_, data) = event {
                got.extend(data);
            }
        }
        prop_assert!(sent.starts_with(&got));
    }
}

struct Wired {
    host: Link,
    guest: Link,
    to_host: mpsc::Receiver<Arrival>,
    to_guest: mpsc::Receiver<Arrival>,
}

fn wired() -> Wired {
    let (a, b) = UnixStream::pair().expect("a socket pair");
    let (to_host, host_arrivals) = mpsc::channel();
    let (to_guest, guest_arrivals) = mpsc::channel();
    let start = |line: UnixStream, role, epoch, to: mpsc::Sender<Arrival>| {
        Link::start(OwnedFd::from(line), role, Hangup::Ends, epoch, move |arrival| {
            to.send(arrival).ok();
        })
        .expect("a link")
    };
    Wired {
        host: start(a, Role::Host, 1, to_host),
        guest: start(b, Role::Guest, 2, to_guest),
        to_host: host_arrivals,
        to_guest: guest_arrivals,
    }
}

fn arrival(from: &mpsc::Receiver<Arrival>) -> Arrival {
    from.recv_timeout(Duration::from_secs(60)).expect("an arrival in time")
}

#[test]
fn a_link_carries_streams_both_ways_with_half_close() {
    let wired = wired();
    assert!(matches!(arrival(&wired.to_host), Arrival::Control(_)));
    assert!(matches!(arrival(&wired.to_guest), Arrival::Control(_)));
    let mut ours = wired.host.open(deadline()).expect("taken");
    let Arrival::Stream(mut theirs) = arrival(&wired.to_guest) else { panic!("not a stream") };

    // More than a window each way, at the same time.
    let sent: Vec<u8> = (0..=255_u8).cycle().take(1_000_003).collect();
    let expected = sent.clone();
    let echo = std::thread::spawn(move || {
        let mut buffer = vec![0; 10_000];
        while let count @ 1.. = theirs.read(&mut buffer).expect("reads") {
            theirs.write_all(&buffer[..count]).expect("writes");
        }
    });
    let mut writer = ours.try_clone().expect("clones");
    let write = std::thread::spawn(move || {
        writer.write_all(&sent).expect("writes");
        writer.shutdown(std::net::Shutdown::Write).expect("shuts");
    });
    let mut got = Vec::new();
    ours.read_to_end(&mut got).expect("reads");

    assert!(got == expected);
    write.join().expect("no panic");
    echo.join().expect("no panic");
}

#[test]
fn a_user_that_goes_away_ends_the_stream_for_the_other_side() {
    let wired = wired();
    let ours = wired.guest.open(deadline()).expect("taken");
    assert!(matches!(arrival(&wired.to_host), Arrival::Control(_)));
    let Arrival::Stream(mut theirs) = arrival(&wired.to_host) else { panic!("not a stream") };

    drop(ours);

    assert_eq!(theirs.read(&mut [0; 10]).expect("an end, no error"), 0);
    // What is still written goes nowhere; a reset comes back sooner or later.
    let until = deadline();
    while theirs.write_all(&[0; 1000]).is_ok() {
        assert!(Instant::now() < until, "no reset came back");
    }
}

#[test]
fn a_line_that_closes_refuses_new_streams() {
    let wired = wired();
    let Wired { host, guest, .. } = wired;
    guest.open(deadline()).expect("taken");
    let (a, b) = UnixStream::pair().expect("a socket pair");
    let lonely = Link::start(OwnedFd::from(a), Role::Host, Hangup::Ends, 3, |_| {});
    drop(b);

    let error = lonely.expect("a link").open(deadline()).expect_err("nobody there");

    assert!(matches!(error, OpenError::Closed), "{error:?}");
    drop(host);
}

#[test]
fn an_open_that_nobody_answers_ends_at_its_deadline() {
    let (a, _b) = UnixStream::pair().expect("a socket pair");
    let link = Link::start(OwnedFd::from(a), Role::Host, Hangup::Ends, 3, |_| {}).expect("a link");

    let error = link.open(Instant::now() + Duration::from_millis(50)).expect_err("nobody there");

    assert!(matches!(error, OpenError::NoAnswer), "{error:?}");
}

//! A channel that is cut in the middle of a command: by whom, nobody can tell the client.
//!
//! The VM, its agent and the program are the real ones. Between them stands a proxy, which hands out the channels in the
//! monitor's stead and cuts each after so many bytes.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bandsox_e2e::{FakeMonitor, Storage, Vm, connect, eventually};

/// Once a channel has carried so many bytes, it is cut.
#[derive(Clone, Copy)]
struct Cut {
    /// From the client to the agent.
    up: usize,
    /// From the agent to the client.
    down: usize,
}

/// The first channels are cut as this says; those after them live. Returns how many were handed out.
fn cut_channels(vm: &Vm<'_>, cuts: Vec<Cut>) -> Arc<AtomicUsize> {
    let handed_out = Arc::new(AtomicUsize::new(0));
    let (sockets, count): (PathBuf, _) = (vm.sockets(), Arc::clone(&handed_out));
    FakeMonitor::take_over(vm, move |client| {
        let cut = cuts.get(count.fetch_add(1, Ordering::SeqCst)).copied();
        let agent = connect(&sockets, 9000).expect("the agent listens");
        let cut = cut.unwrap_or(Cut { up: usize::MAX, down: usize::MAX });
        thread::scope(|scope| {
            scope.spawn(|| pump(&client, &agent, cut.up));
            scope.spawn(|| pump(&agent, &client, cut.down));
        });
    });
    handed_out
}

/// Carries bytes until the source has no more; the last that `limit` allows is the last of the channel.
fn pump(mut from: &UnixStream, mut to: &UnixStream, limit: usize) {
    let mut buffer = [0; 4096];
    let mut left = limit;
    while left > 0 {
        let space = left.min(buffer.len());
        // A side that is gone ends the other as well.
        let count = from.read(&mut buffer[..space]).unwrap_or(0);
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            to.shutdown(Shutdown::Write).ok();
            return;
        }
        left -= count;
    }
    for side in [from, to] {
        side.shutdown(Shutdown::Both).ok();
    }
}

#[test]
fn a_command_whose_channel_is_cut_runs_once_and_none_of_its_output_is_missed() {
    let storage = Storage::new();
    let vm = storage.started("cut-output");
    let cut = |down| Cut { up: usize::MAX, down };
    // Before the agent said anything, within its first words, and then in the middle of the output.
    let cuts = vec![cut(0), cut(20), cut(300_000), cut(200_001), cut(100_003), cut(400_000)];
    let (count, cuts) = (cuts.len(), cut_channels(&vm, cuts));
    let mut numbers = String::new();
    (1..=200_000).for_each(|n| writeln!(numbers, "{n}").expect("to memory"));

    let script =
        "echo ran >> /tmp/runs; seq 1 100000; seq 1 200000 >&2 & seq 100001 200000; wait; exit 7";
    let outcome = vm.exec(&["sh", "-c", script]).output().code(7);

    assert!(cuts.load(Ordering::SeqCst) > count, "no channel survived: {cuts:?}");
    assert!(outcome.stdout == numbers.as_bytes(), "{} bytes of stdout", outcome.stdout.len());
    assert!(outcome.stderr == numbers.as_bytes(), "{} bytes of stderr", outcome.stderr.len());
    assert_eq!(vm.sh("cat /tmp/runs"), "ran");
}

#[test]
fn standard_input_goes_on_where_the_channel_was_cut() {
    let storage = Storage::new();
    let vm = storage.started("cut-input");
    let cuts = vec![
        Cut { up: 300_000, down: usize::MAX },
        Cut { up: 70_001, down: usize::MAX },
        Cut { up: usize::MAX, down: 150_000 },
    ];
    let count = cuts.len();
    let cuts = cut_channels(&vm, cuts);
    let input: Vec<u8> =
        (0..500_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();

    let outcome = vm.run("exec", &["-i", "--", "cat"]).stdin(input.clone()).output().ok();

    assert!(cuts.load(Ordering::SeqCst) > count, "no channel survived: {cuts:?}");
    assert!(outcome.stdout == input, "{} of {} bytes came back", outcome.stdout.len(), input.len());
}

#[test]
fn a_command_that_ended_while_nobody_listened_still_tells_its_exit_code() {
    let storage = Storage::new();
    let vm = storage.started("cut-silence");
    // The first channel carries the command, and nothing back: the second finds it over.
    let cuts = cut_channels(&vm, vec![Cut { up: usize::MAX, down: 0 }; 3]);

    vm.exec(&["sh", "-c", "echo ran >> /tmp/runs; exit 3"]).output().code(3);

    assert!(cuts.load(Ordering::SeqCst) > 3);
    eventually("it ran once", || (vm.sh("cat /tmp/runs") == "ran").then_some(()));
}

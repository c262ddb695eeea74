//! Commands in the guest: streams, codes, signals, terminals, sessions.

use std::fmt::Write as _;

use bandsox_e2e::{Run, Storage, Vm, eventually};
use rustix::process::Signal;

#[test]
fn a_command_runs_as_it_was_asked_to() {
    let storage = Storage::new();
    let vm = storage.create_with("exec", &["-e", "A=vm", "-e", "B=vm"]);
    vm.start();

    // Streams apart, code passed on.
    let outcome = vm.exec(&["sh", "-c", "echo out; echo err >&2; exit 3"]).output().code(3);
    assert_eq!((outcome.stdout, outcome.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
    // Arguments are not words of a shell's.
    let odd = ["printf", "%s|", "a b", "", "*", "$HOME", "new\nline", "--", "-x"];
    assert_eq!(vm.exec(&odd).ok(), "a b||*|$HOME|new\nline|--|-x|");
    // Environment: the VM's, then the command's.
    let shown = vm.run("exec", &["-e", "B=exec", "--", "sh", "-c", "echo $A $B $HOME"]).ok();
    assert_eq!(shown, "vm exec /root");
    // Directory and user.
    assert_eq!(vm.run("exec", &["-w", "/usr/bin", "--", "pwd"]).ok(), "/usr/bin");
    let alice = vm.run("exec", &["-u", "alice", "--", "sh", "-c", "id; echo $HOME"]).ok();
    assert!(
        alice.starts_with("uid=1000(alice) gid=1000(alice) ") && alice.ends_with("/home/alice"),
        "{alice}"
    );
    assert!(alice.contains("50(staff)"), "{alice}");
    assert_eq!(vm.run("exec", &["-u", "1000:50", "--", "id", "-g"]).ok(), "50");
    vm.run("exec", &["-u", "nobody-such", "--", "true"]).output().refused("nobody-such");
    vm.run("exec", &["-w", "/no/such/dir", "--", "true"]).output().refused("/no/such/dir");
}

#[test]
fn exit_codes_are_those_that_scripts_expect() {
    let storage = Storage::new();
    let vm = storage.create("codes");
    vm.run("exec", &["--", "true"]).output().code(125);
    storage.bandsox(&["exec", "nobody", "--", "true"]).output().code(125).refused("nobody");
    vm.start();

    vm.exec(&["true"]).output().code(0);
    vm.exec(&["sh", "-c", "exit 255"]).output().code(255);
    vm.exec(&["/etc/passwd"]).output().code(126);
    vm.exec(&["no-such-command"]).output().code(127);
    vm.exec(&["sh", "-c", "kill -9 $$"]).output().code(128 + 9);
    vm.exec(&["sh", "-c", "kill -TERM $$"]).output().code(128 + 15);
    vm.run("exec", &["--timeout", "1", "--", "sleep", "1000"]).output().code(124);
    eventually("the command that timed out is gone", || (!runs(&vm, "sleep 1000")).then_some(()));
}

#[test]
fn standard_input_arrives_whole_and_ends() {
    let storage = Storage::new();
    let vm = storage.started("stdin");
    let input: Vec<u8> = (0..3_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(3_000_001)
        .collect();

    let outcome = vm.run("exec", &["-i", "--", "cat"]).stdin(input.clone()).output().ok();
    assert!(outcome.stdout == input, "{} of {} bytes came back", outcome.stdout.len(), input.len());

    // A command that reads only a part does not stall the rest.
    assert_eq!(
        vm.run("exec", &["-i", "--", "head", "-c", "3"]).stdin(vec![b'x'; 1 << 20]).ok(),
        "xxx"
    );
    // Without -i there is nothing to read.
    assert_eq!(vm.exec(&["cat"]).stdin("unread").ok(), "");
}

#[test]
fn much_output_on_both_streams_loses_nothing() {
    let storage = Storage::new();
    let vm = storage.started("output");
    let mut numbers = String::new();
    (1..=200_000).for_each(|n| writeln!(numbers, "{n}").expect("to memory"));

    let script = "seq 1 200000 & seq 1 200000 >&2; wait";
    let outcome = vm.exec(&["sh", "-c", script]).output().ok();

    assert!(outcome.stdout == numbers.as_bytes(), "{} bytes of stdout", outcome.stdout.len());
    assert!(outcome.stderr == numbers.as_bytes(), "{} bytes of stderr", outcome.stderr.len());
    // A reader that has enough ends the command line, not the VM.
    let head = Run::new("sh").arg("-c").arg("\"$@\" | head -n 1").arg("sh");
    let head = head.arg(storage.program()).arg("--storage").arg(storage.root());
    assert_eq!(head.args(["exec", &vm.id, "--", "yes"]).ok(), "y");
    assert_eq!(vm.sh("echo alive"), "alive");
}

#[test]
fn two_hundred_times_echo_hi_gives_two_hundred_times_hi() {
    let storage = Storage::new();
    let vm = storage.started("hi");

    let heard: Vec<_> = (0..200).map(|_| vm.exec(&["echo", "hi"]).ok()).collect();

    assert_eq!(heard, vec!["hi"; 200]);
}

#[test]
fn commands_at_once_do_not_mix() {
    let storage = Storage::new();
    let vm = storage.started("parallel");

    let running: Vec<_> = (0..8)
        .map(|n| vm.exec(&["sh", "-c", &format!("for i in $(seq 500); do echo {n}; done")]).spawn())
        .collect();

    for (n, started) in running.into_iter().enumerate() {
        assert_eq!(started.wait().ok().text(), vec![n.to_string(); 500].join("\n"));
    }
}

#[test]
fn a_background_child_that_holds_stdout_does_not_hang_the_command() {
    let storage = Storage::new();
    let vm = storage.started("background");

    assert_eq!(vm.sh("sleep 100000 & echo done"), "done");

    assert!(runs(&vm, "sleep 100000"), "the child goes on");
}

#[test]
fn signals_reach_the_command() {
    let storage = Storage::new();
    let vm = storage.started("signals");

    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP")] {
        let script = format!(
            "trap 'echo caught {name}; exit 9' {name}; touch /tmp/{name}; while :; do sleep 0.1; done"
        );
        let started = vm.exec(&["sh", "-c", &script]).spawn();
        eventually("the trap is set", || {
            vm.exec(&["test", "-e", &format!("/tmp/{name}")])
                .output()
                .status
                .success()
                .then_some(())
        });
        started.signal(signal);
        assert_eq!(started.wait().code(9).text(), format!("caught {name}"));
    }
}

#[test]
fn a_terminal_is_a_terminal_and_follows_its_size() {
    let storage = Storage::new();
    let vm = storage.started("tty");
    let exec = |script: &str| {
        storage.in_terminal((33, 77), &["exec", "-it", &vm.id, "--", "sh", "-c", script])
    };

    let (status, screen) = exec("tty; stty size; echo $TERM; exit 5").end();
    assert_eq!(status.code(), Some(5));
    assert!(screen.starts_with("/dev/pts/"), "{screen}");
    assert!(screen.ends_with("\n33 77\nxterm\n"), "{screen}");

    let resized = exec(
        "echo ready; while [ \"$(stty size)\" != \"44 88\" ]; do sleep 0.1; done; echo resized",
    );
    resized.shows("ready");
    resized.resize(44, 88);
    assert!(resized.end().1.contains("resized"));

    // Ctrl-C is a key there, not the end of the command line here.
    let mut interrupted =
        exec("trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.1; done");
    interrupted.shows("ready");
    interrupted.types("\u{3}");
    let (status, screen) = interrupted.end();
    assert_eq!((status.code(), screen.contains("caught")), (Some(3), true), "{screen}");
}

#[test]
fn terminal_opens_a_shell_that_one_can_type_to() {
    let storage = Storage::new();
    let vm = storage.started("shell");
    let mut terminal = storage.in_terminal((24, 80), &["terminal", &vm.id]);

    terminal.types("echo $((6 * 7)) is-the-answer\n");
    terminal.shows("42 is-the-answer");
    terminal.types("exit 9\n");

    assert_eq!(terminal.end().0.code(), Some(9));
}

#[test]
fn a_session_outlives_its_client_and_is_attached_to_without_a_gap() {
    let storage = Storage::new();
    let vm = storage.started("sessions");
    let session = "0123456789abcdef0123456789abcdef";
    let script = "for i in $(seq 1 30); do echo $i; sleep 0.1; done; echo ran >> /tmp/runs; exit 6";
    let expected: Vec<_> = (1..=30).map(|n| n.to_string()).collect();

    let client = vm.run("exec", &["--session", session, "--", "sh", "-c", script]).spawn();
    eventually("the command runs", || runs(&vm, "seq 1 30").then_some(()));
    client.signal(Signal::KILL);
    drop(client.wait());
    let outcome = vm.run("exec", &["--attach", session]).output().code(6);
    assert_eq!(outcome.text(), expected.join("\n"));

    // The same id again is never a second run.
    drop(vm.run("exec", &["--session", session, "--", "sh", "-c", script]).output());
    assert_eq!(vm.sh("cat /tmp/runs"), "ran");

    let detached = vm.run("exec", &["--detach", "--", "sh", "-c", "echo later; exit 4"]).ok();
    let outcome = vm.run("exec", &["--attach", &detached]).output().code(4);
    assert_eq!(outcome.text(), "later");
}

#[test]
fn the_guest_is_set_up_as_programs_expect() {
    let storage = Storage::new();
    let vm = storage.started("set-up");

    assert_eq!(vm.sh("cat /proc/1/comm"), "init");
    for mount in ["/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run", "/tmp"] {
        vm.sh(&format!("test -d {mount}"));
    }
    assert_eq!(vm.sh("stat -c %a /tmp /dev/shm"), "1777\n1777");
    assert!(vm.sh("ip addr show lo").contains("127.0.0.1"));
    vm.sh("test -c /dev/null && test -c /dev/urandom && test -e /dev/ptmx && test -L /dev/fd");
    assert_eq!(vm.sh("hostname"), "set-up");
    // Orphans are reaped: a zombie would show as Z.
    vm.sh("(sh -c 'sleep 0.1 &') ; sleep 1");
    assert_eq!(vm.sh("ps -o stat | grep -c Z || true"), "0");
}

fn runs(vm: &Vm<'_>, command: &str) -> bool {
    vm.sh("ps -o args").lines().any(|line| line.contains(command))
}

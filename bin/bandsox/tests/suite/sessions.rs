//! `exec`: streams, codes, signals, lost connections, sessions that outlive their client.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::bed::{Bed, eventually, outcome};

fn exec(bed: &Bed, options: &[&str], script: &str) -> Command {
    let mut command = bed.bandsox(&["exec", "web"]);
    command.args(options).args(["--", "sh", "-c", script]);
    command
}

#[test]
fn streams_code_and_environment_are_the_commands_own() {
    let bed = Bed::new();
    let script = "echo $FROM_VM $HERE; echo err >&2; exit 42";

    let (code, out, err) = outcome(&mut exec(&bed, &["-e", "HERE=too"], script));

    assert_eq!((code, out.as_str(), err.as_str()), (Some(42), "yes too\n", "err\n"));
}

#[test]
fn codes_are_those_of_shells() {
    let bed = Bed::new();
    let direct = |words: &[&str]| outcome(bed.bandsox(&["exec", "web", "--"]).args(words)).0;

    assert_eq!(outcome(&mut exec(&bed, &[], "kill -9 $$")).0, Some(128 + 9));
    assert_eq!(outcome(&mut exec(&bed, &["--timeout", "0.2"], "sleep 100")).0, Some(124));
    assert_eq!(direct(&["no-such-command"]), Some(127));
    assert_eq!(direct(&["/etc/passwd"]), Some(126));
}

#[test]
fn input_reaches_the_command_only_when_asked() {
    let bed = Bed::new();
    let feed = |options: &[&str]| {
        let mut child = exec(&bed, options, "cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        child.stdin.take().expect("a pipe").write_all(b"fed").ok();
        let output = child.wait_with_output().expect("ends");
        (output.status.code(), output.stdout)
    };

    assert_eq!(feed(&["-i"]), (Some(0), b"fed".to_vec()));
    assert_eq!(feed(&[]), (Some(0), Vec::new()));
}

#[test]
fn signals_are_passed_on() {
    let bed = Bed::new();
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let script = format!(
            "trap 'echo got {name}; exit 9' {name}; echo set; while :; do sleep 0.05; done"
        );
        let mut child = exec(&bed, &[], &script).stdout(Stdio::piped()).spawn().expect("runs");
        let mut out = child.stdout.take().expect("a pipe");
        out.read_exact(&mut [0; 4]).expect("the trap is set");

        kill_process(Pid::from_child(&child), signal).expect("it runs");

        let mut rest = String::new();
        out.read_to_string(&mut rest).expect("text");
        assert_eq!((child.wait().expect("ends").code(), rest), (Some(9), format!("got {name}\n")));
    }
}

#[test]
fn a_signal_that_this_process_was_told_to_ignore_is_not_passed_on() {
    let bed = Bed::new();
    let line = spelled(&bed, "exec web -- sh -c 'echo up; sleep 0.5; echo done'");
    let mut child = Command::new("sh")
        .args(["-c", &format!("trap '' HUP; exec {line}")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut out = child.stdout.take().expect("a pipe");
    out.read_exact(&mut [0; 3]).expect("it is up");

    kill_process(Pid::from_child(&child), Signal::HUP).expect("it runs");

    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    assert_eq!((child.wait().expect("ends").code(), rest.as_str()), (Some(0), "done\n"));
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let bed = Bed::new();
    let mut child = bed
        .bandsox(&["exec", "web", "--", "yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdout.take().expect("a pipe").read_exact(&mut [0; 2]).expect("some output");

    let output = child.wait_with_output().expect("ends");

    assert_eq!(output.status.code(), Some(128 + 13));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_cut_connection_is_made_again_and_nothing_is_missed() {
    let bed = Bed::new();
    let runs = bed.path("runs");
    let script = format!(
        "echo ran >> '{}'; for i in $(seq 1 40); do echo $i; sleep 0.05; done; exit 6",
        runs.display()
    );
    let mut child = exec(&bed, &[], &script).stdout(Stdio::piped()).spawn().expect("runs");
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(400));
        bed.cut();
    }

    let mut out = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");

    assert_eq!(child.wait().expect("ends").code(), Some(6));
    let expected: Vec<_> = (1..=40).map(|n| n.to_string()).collect();
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    assert_eq!(fs::read_to_string(runs).expect("there"), "ran\n");
}

#[test]
fn a_session_outlives_its_client() {
    let bed = Bed::new();
    let session = "00112233445566778899aabbccddeeff";
    let script = "for i in $(seq 1 20); do echo $i; sleep 0.05; done; exit 6";
    let mut child =
        exec(&bed, &["--session", session], script).stdout(Stdio::piped()).spawn().expect("runs");
    child.stdout.as_mut().expect("a pipe").read_exact(&mut [0; 2]).expect("some output");
    child.kill().and_then(|()| child.wait()).expect("killed");

    let (code, out, err) = outcome(&mut bed.bandsox(&["exec", "web", "--attach", session]));

    let expected: Vec<_> = (1..=20).map(|n| n.to_string()).collect();
    assert_eq!(code, Some(6), "{err}");
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_detached_session_is_left_running_and_found_again() {
    let bed = Bed::new();
    let marker = bed.path("marker");
    let script = format!("sleep 0.3; touch '{}'; echo later; exit 4", marker.display());

    let (code, session, _) = outcome(&mut exec(&bed, &["--detach"], &script));
    assert_eq!((code, session.trim().len()), (Some(0), 32));
    assert!(!marker.exists(), "it was waited for");
    eventually("it runs on", || marker.exists().then_some(()));
    let (code, out, _) = outcome(&mut bed.bandsox(&["exec", "web", "--attach", session.trim()]));

    assert_eq!((code, out.as_str()), (Some(4), "later\n"));
    let unknown = "f".repeat(32);
    let (code, _, err) = outcome(&mut bed.bandsox(&["exec", "web", "--attach", &unknown]));
    assert_eq!(code, Some(125), "{err}");
}

/// Runs a line in a terminal of its own that is 33 by 77; what it showed.
fn in_terminal(line: &str) -> String {
    let mut script = Command::new("script");
    script.args(["-qec", &format!("stty rows 33 cols 77; {line}"), "/dev/null"]);
    // Held open: at its end, script would type an end-of-file.
    let mut child = script
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let _input = child.stdin.take();
    let mut shown = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut shown).expect("text");
    child.wait().expect("ends");
    shown.replace('\r', "")
}

fn spelled(bed: &Bed, args: &str) -> String {
    let program = env!("CARGO_BIN_EXE_bandsox");
    format!("'{program}' --storage '{}' {args}", bed.path("storage").display())
}

#[test]
fn a_terminal_has_the_users_size_and_follows_it() {
    let bed = Bed::new();

    let shown = in_terminal(&spelled(&bed, "exec -it web -- sh -c 'tty; stty size; echo $TERM'"));
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].starts_with("/dev/pts/"), "{shown:?}");
    assert_eq!(lines[1..], ["33 77", "xterm"], "{shown:?}");

    let wait = "while [ \"$(stty size)\" != \"44 88\" ]; do sleep 0.05; done; echo resized";
    let exec = spelled(&bed, &format!("exec -it web -- sh -c '{wait}'"));
    let shown = in_terminal(&format!("(sleep 0.5; stty rows 44 cols 88 < /dev/tty) & {exec}"));
    assert!(shown.contains("resized"), "{shown:?}");
}

#[test]
fn the_terminal_is_as_before_however_the_program_ends() {
    let bed = Bed::new();
    for (how, options, script) in [
        ("by itself", "-it", "exit 0"),
        ("killed", "-it", "kill -9 $$"),
        ("refused", "-it -w /no/such/dir", "true"),
    ] {
        let exec = spelled(&bed, &format!("exec {options} web -- sh -c '{script}'"));
        let shown = in_terminal(&format!(
            "stty -a | tr ';' '\\n' > {0}/before; {exec}; stty -a | tr ';' '\\n' > {0}/after",
            bed.path("").display()
        ));

        let [before, after] =
            ["before", "after"].map(|name| fs::read_to_string(bed.path(name)).expect("stty ran"));
        assert_eq!(before, after, "{how}: {shown}");
        assert!(after.contains(" icanon") && after.contains(" echo"), "{how}: {after}");
    }
}

#[test]
fn a_terminated_client_restores_the_terminal_too() {
    let bed = Bed::new();
    let pid = bed.path("pid");
    let exec = spelled(&bed, "exec -it web -- sh -c 'trap \"\" TERM; sleep 0.2; exit 3'");
    // The shell's own process id becomes the program's.
    let line = format!(
        "sh -c 'echo $$ > {}; exec \"$@\"' sh {exec}; echo code=$?; stty -a",
        pid.display()
    );
    let ending = {
        let pid = pid.clone();
        thread::spawn(move || {
            let read = || fs::read_to_string(&pid).ok()?.trim().parse::<i32>().ok();
            let found = eventually("it runs", read);
            thread::sleep(Duration::from_millis(50));
            kill_process(Pid::from_raw(found).expect("a process"), Signal::TERM).ok();
        })
    };

    let shown = in_terminal(&line);

    ending.join().expect("no panic");
    assert!(shown.contains("code=3") || shown.contains("code=143"), "{shown}");
    assert!(shown.contains(" icanon"), "{shown}");
}

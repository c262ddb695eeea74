//! The jail, put to the test from the engine's place.

use bandsox_jail::{Helper, Jail, Outcome, Piece, Proof, prove};

fn helper(argument: &str) -> Helper {
    Helper { program: env!("CARGO_BIN_EXE_jail_helper").into(), args: vec![argument.into()] }
}

fn jail() -> Jail {
    // A CID that no machine has, and one per test process: each is a user with its own tasks.
    let cid = 0x8000 | (std::process::id() & 0x7fff);
    Jail::new(&format!("test-{cid}"), cid).with_helper(helper("__jail"))
}

fn proof(jail: &Jail) -> Proof {
    prove(jail, &helper("__probe")).expect("the jail can be made")
}

#[test]
fn nothing_that_must_fail_succeeds() {
    let proof = proof(&jail());

    for attempt in &proof.attempts {
        println!("{}: {:?}", attempt.name, attempt.outcome);
    }
    println!("{:?}", proof.seal);
    assert!(proof.holds(), "{:#?}", proof.holes().collect::<Vec<_>>());
    assert!(proof.attempts.len() > 20);
}

/// Whether a jail without `piece` is found out: by a hole, or by not coming into being at all.
fn assert_found(piece: Piece, hole: &str) {
    let Ok(proof) = prove(&jail().without(piece), &helper("__probe")) else { return };
    let holes: Vec<&str> = proof.holes().map(|attempt| attempt.name.as_str()).collect();

    assert!(holes.contains(&hole), "{piece:?} is missing, found only {holes:?}");
}

#[test]
fn a_missing_root_is_found() {
    assert_found(Piece::Files, "read a host's file");
}

#[test]
fn a_missing_seal_is_found() {
    assert_found(Piece::Seal, "see any file");
}

#[test]
fn a_missing_network_namespace_is_found() {
    assert_found(Piece::Network, "connect to a socket outside");
}

#[test]
fn a_missing_pid_namespace_is_found() {
    assert_found(Piece::Processes, "see a process outside");
}

#[test]
fn privileges_that_were_kept_are_found() {
    // The filter needs no_new_privs and sets it; and an ordinary user has no capabilities to keep.
    let jail = jail().without(Piece::Privileges).without(Piece::SystemCalls);

    let proof = proof(&jail);

    let mut holes = proof.holes().map(|attempt| attempt.name.as_str());
    assert!(holes.any(|name| name == "gain privileges by executing"), "{:?}", proof.attempts);
}

#[test]
fn missing_limits_are_found() {
    assert_found(Piece::Limits, "dump core");
}

#[test]
fn a_missing_system_call_filter_is_found() {
    assert_found(Piece::SystemCalls, "reach io_uring");
}

#[test]
fn an_attempt_says_how_it_failed() {
    let proof = proof(&jail());

    let read = proof.attempts.iter().find(|attempt| attempt.name == "read a host's file");
    let outcome = read.map(|attempt| &attempt.outcome);
    assert!(
        matches!(outcome, Some(Outcome::Denied { how }) if how.contains("No such file")),
        "{outcome:?}"
    );
}

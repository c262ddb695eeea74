//! The help of every command, word for word: a change of it shows in review.

use crate::bed::{bandsox, outcome};

const COMMANDS: [&str; 22] = [
    "init",
    "create",
    "start",
    "stop",
    "restart",
    "pause",
    "resume",
    "rm",
    "rename",
    "list",
    "inspect",
    "logs",
    "exec",
    "terminal",
    "run",
    "upload",
    "download",
    "cp",
    "doctor",
    "cleanup",
    "completion",
    "bench",
];

#[test]
fn the_reference_is_as_it_was_reviewed() {
    let help = |args: &[&str]| {
        let (code, text, complaint) = outcome(bandsox().args(args).arg("--help"));
        assert_eq!((code, complaint.as_str()), (Some(0), ""), "{args:?}");
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    };
    // The global options are the same everywhere and shown once.
    let own = |command: &str| {
        let text = help(&[command]);
        let global = text.find("\nGlobal options:").expect("they are there");
        let after = text[global..].find("\nExamples:").map_or("", |at| &text[global + at..]);
        format!("{}{after}", &text[..global])
    };
    let reference = COMMANDS.map(|command| format!("# bandsox {command}\n\n{}", own(command)));

    insta::assert_snapshot!("reference", format!("{}\n\n{}", help(&[]), reference.join("\n\n")));
}

#[test]
fn what_the_program_starts_itself_as_is_not_shown() {
    let (_, text, _) = outcome(bandsox().arg("--help"));

    assert!(!text.contains("__"), "{text}");
}

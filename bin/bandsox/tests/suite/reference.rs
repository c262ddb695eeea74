//! The help of every command, word for word: a change of it shows in review.

use crate::bed::{bandsox, outcome};

const COMMANDS: [&str; 31] = [
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
    "image",
    "image pull",
    "image ls",
    "image inspect",
    "image rm",
    "image prune",
    "image import",
    "image export",
    "df",
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
        let text = help(&command.split(' ').collect::<Vec<_>>());
        let global = text.find("\nGlobal options:").expect("they are there");
        let after = text[global..].find("\nExamples:").map_or("", |at| &text[global + at..]);
        format!("{}{after}", &text[..global])
    };
    let reference = COMMANDS.map(|command| format!("# bandsox {command}\n\n{}", own(command)));

    insta::assert_snapshot!("reference", format!("{}\n\n{}", help(&[]), reference.join("\n\n")));
}

#[test]
fn every_command_that_the_help_lists_has_its_section() {
    for of in [&[][..], &["image"]] {
        let (_, text, _) = outcome(bandsox().args(of).arg("--help"));
        let listed = text.lines().skip_while(|line| *line != "Commands:").skip(1);
        let listed = listed.take_while(|line| !line.is_empty()).filter_map(|line| {
            line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split(' ').next()
        });
        let listed: Vec<_> = listed.filter(|name| *name != "help").collect();
        assert!(listed.len() > 5, "{listed:?}");
        for name in listed {
            let command = [of, &[name]].concat().join(" ");
            assert!(COMMANDS.contains(&command.as_str()), "{command:?} has no section");
        }
    }
}

#[test]
fn what_the_program_starts_itself_as_is_not_shown() {
    let (_, text, _) = outcome(bandsox().arg("--help"));

    assert!(!text.contains("__"), "{text}");
}

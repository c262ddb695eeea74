//! The agent as an ordinary process, for tests: the same protocols, on a unix socket.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;

use bandsox_proto::chain;

use crate::agent::Agent;
use crate::children::Children;
use crate::console::say;
use crate::server;
use crate::signals::Signals;

const USAGE: &str = "usage: bandsox-agent --listen-unix PATH [--protocols 1]";

/// Serves until it is killed.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let (path, v1_only) = match *words {
        ["--listen-unix", path] => (path, false),
        ["--listen-unix", path, "--protocols", "1"] => (path, true),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    let listener = match UnixListener::bind(path) {
        Ok(listener) => listener,
        Err(error) => {
            say(&format!("cannot listen on {path}: {}", chain(&error)));
            return ExitCode::FAILURE;
        }
    };
    let agent = Arc::new(Agent::new(Children::default(), None, None, v1_only));
    reap_for(&agent);
    for stream in listener.incoming().flatten() {
        server::spawn(&agent, File::from(OwnedFd::from(stream)));
    }
    ExitCode::SUCCESS
}

fn reap_for(agent: &Arc<Agent>) {
    let agent = Arc::clone(agent);
    match Signals::catch(&[libc::SIGCHLD]) {
        Ok(mut signals) => {
            std::thread::spawn(move || {
                while signals.next() != 0 {
                    agent.children.reap();
                }
            });
        }
        Err(error) => say(&format!("cannot catch signals: {}", chain(&error))),
    }
}

//! `bandsox exec`

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use bandsox_client::exec::{Begin, Exec, SessionId};
use bandsox_proto::ByteString;
use bandsox_spec::{EnvVar, VmId};
use bandsox_store::{Metadata, Store};

use crate::failure::Failure;
use crate::output::Ui;
use crate::session::{self, Manner};
use crate::signals::Signals;
use crate::storage::{self, Vm};

/// Run a command in a VM
///
/// Standard output and standard error stay apart, signals are passed on, and the exit code is the
/// command's own. If the connection to the VM is lost, bandsox connects again and nothing of the
/// output is missed; the command runs once, whatever happens.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox exec web -- uname -a
  tar c src | bandsox exec -i web -- tar x -C /srv
  bandsox exec -it web -- sh
  bandsox exec -w /srv -u www-data -e DEBUG=1 web -- ./serve
  bandsox exec --timeout 60 web -- make test
  id=$(bandsox exec --detach web -- make) && bandsox exec --attach $id web")]
pub(crate) struct ExecArgs {
    /// VM, by id, id prefix or name
    #[arg(value_name = "VM")]
    vm: String,

    #[command(flatten)]
    options: ExecOptions,

    /// Environment variable of the command; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE")]
    env: Vec<EnvVar>,

    /// Run detached: print the session's id and return
    #[arg(long, short, conflicts_with_all = ["interactive", "tty", "attach"])]
    detach: bool,

    /// Attach to a session started earlier, and get its output from where it is kept
    #[arg(long, value_name = "SESSION", value_parser = session_id, conflicts_with_all = ["command", "session", "tty"])]
    attach: Option<SessionId>,

    /// Id of the new session, 32 hexadecimal digits; an id that was used is never run again
    #[arg(long, value_name = "SESSION", value_parser = session_id)]
    session: Option<SessionId>,

    /// Command and its arguments
    #[arg(trailing_var_arg = true, value_name = "CMD", required_unless_present = "attach")]
    command: Vec<OsString>,
}

/// How a command is run; `exec` and `run` share it.
#[derive(clap::Args, Debug)]
pub(crate) struct ExecOptions {
    /// Pass standard input on
    #[arg(long, short)]
    pub(super) interactive: bool,

    /// Give the command a terminal
    #[arg(long, short)]
    pub(super) tty: bool,

    /// Directory to run in
    #[arg(long, short, value_name = "DIR")]
    pub(super) workdir: Option<OsString>,

    /// User to run as: NAME, UID or UID:GID
    #[arg(long, short, value_name = "USER")]
    pub(super) user: Option<String>,

    /// Kill the command after this many seconds; bandsox then exits with 124
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) timeout: Option<Duration>,
}

/// Runs the command, or attaches to one that runs.
pub(crate) fn run(ui: &Ui, store: &Store, args: ExecArgs) -> Result<ExitCode, Failure> {
    let ExecArgs { vm, options, env, detach, attach, session, command } = args;
    let id = storage::resolve(store, &vm)?;
    let mut signals = Signals::catch()?;
    let manner = Manner { stdin: options.interactive, tty: options.tty, leave: detach };
    let begin = match attach {
        Some(session) => Begin::Join(session),
        None => {
            let session = session.map_or_else(fresh_session, Ok)?;
            let options = &options;
            let job = Job { command: &command, env: &env, options, makes_workdir: false };
            Begin::Run(Exec { detach, ..job.request(store, &id, session) })
        }
    };
    session::attend(Vm { ui, store, id: &id }, begin, manner, &mut signals)
}

/// A command that is to run in a VM.
pub(super) struct Job<'a> {
    /// Program and arguments.
    pub(super) command: &'a [OsString],
    /// Its environment, above the VM's.
    pub(super) env: &'a [EnvVar],
    /// How it runs.
    pub(super) options: &'a ExecOptions,
    /// Whether the directory that the user named is made where it is missing.
    pub(super) makes_workdir: bool,
}

impl Job<'_> {
    /// What the agent is asked to run: what the image says about its programs, then the VM, then the user.
    pub(super) fn request(&self, store: &Store, id: &VmId, session: SessionId) -> Exec {
        let ExecOptions { interactive, tty, workdir, user, timeout } = self.options;
        let metadata = store.read(id).ok();
        let of_vm = metadata.as_ref().map(Metadata::env_vars).unwrap_or_default();
        let image = metadata.as_ref().map(Metadata::image_config).unwrap_or_default();
        let of_image = image.variables();
        let term = std::env::var("TERM").ok().filter(|_| *tty).map(|term| format!("TERM={term}"));
        let spelled = |variable: &EnvVar| format!("{}={}", variable.key(), variable.value());
        let variables = of_image.iter().chain(&of_vm).chain(self.env).map(spelled);
        Exec {
            session,
            argv: self.command.iter().map(|word| ByteString::from(word.as_os_str())).collect(),
            env: term.into_iter().chain(variables).map(ByteString::from).collect(),
            cwd: match (workdir, &image.working_dir) {
                (Some(given), _) => Some(ByteString::from(given.as_os_str())),
                (None, of_image) => of_image.as_deref().map(ByteString::from),
            },
            user: user.clone().or(image.user),
            tty: tty.then(session::window_size),
            stdin: *interactive,
            timeout_ms: timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            detach: false,
            // What an image names need not be in it: other runtimes make it when they make the container.
            make_cwd: workdir.is_none() || self.makes_workdir,
        }
    }
}

/// An id that no session has.
pub(super) fn fresh_session() -> Result<SessionId, Failure> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| Failure::new("the system has no random numbers"))?;
    Ok(SessionId(id))
}

/// Reads a session's id.
fn session_id(text: &str) -> Result<SessionId, &'static str> {
    SessionId::parse(text).ok_or("want 32 hexadecimal digits")
}

/// Reads a time limit: seconds, with a fraction if wanted.
fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds: f64 = text.parse().map_err(|_| "want a number of seconds")?;
    if seconds <= 0.0 {
        return Err("want more than 0 seconds");
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| "want a number of seconds")
}

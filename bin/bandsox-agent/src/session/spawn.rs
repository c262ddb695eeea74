//! Starting a command.
// UNSAFETY: a command with a terminal or another user needs calls between fork(2) and execve(2), which the standard
// library allows only as unsafe.
#![expect(unsafe_code, reason = "see the UNSAFETY note above")]

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bandsox_proto::ByteString;
use bandsox_proto::v2::{ErrorCode, Exec, Fault};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::children::Children;
use crate::session::program::{self, Unrunnable};
use crate::session::terminal::Terminal;
use crate::session::users::{UnknownUser, User};

/// Where programs are looked for unless the client says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that runs, and our ends of its streams.
pub(crate) struct Running {
    pub(crate) pid: Pid,
    /// Becomes readable when the command exits.
    pub(crate) pidfd: OwnedFd,
    pub(crate) streams: Streams,
}

/// Our ends, non-blocking.
pub(crate) enum Streams {
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    Terminal { master: OwnedFd },
}

/// Starts what `exec` asks for.
pub(crate) fn start(children: &Children, exec: &Exec) -> Result<Running, Unrunnable> {
    let user = User::look_up(exec.user.as_deref()).map_err(|error| unknown_user(&error))?;
    let cwd = working_directory(exec, &user)?;
    let environment = environment(exec, &user);
    let path = environment.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or_else(OsString::new, |(_, value)| value.clone());
    let name = exec.argv.first().cloned().unwrap_or_default();
    let program = program::find(&name, &cwd, &path)?;

    let mut command = Command::new(program);
    command.arg0(name.as_os_str());
    command.args(exec.argv.iter().skip(1).map(ByteString::as_os_str));
    command.env_clear().envs(environment).current_dir(&cwd);
    let streams = wire(&mut command, exec).map_err(|error| failed(&name, &error))?;
    enter(&mut command, exec.tty.is_some(), user);
    let started = children.start(|| {
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok((pid, pidfd_open(pid, PidfdFlags::empty()).map(|pidfd| (pid, pidfd))))
    });
    // The command held the other ends of the streams.
    drop(command);
    let (pid, pidfd) = match started {
        Ok(Ok(started)) => started,
        Ok(Err(error)) => return Err(failed(&name, &error.into())),
        Err(error) => return Err(Unrunnable::not_executable(&name, &error)),
    };
    Ok(Running { pid, pidfd, streams })
}

/// Gives the command its streams; returns ours.
fn wire(command: &mut Command, exec: &Exec) -> io::Result<Streams> {
    if let Some(size) = exec.tty {
        let Terminal { master, slave } = Terminal::open(size)?;
        command.stdin(Stdio::from(slave.try_clone()?));
        command.stdout(Stdio::from(slave.try_clone()?));
        command.stderr(Stdio::from(slave));
        unblock(&master)?;
        return Ok(Streams::Terminal { master });
    }
    let stdin = if exec.stdin {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        command.stdin(Stdio::from(theirs));
        unblock(&ours)?;
        Some(ours)
    } else {
        command.stdin(Stdio::null());
        None
    };
    let (stdout, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    command.stdout(Stdio::from(theirs));
    let (stderr, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    command.stderr(Stdio::from(theirs));
    unblock(&stdout)?;
    unblock(&stderr)?;
    Ok(Streams::Pipes { stdin, stdout, stderr })
}

/// What the command does before it becomes the program.
fn enter(command: &mut Command, terminal: bool, user: User) {
    if !terminal {
        command.process_group(0);
    }
    let changes_user = !user.is_the_agent();
    if !terminal && !changes_user {
        // Without a closure the standard library can spawn without copying the agent's page tables.
        return;
    }
    let groups: Vec<_> =
        user.groups.iter().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
    let (uid, gid) = (user.uid, user.gid);
    let enter = move || -> io::Result<()> {
        if terminal {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        if !changes_user {
            return Ok(());
        }
        let gid = rustix::process::Gid::from_raw(gid);
        let uid = rustix::process::Uid::from_raw(uid);
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    };
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe things may be done: it
    // makes bare system calls through rustix, allocates nothing and takes no lock. The child has one thread, so that
    // calls which change one thread's identity change the process's.
    unsafe { command.pre_exec(enter) };
}

fn working_directory(exec: &Exec, user: &User) -> Result<PathBuf, Unrunnable> {
    let Some(wanted) = &exec.cwd else {
        let home = user.home.as_deref().map(Path::new).filter(|home| home.is_dir());
        return Ok(home.unwrap_or(Path::new("/")).to_path_buf());
    };
    let path = Path::new("/").join(wanted.as_path());
    let found = std::fs::metadata(&path);
    let missing = matches!(&found, Err(error) if error.kind() == io::ErrorKind::NotFound);
    if exec.make_cwd && missing {
        std::fs::create_dir_all(&path).map_err(|error| bad_directory(wanted, &error))?;
        return Ok(path);
    }
    match found {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => Err(bad_directory(wanted, &io::Error::from(io::ErrorKind::NotADirectory))),
        Err(error) => Err(bad_directory(wanted, &error)),
    }
}

/// The defaults, then what the client says; later entries win.
fn environment(exec: &Exec, user: &User) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> = vec![
        ("PATH".into(), PATH.into()),
        ("HOME".into(), user.home.as_deref().unwrap_or("/").into()),
    ];
    if let Some(name) = &user.name {
        environment.push(("USER".into(), name.into()));
        environment.push(("LOGNAME".into(), name.into()));
    }
    if exec.tty.is_some() {
        environment.push(("TERM".into(), "xterm".into()));
    }
    for entry in &exec.env {
        let bytes = entry.as_bytes();
        let at = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
        let (name, value) = bytes.split_at(at);
        // What has no name, or a NUL in it, no program could see.
        if !name.is_empty() && !bytes.contains(&0) {
            let value = value.get(1..).unwrap_or_default();
            let pair = (OsStr::from_bytes(name).into(), OsStr::from_bytes(value).into());
            environment.push(pair);
        }
    }
    environment
}

fn unblock(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

fn unknown_user(error: &UnknownUser) -> Unrunnable {
    let fault = Fault { code: UnknownUser::CODE, message: error.to_string(), errno: None };
    Unrunnable { exit_code: 126, fault }
}

fn bad_directory(path: &ByteString, error: &io::Error) -> Unrunnable {
    let message = format!("cannot enter the working directory {path}: {error}");
    let code = bandsox_files::error_code(error);
    Unrunnable { exit_code: 126, fault: Fault { code, message, errno: error.raw_os_error() } }
}

fn failed(program: &ByteString, error: &io::Error) -> Unrunnable {
    let message = format!("cannot start {program}: {error}");
    let code = ErrorCode::Io;
    Unrunnable { exit_code: 126, fault: Fault { code, message, errno: error.raw_os_error() } }
}

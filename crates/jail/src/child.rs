//! What the forked child does between the fork and the program.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Access, Mode, OFlags, access};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use rustix::thread::UnshareFlags;

use crate::failure::{Failure, Kind};
use crate::order::{Confinement, Order, WireLimits};
use crate::pieces::Piece;
use crate::{privileges, root, sys, syscalls};

/// What the child was given.
pub(crate) struct Child {
    pub(crate) order: Order,
    pub(crate) stderr: OwnedFd,
    /// As many as `order.numbers`.
    pub(crate) fds: Vec<OwnedFd>,
    /// A pipe that ends with the launcher.
    pub(crate) launcher_alive: OwnedFd,
    /// Where a failure is told; closed by the kernel when the program starts.
    pub(crate) status: OwnedFd,
}

impl Child {
    /// Becomes the program.
    pub(crate) fn run(self) -> ! {
        // Numbers that the program's own descriptors will take must be free.
        let status = fcntl_dupfd_cloexec(&self.status, OUT_OF_THE_WAY);
        let Err(failure) = self.become_program();
        if let (Ok(status), Ok(text)) = (status, serde_json::to_vec(&failure)) {
            // Nobody is left to be told that this failed.
            std::fs::File::from(status).write_all(&text).ok();
        }
        sys::exit_now(127)
    }

    fn become_program(self) -> Result<Infallible, Failure> {
        let Self { order, stderr, fds, launcher_alive, status: _ } = self;
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Failure::at("opening /dev/null"))?;
        let launcher_alive = out_of_the_way(&launcher_alive)?;
        let fds = fds.iter().map(out_of_the_way).collect::<Result<Vec<_>, _>>()?;
        let stderr = out_of_the_way(&stderr)?;
        let null = out_of_the_way(&null)?;

        if order.confinement != Confinement::None {
            if order.has(Piece::Files) {
                root::enter(&order)?;
            }
            rustix::system::sethostname(b"bandsox").map_err(Failure::at("naming the host"))?;
            if order.has(Piece::Limits) {
                limit(order.limits)?;
            }
            if order.has(Piece::Privileges) {
                privileges::forbid_gains()?;
                if let Confinement::OtherUser { uid } = order.confinement {
                    privileges::become_user(uid)?;
                }
                privileges::drop_capabilities()?;
            }
        }
        check_readable(&order)?;
        die_with_launcher(launcher_alive.as_fd())?;

        sys::place_fd(null.as_fd(), 0).map_err(Failure::at("setting standard input"))?;
        for number in [1, 2] {
            sys::place_fd(stderr.as_fd(), number).map_err(Failure::at("setting its output"))?;
        }
        for (fd, number) in fds.iter().zip(&order.numbers) {
            sys::place_fd(fd.as_fd(), *number).map_err(Failure::at("placing a descriptor"))?;
        }
        if order.confinement != Confinement::None && order.has(Piece::SystemCalls) {
            syscalls::refuse_unneeded()?;
        }
        let error =
            Command::new(&order.program).args(&order.args).env_clear().current_dir("/").exec();
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        Err(Failure::on(Kind::Program, "starting the program", Path::new(&order.program))(errno))
    }
}

/// Above every number that a program is given a descriptor under.
const OUT_OF_THE_WAY: i32 = 128;

fn out_of_the_way(fd: &OwnedFd) -> Result<OwnedFd, Failure> {
    fcntl_dupfd_cloexec(fd, OUT_OF_THE_WAY).map_err(Failure::at("moving a descriptor"))
}

fn limit(limits: WireLimits) -> Result<(), Failure> {
    let WireLimits { open_files, tasks, file_size } = limits;
    for (resource, most) in [
        (Resource::Core, 0),
        (Resource::Nofile, open_files),
        (Resource::Nproc, tasks),
        (Resource::Fsize, file_size),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Rtprio, 0),
        (Resource::Sigpending, 256),
    ] {
        // A limit can always be lowered; one that is lower already stays.
        let now = rustix::process::getrlimit(resource);
        let most = now.maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(Failure::at("limiting resources"))?;
    }
    Ok(())
}

/// Says which file the program's user may not read, since the program would not say it clearly.
fn check_readable(order: &Order) -> Result<(), Failure> {
    for path in &order.load_paths {
        access(path, Access::READ_OK).map_err(Failure::on(
            Kind::LoadPath,
            "reading",
            Path::new(path),
        ))?;
    }
    Ok(())
}

/// Has the kernel kill this process when the launcher, its parent, ends.
///
/// A change of user would clear this, so it comes after that; the pipe tells whether the
/// launcher ended before.
fn die_with_launcher(alive: BorrowedFd<'_>) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(Failure::at("tying its life to the launcher's"))?;
    let mut waiting = [PollFd::from_borrowed_fd(alive, PollFlags::IN)];
    let ended = poll(&mut waiting, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))
        .map_err(Failure::at("looking after the launcher"))?;
    if ended == 0 { Ok(()) } else { sys::exit_now(126) }
}

/// Makes the namespaces that the child will be born into.
pub(crate) fn enter_namespaces(order: &Order) -> Result<(), Failure> {
    let mut flags = UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    for (piece, flag) in [
        (Piece::Files, UnshareFlags::NEWNS),
        (Piece::Network, UnshareFlags::NEWNET),
        (Piece::Processes, UnshareFlags::NEWPID),
    ] {
        if order.has(piece) {
            flags |= flag;
        }
    }
    match order.confinement {
        Confinement::None => Ok(()),
        Confinement::OtherUser { .. } => sys::unshare(flags).map_err(|errno| Failure {
            kind: Kind::Namespaces,
            ..Failure::at("making namespaces")(errno)
        }),
        Confinement::SameUser { uid, gid } => {
            sys::unshare(flags | UnshareFlags::NEWUSER).map_err(|errno| Failure {
                kind: Kind::UserNamespace,
                ..Failure::at("making a user namespace")(errno)
            })?;
            // The order matters: a group map is accepted only after setgroups is denied.
            for (file, text) in [
                ("/proc/self/setgroups", "deny".to_owned()),
                ("/proc/self/uid_map", format!("{uid} {uid} 1")),
                ("/proc/self/gid_map", format!("{gid} {gid} 1")),
            ] {
                std::fs::write(OsStr::new(file), text)
                    .map_err(Failure::io(Kind::UserNamespace, "mapping this user"))?;
            }
            Ok(())
        }
    }
}

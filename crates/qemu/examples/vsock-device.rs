//! A vsock device in a process of its own, as `vhost-device-vsock` is one: what benchmarks compare.
//!
//! ```text
//! vsock-device GUEST-CID VHOST-USER-SOCKET UNIX-SOCKET
//! ```
//!
//! Prints what it has counted for each line on standard input, and ends with its end.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use bandsox_qemu::vhost_user::Front;
use bandsox_vsock::Handle;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cid, vhost_user, unix] = arguments.as_slice() else {
        return Err("usage: vsock-device GUEST-CID VHOST-USER-SOCKET UNIX-SOCKET".into());
    };
    let device = Handle::start()?;
    let unix = Path::new(unix);
    let dir = File::open(unix.parent().ok_or("a socket has a directory")?)?;
    let _served = device.serve_unix(dir.into(), unix)?;
    let listener = UnixListener::bind(vhost_user)?;
    let (socket, _) = listener.accept()?;
    let _front = Front::serve(socket, device.clone(), cid.parse()?, |_| ())?;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        line?;
        let stats = device.stats();
        writeln!(
            out,
            "kicks {} interrupts {} packets-to-guest {} packets-from-guest {}",
            stats.kicks, stats.interrupts, stats.packets_to_guest, stats.packets_from_guest
        )?;
    }
    Ok(())
}

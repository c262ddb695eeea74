//! Prints the contract of a running QEMU: `cargo run --example contract -- QMP-SOCKET`.
#![expect(clippy::print_stdout, reason = "this is a terminal program's output")]

use std::path::Path;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = std::env::args().nth(1).ok_or("usage: contract QMP-SOCKET")?;
    let mut client = bandsox_qmp::Client::connect(Path::new(&socket), Duration::from_secs(10))?;
    let contract = vmstream_qmp::read(&mut client)?;
    for attribute in contract.attributes {
        println!("{} = {:?}", attribute.name(), attribute.value);
    }
    Ok(())
}

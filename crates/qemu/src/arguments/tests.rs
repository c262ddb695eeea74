use super::*;

fn wiring() -> Wiring {
    Wiring {
        accelerator: Accelerator::Tcg,
        vcpus: 2,
        ram_bytes: 512 << 20,
        ram: 4,
        firmware: vec!["/usr/share/qemu".into(), "/usr/share/seabios".into()],
        kernel: "/store/kernel/vmlinux".into(),
        initrd: "/store/kernel/initramfs.cpio".into(),
        cmdline: "console=ttyS0 panic=-1".to_owned(),
        base: 5,
        overlay: 6,
        qmp: 3,
        console: 7,
        agent_uart: 8,
        agent_port: 9,
        vsock: Some(10),
    }
}

fn shown(wiring: &Wiring) -> String {
    let mut lines = String::new();
    for argument in arguments(wiring) {
        let argument = argument.to_string_lossy();
        lines.push(if argument.starts_with('-') { '\n' } else { ' ' });
        lines.push_str(&argument);
    }
    lines
}

#[test]
fn the_whole_command_line_is_as_reviewed() {
    insta::assert_snapshot!(shown(&wiring()));
}

#[test]
fn without_vsock_the_root_port_stays() {
    let line = shown(&Wiring { vsock: None, ..wiring() });

    assert!(line.contains("pcie-root-port,id=rp0"));
    assert!(!line.contains("vhost-user"));
}

#[test]
fn commas_in_paths_stay_out_of_option_lists() {
    let odd = Wiring { kernel: "/a,b/vmlinux".into(), initrd: "/a,b/i".into(), ..wiring() };

    let line = arguments(&odd);

    let at = line.iter().position(|word| word == "-kernel").expect("a kernel is named");
    assert_eq!(line.get(at + 1), Some(&OsString::from("/a,b/vmlinux")));
}

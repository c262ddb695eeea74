//! What the host asks for on the kernel's command line.

/// The `bandsox.` words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    /// `bandsox.port`: vsock port to listen on, and the host's to connect to.
    pub(super) port: u32,
    /// `bandsox.transport`
    pub(super) transport: Transport,
    /// `bandsox.base`: device of the read-only base, should no disk have that serial number.
    pub(super) base: String,
    /// `bandsox.base_fs`
    pub(super) base_fs: BaseFs,
    /// `bandsox.overlay`: device of the VM's own disk, should no disk have that serial number.
    pub(super) overlay: String,
    /// `bandsox.hostname`
    pub(super) hostname: Option<String>,
}

/// What the agent says Hello over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// `vsock`; the default.
    Vsock,
    /// `serial`
    Serial,
}

/// File system of the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BaseFs {
    /// `erofs`; the default.
    Erofs,
    /// `ext4`
    Ext4,
}

/// A word that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("the kernel's command line has {word:?}, which makes no sense")]
pub(super) struct BadWord {
    word: String,
}

impl Boot {
    /// Reads a command line. Words of others, and `bandsox.` words of a newer host, are left alone.
    pub(super) fn parse(line: &str) -> Result<Self, BadWord> {
        let mut boot = Self {
            port: 9000,
            transport: Transport::Vsock,
            base: "/dev/vda".to_owned(),
            base_fs: BaseFs::Erofs,
            overlay: "/dev/vdb".to_owned(),
            hostname: None,
        };
        for word in line.split_ascii_whitespace() {
            let bad = || BadWord { word: word.to_owned() };
            let Some((name, value)) = word.strip_prefix("bandsox.").and_then(|w| w.split_once('='))
            else {
                continue;
            };
            match name {
                "port" => boot.port = value.parse().map_err(|_| bad())?,
                "transport" => {
                    boot.transport = match value {
                        "vsock" => Transport::Vsock,
                        "serial" => Transport::Serial,
                        _ => return Err(bad()),
                    }
                }
                "base" => value.clone_into(&mut boot.base),
                "base_fs" => {
                    boot.base_fs = match value {
                        "erofs" => BaseFs::Erofs,
                        "ext4" => BaseFs::Ext4,
                        _ => return Err(bad()),
                    }
                }
                "overlay" => value.clone_into(&mut boot.overlay),
                "hostname" => boot.hostname = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_are_left_alone() {
        let boot = Boot::parse(
            "console=ttyS0 bandsox.port=9001 bandsox.future=1 bandsox.base_fs=ext4 quiet\n",
        );
        let boot = boot.expect("makes sense");

        assert_eq!(
            (boot.port, boot.base_fs, boot.transport),
            (9001, BaseFs::Ext4, Transport::Vsock)
        );
    }

    #[test]
    fn a_value_that_makes_no_sense_is_named() {
        let error = Boot::parse("bandsox.transport=pigeon").expect_err("no pigeons");

        let text =
            "the kernel's command line has \"bandsox.transport=pigeon\", which makes no sense";
        assert_eq!(error.to_string(), text);
    }
}

//! Whether and how a VM uses vsock: `vsock_config` in its metadata.

use serde_json::Value;

/// Whether and how a VM uses vsock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VsockConfig {
    /// The file says nothing: the VM was created before vsock was there.
    Absent,
    /// Somebody turned it off: the VM runs over serial.
    Disabled,
    /// It is on. The numbers are there while the VM runs; in files of older versions, always.
    Enabled {
        /// The guest's context id, if one is written down.
        cid: Option<u32>,
        /// The vsock port that its agent listens on, if one is written down.
        port: Option<u32>,
    },
}

impl VsockConfig {
    /// Reads the value of `vsock_config`, whose shape was checked before.
    pub(super) fn of(value: Option<&Value>) -> Self {
        let Some(Value::Object(config)) = value else { return Self::Absent };
        let number =
            |key| config.get(key).and_then(super::check::whole).and_then(|n| u32::try_from(n).ok());
        let (cid, port) = (number("cid"), number("port"));
        match config.get("enabled").and_then(Value::as_bool) {
            Some(true) => Self::Enabled { cid, port },
            Some(false) => Self::Disabled,
            None if cid.is_some() && port.is_some() => Self::Enabled { cid, port },
            None => Self::Absent,
        }
    }

    /// What a start uses to reach the guest.
    ///
    /// # Errors
    ///
    /// [`VsockRequired`] if the VM was created before vsock was there, unless serial was asked for.
    pub const fn transport(self, asked: Transport) -> Result<Transport, VsockRequired> {
        match (self, asked) {
            (_, Transport::Serial) | (Self::Disabled, Transport::Vsock) => Ok(Transport::Serial),
            (Self::Enabled { .. }, Transport::Vsock) => Ok(Transport::Vsock),
            (Self::Absent, Transport::Vsock) => Err(VsockRequired),
        }
    }
}

/// How host and guest reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A vsock device, with serial as what is left when the guest cannot.
    Vsock,
    /// The serial link alone.
    Serial,
}

/// A VM without vsock configuration was to be started with vsock.
///
/// The message is the migration guide's, to the letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("VM requires vsock support. Please recreate the VM to enable vsock.")]
pub struct VsockRequired;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_vm_without_vsock_configuration_is_refused_in_the_guides_words() {
        for absent in [None, Some(json!(null)), Some(json!({}))] {
            let refusal = VsockConfig::of(absent.as_ref())
                .transport(Transport::Vsock)
                .expect_err("there is no vsock configuration");

            assert_eq!(
                refusal.to_string(),
                "VM requires vsock support. Please recreate the VM to enable vsock."
            );
        }
    }

    #[test]
    fn serial_only_needs_no_vsock_configuration() {
        for config in [None, Some(json!({"enabled": false})), Some(json!({"enabled": true}))] {
            assert_eq!(
                VsockConfig::of(config.as_ref()).transport(Transport::Serial),
                Ok(Transport::Serial)
            );
        }
    }

    #[test]
    fn vsock_turned_off_by_hand_means_serial() {
        let config = VsockConfig::of(Some(&json!({"enabled": false})));

        assert_eq!(config, VsockConfig::Disabled);
        assert_eq!(config.transport(Transport::Vsock), Ok(Transport::Serial));
    }

    #[test]
    fn vsock_with_and_without_numbers_is_on() {
        for (value, cid, port) in [
            (json!({"enabled": true}), None, None),
            (json!({"enabled": true, "cid": null}), None, None),
            (
                json!({"enabled": true, "cid": 3, "port": 9000, "uds_path": "x"}),
                Some(3),
                Some(9000),
            ),
            (json!({"cid": 3.0, "port": 9000}), Some(3), Some(9000)),
        ] {
            let config = VsockConfig::of(Some(&value));

            assert_eq!(config, VsockConfig::Enabled { cid, port }, "{value}");
            assert_eq!(config.transport(Transport::Vsock), Ok(Transport::Vsock));
        }
    }
}

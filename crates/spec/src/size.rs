//! How much of the host a VM gets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a number is none that a VM can be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// The text is no whole number.
    #[error("{what} is {text:?}; want a whole number from {low} to {high}")]
    NotANumber {
        /// What the number is of, with its unit.
        what: &'static str,
        /// What was there instead; cut off when long.
        text: String,
        /// Smallest allowed.
        low: u32,
        /// Largest allowed.
        high: u32,
    },
    /// The number is outside the range.
    #[error("{what} is {found}; want {low} to {high}")]
    OutOfRange {
        /// What the number is of, with its unit.
        what: &'static str,
        /// The number.
        found: u64,
        /// Smallest allowed.
        low: u32,
        /// Largest allowed.
        high: u32,
    },
}

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $what:literal, $low:literal ..= $high:literal, $default:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name(u32);

        impl $name {
            /// Smallest value.
            pub const MIN: Self = Self($low);
            /// Largest value.
            pub const MAX: Self = Self($high);

            /// The number.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        }

        impl TryFrom<u64> for $name {
            type Error = SizeError;

            fn try_from(found: u64) -> Result<Self, SizeError> {
                match u32::try_from(found) {
                    Ok(number) if ($low..=$high).contains(&number) => Ok(Self(number)),
                    Ok(_) | Err(_) => {
                        Err(SizeError::OutOfRange { what: $what, found, low: $low, high: $high })
                    }
                }
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> Self {
                Self::from(value.0)
            }
        }

        impl FromStr for $name {
            type Err = SizeError;

            fn from_str(text: &str) -> Result<Self, SizeError> {
                let number: u64 = text.trim().parse().map_err(|_| SizeError::NotANumber {
                    what: $what,
                    text: text.chars().take(40).collect(),
                    low: $low,
                    high: $high,
                })?;
                number.try_into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

bounded!(
    /// Number of virtual CPUs.
    ///
    /// Range: 1 to 64; one by default. More than the host has is allowed, and slow.
    Vcpus, "vcpu", 1..=64, 1
);

bounded!(
    /// Size of a VM's memory.
    ///
    /// Unit: MiB. Range: 64 to 1,048,576 (1 TiB); 512 by default. Below 64 a stock kernel with an
    /// initramfs does not boot.
    MemMib, "mem (MiB)", 64..=1_048_576, 512
);

bounded!(
    /// Size of a VM's writable disk as the guest sees it; it costs the host only what is written.
    ///
    /// Unit: MiB. Range: 32 to 4,194,304 (4 TiB); 4096 by default.
    DiskSizeMib, "disk-size (MiB)", 32..=4_194_304, 4096
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_out_of_range_is_refused_with_the_range() {
        let refusal = "0".parse::<Vcpus>().expect_err("no VM runs on no CPU");

        assert_eq!(refusal.to_string(), "vcpu is 0; want 1 to 64");
    }

    #[test]
    fn text_is_refused_with_the_range() {
        let refusal = "lots".parse::<MemMib>().expect_err("not a number");

        assert_eq!(
            refusal.to_string(),
            "mem (MiB) is \"lots\"; want a whole number from 64 to 1048576"
        );
    }

    #[test]
    fn both_ends_of_each_range_are_allowed_and_what_is_beyond_is_not() {
        assert!(Vcpus::try_from(1).is_ok() && Vcpus::try_from(64).is_ok());
        assert!(Vcpus::try_from(0).is_err() && Vcpus::try_from(65).is_err());
        assert!(MemMib::try_from(64).is_ok() && MemMib::try_from(1 << 20).is_ok());
        assert!(MemMib::try_from(63).is_err() && MemMib::try_from((1 << 20) + 1).is_err());
        assert!(DiskSizeMib::try_from(32).is_ok() && DiskSizeMib::try_from(1 << 22).is_ok());
        assert!(DiskSizeMib::try_from(31).is_err() && DiskSizeMib::try_from(u64::MAX).is_err());
    }

    #[test]
    fn negative_and_fractional_numbers_are_refused() {
        for text in ["-1", "1.5", "", "1e3", "0x10", "18446744073709551616"] {
            assert!(text.parse::<DiskSizeMib>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn deserialising_checks_the_range_too() {
        assert!(serde_json::from_str::<Vcpus>("65").is_err());
        assert_eq!(serde_json::from_str::<Vcpus>("64").ok(), Some(Vcpus::MAX));
    }
}

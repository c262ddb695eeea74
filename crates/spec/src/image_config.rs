//! What an image says about the program in it.

use serde::{Deserialize, Serialize};

use crate::EnvVar;

/// How an image wants its program run; every command in a VM of that image begins from it.
///
/// Source: OCI image specification, `config.md`, the object `config`. The image's author decides it all: it is data to be
/// handed to the guest, and to nothing else. [`ImageConfig::checked`] bounds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Program and first arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Further arguments, or the whole command without an entrypoint; what a user gives replaces them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Environment variables, `KEY=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// `NAME`, `UID`, either with `:GROUP` or `:GID`; names are the guest's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Directory that commands run in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Name of the machine, if the VM has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Ports that the program listens on, such as `80/tcp`. For information.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
}

/// An image's configuration that no process can be given, or that is out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image's configuration cannot be used: {field} {what}")]
pub struct ImageConfigError {
    /// Which key of the configuration.
    pub field: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
}

/// All text of a configuration together. Unit: bytes. An honest one has a few thousand.
const MAX_BYTES: usize = 256 << 10;

impl ImageConfig {
    /// Checks what a process could not be given, and drops empty values, which mean none.
    ///
    /// # Errors
    ///
    /// [`ImageConfigError`] names the first field that cannot be used.
    pub fn checked(mut self) -> Result<Self, ImageConfigError> {
        let wrong = |field, what| Err(ImageConfigError { field, what });
        for text in [&mut self.user, &mut self.working_dir, &mut self.hostname] {
            *text = text.take().filter(|text| !text.is_empty());
        }
        let lists = [&self.entrypoint, &self.cmd, &self.env, &self.exposed_ports];
        let singles = [&self.user, &self.working_dir, &self.hostname];
        let texts = || lists.iter().copied().flatten().chain(singles.iter().copied().flatten());
        if texts().map(String::len).fold(0, usize::saturating_add) > MAX_BYTES {
            return wrong("config", "is over 256 KiB");
        }
        if texts().any(|text| text.contains('\0')) {
            return wrong("config", "holds a NUL");
        }
        if self.working_dir.as_ref().is_some_and(|dir| !dir.starts_with('/')) {
            return wrong("WorkingDir", "is not absolute");
        }
        Ok(self)
    }

    /// The environment; what is no `KEY=VALUE` is left out, as other runtimes have it.
    #[must_use]
    pub fn variables(&self) -> Vec<EnvVar> {
        self.env.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// The command to run: the entrypoint and what follows it.
    ///
    /// `entrypoint` replaces the image's, and then the image's `cmd` does not fit any more; an empty one means none. `given`
    /// replaces `cmd`. Empty if neither the image nor the user says what to run.
    #[must_use]
    pub fn command<T: From<String> + Clone>(
        &self,
        entrypoint: Option<&str>,
        given: &[T],
    ) -> Vec<T> {
        let own = |words: &[String]| words.iter().cloned().map(T::from).collect::<Vec<_>>();
        let mut command = match entrypoint {
            None => own(&self.entrypoint),
            Some("") => Vec::new(),
            Some(program) => vec![T::from(program.to_owned())],
        };
        if !given.is_empty() {
            command.extend_from_slice(given);
        } else if entrypoint.is_none() {
            command.extend(own(&self.cmd));
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageConfig {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        ImageConfig {
            entrypoint: words(&["/entry", "--flag"]),
            cmd: words(&["serve"]),
            ..ImageConfig::default()
        }
    }

    fn command(entrypoint: Option<&str>, given: &[&str]) -> String {
        let given: Vec<String> = given.iter().map(|&word| word.to_owned()).collect();
        image().command(entrypoint, &given).join(" ")
    }

    #[test]
    fn the_images_own_command_is_entrypoint_and_cmd() {
        assert_eq!(command(None, &[]), "/entry --flag serve");
    }

    #[test]
    fn what_the_user_gives_replaces_cmd_and_keeps_the_entrypoint() {
        assert_eq!(command(None, &["check", "-v"]), "/entry --flag check -v");
    }

    #[test]
    fn another_entrypoint_takes_the_images_cmd_away() {
        assert_eq!(command(Some("/bin/sh"), &[]), "/bin/sh");
        assert_eq!(command(Some("/bin/sh"), &["-c", "id"]), "/bin/sh -c id");
        assert_eq!(command(Some(""), &["id"]), "id");
    }

    #[test]
    fn empty_values_mean_none_and_what_no_process_can_be_given_is_refused() {
        let with = |change: fn(&mut ImageConfig)| {
            let mut config = image();
            change(&mut config);
            config.checked()
        };
        let empty = with(|config| config.user = Some(String::new())).expect("usable");
        assert_eq!(empty.user, None);
        for bad in [
            with(|config| config.working_dir = Some("srv".to_owned())),
            with(|config| config.env.push("A=\0".to_owned())),
            with(|config| config.cmd.push("x".repeat(300_000))),
        ] {
            bad.expect_err("refused");
        }
    }

    #[test]
    fn a_variable_that_is_none_is_left_out() {
        let config = ImageConfig {
            env: vec!["PATH=/bin".to_owned(), "odd".to_owned(), "=x".to_owned()],
            ..ImageConfig::default()
        };

        let keys: Vec<_> = config.variables().iter().map(|v| v.key().to_owned()).collect();
        assert_eq!(keys, ["PATH"]);
    }
}

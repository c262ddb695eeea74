//! What an image says about the program in it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{EnvVar, is_host_name};

/// How an image wants its program run; every command in a VM of that image begins from it.
///
/// Source: OCI image specification, `config.md`, the object `config`. The image's author decides it all: it is data to be
/// handed to the guest, and to nothing else. [`ImageConfig::usable`] leaves out what no VM can be given.
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

/// A part of an image's configuration that no VM can be given, and that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Which key of the configuration.
    pub field: &'static str,
    /// The value, cut to 60 characters.
    pub value: String,
    /// What is wrong with it, and what holds instead.
    pub why: &'static str,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} is left out: {}", self.field, self.value, self.why)
    }
}

impl ImageConfig {
    /// Most that a VM can be given, as indented JSON. Unit: bytes. An honest configuration has a few thousand.
    pub const MAX_BYTES: usize = 256 << 10;

    /// What of it a VM can be given, and what is left out. Empty values mean none, and a relative directory begins at the root.
    #[must_use]
    pub fn usable(mut self) -> (Self, Vec<Ignored>) {
        let mut notes = Notes::default();
        self.env.retain(|text| notes.keeps("Env", text, env_fault(text)));
        self.exposed_ports.retain(|text| notes.keeps("ExposedPorts", text, port_fault(text)));
        if let Some(first) = self.exposed_ports.get(MAX_PORTS).cloned() {
            notes.keeps("ExposedPorts", &first, Some("more than 1000 ports are not listed"));
            self.exposed_ports.truncate(MAX_PORTS);
        }
        let mut one = |field, text: Option<String>, fault: fn(&str) -> Option<&'static str>| {
            text.filter(|text| !text.is_empty())
                .filter(|text| notes.keeps(field, text, fault(text)))
        };
        self.user = one("User", self.user, user_fault);
        self.hostname = one("Hostname", self.hostname, hostname_fault);
        self.working_dir = one("WorkingDir", self.working_dir, directory_fault)
            .map(|dir| if dir.starts_with('/') { dir } else { format!("/{dir}") });
        let words = |field, words: &[String], notes: &mut Notes| {
            words.iter().all(|word| notes.keeps(field, word, command_fault(word)))
        };
        let whole = words("Entrypoint", &self.entrypoint, &mut notes)
            && words("Cmd", &self.cmd, &mut notes);
        if !whole {
            // Half a command is another command.
            (self.entrypoint, self.cmd) = (Vec::new(), Vec::new());
        }
        (self, notes.0)
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

/// What was left out, as far as anybody will read.
#[derive(Default)]
struct Notes(Vec<Ignored>);

impl Notes {
    /// Whether a value has no fault; one that has is noted.
    fn keeps(&mut self, field: &'static str, value: &str, fault: Option<&'static str>) -> bool {
        if let Some(why) = fault.filter(|_| self.0.len() < MAX_NOTES) {
            self.0.push(Ignored { field, value: value.chars().take(60).collect(), why });
        }
        fault.is_none()
    }
}

fn env_fault(text: &str) -> Option<&'static str> {
    if text.len() > MAX_WORD_BYTES {
        return Some("it is longer than 128 KiB");
    }
    text.parse::<EnvVar>().is_err().then_some("it is not NAME=VALUE")
}

/// `80`, `80/tcp`, `8000-8010/udp`.
fn port_fault(text: &str) -> Option<&'static str> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = |text: &str| text.parse::<u16>().is_ok();
    let fits = ["tcp", "udp", "sctp"].contains(&protocol)
        && ports.split_once('-').map_or(number(ports), |(low, high)| number(low) && number(high));
    (!fits).then_some("it is not PORT, PORT/tcp, PORT/udp or PORT/sctp")
}

fn user_fault(text: &str) -> Option<&'static str> {
    let odd = text.len() > 256 || text.contains(char::is_control);
    odd.then_some("no user can be called so; commands run as root unless -u is given")
}

fn hostname_fault(text: &str) -> Option<&'static str> {
    (!is_host_name(text)).then_some("want at most 63 letters, digits, '-' and '.'")
}

fn directory_fault(text: &str) -> Option<&'static str> {
    let odd = text.len() > 4095 || text.contains('\0');
    odd.then_some("no directory can be called so; commands run in /")
}

fn command_fault(word: &str) -> Option<&'static str> {
    if word.contains('\0') {
        Some("it has a NUL, so the image has no command of its own")
    } else if word.len() > MAX_WORD_BYTES {
        Some("it is longer than 128 KiB, so the image has no command of its own")
    } else {
        None
    }
}

/// A kernel takes no longer argument or variable (`MAX_ARG_STRLEN`, 32 pages, with its NUL).
const MAX_WORD_BYTES: usize = (128 << 10) - 1;
const MAX_PORTS: usize = 1000;
const MAX_NOTES: usize = 20;

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
    fn what_no_vm_can_be_given_is_left_out_and_named_and_the_rest_stays() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let config = ImageConfig {
            env: words(&["A=b", "novalue", "=x", "N=\0", "E="]),
            user: Some("a\nb".to_owned()),
            working_dir: Some("srv".to_owned()),
            hostname: Some("x quiet".to_owned()),
            exposed_ports: words(&["80/tcp", "70000/tcp", "1-9/udp", "odd"]),
            ..image()
        };

        let (usable, ignored) = config.usable();

        assert_eq!(usable.env, ["A=b", "E="]);
        assert_eq!(usable.exposed_ports, ["80/tcp", "1-9/udp"]);
        assert_eq!((&usable.user, &usable.hostname), (&None, &None));
        assert_eq!(usable.working_dir.as_deref(), Some("/srv"));
        assert_eq!(usable.command::<String>(None, &[]), ["/entry", "--flag", "serve"]);
        let fields: Vec<_> = ignored.iter().map(|it| it.field).collect();
        let ports = ["ExposedPorts"; 2];
        assert_eq!(fields, [&["Env"; 3][..], &ports, &["User", "Hostname"]].concat());
        let first = ignored[0].to_string();
        assert_eq!(first, "Env \"novalue\" is left out: it is not NAME=VALUE");
    }

    #[test]
    fn half_a_command_is_none_and_empty_values_mean_none() {
        let (usable, ignored) = ImageConfig {
            cmd: vec!["fine".to_owned(), "a\0b".to_owned()],
            user: Some(String::new()),
            ..image()
        }
        .usable();

        assert_eq!(usable, ImageConfig::default());
        assert_eq!(ignored.len(), 1, "{ignored:?}");
    }

    #[test]
    fn thousands_of_ports_and_of_faults_are_cut_short() {
        let ports = (0..5000).map(|port| format!("{port}")).collect();
        let env = (0..5000).map(|_| "x".repeat(1000)).collect();
        let (usable, ignored) =
            ImageConfig { exposed_ports: ports, env, ..ImageConfig::default() }.usable();

        assert_eq!((usable.exposed_ports.len(), usable.env.len()), (1000, 0));
        assert_eq!(ignored.len(), 20);
        assert_eq!(ignored[0].value.len(), 60);
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

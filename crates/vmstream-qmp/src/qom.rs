//! QEMU's object model: which objects there are, and what they say of themselves.

use std::collections::BTreeMap;

use bandsox_qmp::{Client, ClientError};
use serde_json::{Map, Value, json};

/// Deeper than QEMU's own tree goes.
const MAX_DEPTH: usize = 16;

/// More objects than a machine has: a large one has some thousands.
const MAX_OBJECTS: usize = 100_000;

/// Why no contract could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// QEMU does not answer, or refuses what every QEMU can tell.
    #[error(transparent)]
    Qmp(#[from] ClientError),
    /// An answer has another shape than QEMU's documentation gives it.
    #[error("QEMU answered {command} with something else than {want}")]
    Shape {
        /// The command.
        command: &'static str,
        /// What was expected.
        want: &'static str,
    },
    /// More objects than any machine has.
    #[error(
        "QEMU's object tree has more than {MAX_OBJECTS} objects or more than {MAX_DEPTH} levels"
    )]
    TooLarge,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// `/machine/peripheral-anon/device[0]`.
    pub(crate) path: String,
    /// `virtio-blk-pci`.
    pub(crate) kind: String,
}

/// Asks for objects and properties.
pub(crate) struct Qom<'a> {
    client: &'a mut Client,
    /// Names of the properties that a kind of device can be given; `None` for what is no device.
    properties: BTreeMap<String, Option<Vec<String>>>,
}

impl<'a> Qom<'a> {
    pub(crate) fn new(client: &'a mut Client) -> Self {
        Self { client, properties: BTreeMap::new() }
    }

    /// Runs a command that takes no arguments.
    pub(crate) fn query(&mut self, command: &'static str) -> Result<Value, ReadError> {
        Ok(self.client.run(command, json!({}))?)
    }

    /// All objects below `root`, each after its parent.
    pub(crate) fn walk(&mut self, root: &str) -> Result<Vec<Node>, ReadError> {
        let mut found: Vec<Node> = Vec::new();
        let mut level = vec![root.to_owned()];
        for _ in 0..MAX_DEPTH {
            let commands = level.iter().map(|path| ("qom-list", json!({ "path": path }))).collect();
            let answers = self.client.run_all(commands)?;
            let mut next = Vec::new();
            for (path, answer) in level.iter().zip(answers) {
                // An object that went away between two questions.
                let Ok(answer) = answer else { continue };
                for node in children(path, &answer)? {
                    if !is_leaf(&node) {
                        next.push(node.path.clone());
                    }
                    found.push(node);
                }
            }
            if next.is_empty() {
                return Ok(found);
            }
            if found.len() > MAX_OBJECTS {
                return Err(ReadError::TooLarge);
            }
            level = next;
        }
        Err(ReadError::TooLarge)
    }

    /// One property of an object; `None` if it has none of that name, or it cannot be read.
    pub(crate) fn get(&mut self, path: &str, property: &str) -> Result<Option<Value>, ReadError> {
        Ok(self.get_all(path, &[property])?.remove(property))
    }

    /// Those of an object's properties that can be read.
    pub(crate) fn get_all(
        &mut self,
        path: &str,
        names: &[&str],
    ) -> Result<Map<String, Value>, ReadError> {
        let commands = names
            .iter()
            .map(|name| ("qom-get", json!({ "path": path, "property": name })))
            .collect();
        let answers = self.client.run_all(commands)?;
        let read = names.iter().zip(answers);
        Ok(read.filter_map(|(name, value)| Some(((*name).to_owned(), value.ok()?))).collect())
    }

    /// Names of the properties that a device of this kind can be given; `None` if it is no device.
    pub(crate) fn properties_of(&mut self, kind: &str) -> Result<Option<Vec<String>>, ReadError> {
        if let Some(known) = self.properties.get(kind) {
            return Ok(known.clone());
        }
        let asked = vec![("device-list-properties", json!({ "typename": kind }))];
        let answer = self.client.run_all(asked)?.pop().and_then(Result::ok);
        let names = answer.map(|answer| settable(&answer)).transpose()?;
        self.properties.insert(kind.to_owned(), names.clone());
        Ok(names)
    }
}

/// Whether an object is of a kind that has nothing below it.
fn is_leaf(node: &Node) -> bool {
    matches!(node.kind.as_str(), "irq" | "memory-region" | "qemu:memory-region")
}

fn entries<'a>(answer: &'a Value, command: &'static str) -> Result<&'a Vec<Value>, ReadError> {
    answer.as_array().ok_or(ReadError::Shape { command, want: "a list" })
}

fn text<'a>(entry: &'a Value, key: &str, command: &'static str) -> Result<&'a str, ReadError> {
    let want = "entries with name and type";
    entry.get(key).and_then(Value::as_str).ok_or(ReadError::Shape { command, want })
}

fn children(path: &str, answer: &Value) -> Result<Vec<Node>, ReadError> {
    let mut found = Vec::new();
    for entry in entries(answer, "qom-list")? {
        let kind = text(entry, "type", "qom-list")?;
        if let Some(kind) = kind.strip_prefix("child<").and_then(|kind| kind.strip_suffix('>')) {
            let name = text(entry, "name", "qom-list")?;
            found.push(Node { path: format!("{path}/{name}"), kind: kind.to_owned() });
        }
    }
    Ok(found)
}

fn settable(answer: &Value) -> Result<Vec<String>, ReadError> {
    let command = "device-list-properties";
    let mut names = Vec::new();
    for entry in entries(answer, command)? {
        let kind = text(entry, "type", command)?;
        // Links and children are how objects hang together, not what the guest sees of them.
        if !kind.starts_with("link<") && !kind.starts_with("child<") {
            names.push(text(entry, "name", command)?.to_owned());
        }
    }
    Ok(names)
}

//! What was measured, as a table or as lines of JSON.

use crate::step::say;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// All at the end, for people.
    Table,
    /// One line for each as it comes, for programs.
    Json,
}

/// What a value must reach.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bar {
    /// `>= n`
    AtLeast(f64),
    /// `<= n`
    AtMost(f64),
    /// Reported, not judged.
    None,
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bar) => value >= bar,
            Self::AtMost(bar) => value <= bar,
            Self::None => true,
        }
    }

    fn spelled(self) -> Option<String> {
        match self {
            Self::AtLeast(bar) => Some(format!(">= {bar}")),
            Self::AtMost(bar) => Some(format!("<= {bar}")),
            Self::None => None,
        }
    }
}

struct Row {
    group: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
    bar: Bar,
}

/// Collects measurements.
pub(super) struct Report {
    format: Format,
    group: &'static str,
    rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(format: Format) -> Self {
        Self { format, group: "", rows: Vec::new() }
    }

    /// What follows belongs to this group.
    pub(super) fn group(&mut self, name: &'static str) {
        self.group = name;
    }

    /// Records one value.
    pub(super) fn add(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        bar: Bar,
    ) {
        let row = Row { group: self.group, name: name.into(), value, unit, bar };
        if self.format == Format::Json {
            say(&json(&row));
        }
        self.rows.push(row);
    }

    /// Prints the table, if that is the format.
    pub(super) fn finish(self) {
        if self.format == Format::Json {
            return;
        }
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
        say(&format!(
            "{:10} {:width$} {:>12} {:8} {:>8}  ok",
            "group", "name", "value", "unit", "bar"
        ));
        for row in &self.rows {
            let Row { group, name, value, unit, bar } = row;
            let verdict = match bar {
                Bar::None => "",
                Bar::AtLeast(_) | Bar::AtMost(_) if bar.holds(*value) => "yes",
                Bar::AtLeast(_) | Bar::AtMost(_) => "NO",
            };
            let bar = bar.spelled().unwrap_or_default();
            say(&format!(
                "{group:10} {name:width$} {:>12} {unit:8} {bar:>8}  {verdict}",
                rounded(*value)
            ));
        }
    }
}

fn json(row: &Row) -> String {
    let Row { group, name, value, unit, bar } = row;
    let ok = bar.holds(*value);
    serde_json::json!({
        "group": group, "name": name, "value": value, "unit": unit, "bar": bar.spelled(), "ok": ok,
    })
    .to_string()
}

fn rounded(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

//! Data for the page; what it expects stands where its script reads them.

use serde_json::{Value as Json, json};

use crate::command::inspect::about;
use crate::flat::{self, Difference};
use crate::output::printable;
use crate::survey::{Map, Survey};

const PAGE: &str = include_str!("page.html");

/// The class of a cell with pages that differ.
pub(crate) const DIFFERS: u8 = 4;

/// The page of one stream, and of how another differs from it.
pub(crate) fn fill(
    title: &str,
    survey: &Survey,
    other: Option<&(String, Vec<Difference>)>,
) -> String {
    let parts = survey.parts.iter();
    let parts = parts.map(|part| {
        json!({"path": part.path, "kind": part.kind, "bytes": part.bytes, "state": part.state})
    });
    let memory = survey.manifest.memory.iter().zip(&survey.memory);
    let memory = memory.map(|(region, map)| {
        json!({
            "name": region.name,
            "bytes": region.bytes,
            "gpa": region.gpa.map(|gpa| format!("{gpa:#x}")),
            "pages": map.pages,
            "cells": cells(map),
            "cell_bytes": map.pages_per_cell.saturating_mul(survey.manifest.page_size),
        })
    });
    let differences = other.map_or(&[][..], |(_, differences)| differences).iter();
    let told = |value: &Option<Json>| value.as_ref().map(|value| flat::short(Some(value)));
    let differences =
        differences.map(|each| json!({"path": each.path, "a": told(&each.a), "b": told(&each.b)}));
    let data = json!({
        "title": printable(title),
        "about": about(survey),
        "other": other.map(|(name, _)| printable(name)),
        "differences": differences.collect::<Vec<_>>(),
        "parts": parts.collect::<Vec<_>>(),
        "memory": memory.collect::<Vec<_>>(),
    });
    // Nothing of a stream may end the element that holds the data.
    PAGE.replacen(">DATA<", &format!(">{}<", data.to_string().replace('<', "\\u003c")), 1)
}

fn cells(map: &Map) -> String {
    map.cells.iter().map(|class| char::from(b'0'.saturating_add(*class))).collect()
}

//! What `#[record(…)]` and `#[field(…)]` say.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, ExprLit, Ident, Lit, LitInt, LitStr, Meta, Result};

/// What a struct says of itself.
#[derive(Default)]
pub(crate) struct RecordAttributes {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<LitInt>,
    pub(crate) source: Option<LitStr>,
}

impl RecordAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut parsed = Self::default();
        for attribute in attributes.iter().filter(|each| each.path().is_ident("record")) {
            attribute.parse_nested_meta(|meta| {
                match word(&meta)?.as_str() {
                    "name" => parsed.name = Some(meta.value()?.parse()?),
                    "version" => parsed.version = Some(meta.value()?.parse()?),
                    "source" => parsed.source = Some(meta.value()?.parse()?),
                    _ => return Err(meta.error("want name, version or source")),
                }
                Ok(())
            })?;
        }
        Ok(parsed)
    }
}

/// What a field, or a symbol, says of itself.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) name: Option<LitStr>,
    pub(crate) unit: Option<LitStr>,
    pub(crate) source: Option<LitStr>,
    pub(crate) since: Option<LitInt>,
    pub(crate) critical: Option<Ident>,
    pub(crate) default: Option<Expr>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) min: Option<Expr>,
    pub(crate) max: Option<Expr>,
    pub(crate) max_len: Option<LitInt>,
    pub(crate) bits: Vec<(Ident, LitInt)>,
}

impl FieldAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut parsed = Self::default();
        for attribute in attributes.iter().filter(|each| each.path().is_ident("field")) {
            attribute.parse_nested_meta(|meta| parsed.take(&meta))?;
        }
        Ok(parsed)
    }

    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        match word(meta)?.as_str() {
            "name" => self.name = Some(meta.value()?.parse()?),
            "unit" => self.unit = Some(meta.value()?.parse()?),
            "source" => self.source = Some(meta.value()?.parse()?),
            "since" => self.since = Some(meta.value()?.parse()?),
            "required" => self.critical = Some(Ident::new("Required", meta.path_span())),
            "critical" => self.critical = Some(Ident::new("Critical", meta.path_span())),
            "ignorable" => self.critical = Some(Ident::new("Ignorable", meta.path_span())),
            "default" => self.default = Some(meta.value()?.parse()?),
            "alias" => self.aliases.push(meta.value()?.parse()?),
            "min" => self.min = Some(meta.value()?.parse()?),
            "max" => self.max = Some(meta.value()?.parse()?),
            "max_len" => self.max_len = Some(meta.value()?.parse()?),
            "bits" => meta.parse_nested_meta(|bit| {
                let name = bit.path.require_ident()?.clone();
                self.bits.push((name, bit.value()?.parse()?));
                Ok(())
            })?,
            _ => return Err(meta.error("no attribute of a field that `vmstream::record` knows")),
        }
        Ok(())
    }
}

trait PathSpan {
    fn path_span(&self) -> proc_macro2::Span;
}

impl PathSpan for ParseNestedMeta<'_> {
    fn path_span(&self) -> proc_macro2::Span {
        self.path.get_ident().map_or_else(proc_macro2::Span::call_site, Ident::span)
    }
}

fn word(meta: &ParseNestedMeta<'_>) -> Result<String> {
    meta.path.require_ident().map(ToString::to_string)
}

/// The first paragraph of a documentation comment, on one line.
pub(crate) fn description(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return None };
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else { return None };
        pair.path.is_ident("doc").then(|| text.value().trim().to_owned())
    });
    let paragraph: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ")
}

//! The implementations.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Data, DataEnum, DataStruct, DeriveInput, Error, Field, Fields, Ident, LitStr, Result, Type,
};

use crate::attributes::{FieldAttributes, RecordAttributes, description};

pub(crate) fn record(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "a record has no parameters"));
    }
    match &input.data {
        Data::Struct(data) => of_struct(input, data),
        Data::Enum(data) => of_enum(input, data),
        _ => Err(Error::new_spanned(input, "a record is a struct, or an enum without fields")),
    }
}

fn of_struct(input: &DeriveInput, data: &DataStruct) -> Result<TokenStream> {
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(&input.ident, "the fields of a record have names"));
    };
    let fields: Vec<_> = fields.named.iter().map(Member::parse).collect::<Result<_>>()?;
    let aliases = |each: &Member<'_>| each.attributes.aliases.iter().map(LitStr::value).collect();
    expect_different(fields.iter().flat_map(|each| {
        let names = [vec![each.name.clone()], aliases(each)].concat();
        names.into_iter().map(|name| (each.ident, name))
    }))?;
    let name = &input.ident;
    let declared = fields.iter().map(Member::declaration);
    let saved = fields.iter().map(Member::save);
    let loaded = fields.iter().map(Member::load);
    let shape = quote! {
        #[automatically_derived]
        impl ::vmstream::record::Shape for #name {
            fn shape() -> ::vmstream::schema::Type {
                ::vmstream::schema::Type::Struct(::vmstream::schema::Struct::new(vec![#(#declared),*]))
            }

            fn to_value(&self) -> ::vmstream::Value {
                let mut map = ::vmstream::Map::new();
                #(#saved)*
                ::vmstream::Value::Map(map)
            }

            fn from_value(value: ::vmstream::Value) -> ::core::result::Result<Self, ::vmstream::Broken> {
                let ::vmstream::Value::Map(mut map) = value else {
                    return Err(::vmstream::Broken::new(::vmstream::Rule::D1).found(value.noun()));
                };
                let loaded = Self { #(#loaded),* };
                match map.iter().next() {
                    None => Ok(loaded),
                    Some((unknown, _)) => Err(::vmstream::Broken::new(::vmstream::Rule::D1).path(unknown)),
                }
            }
        }
    };
    let record = of_record(input)?;
    Ok(quote! { #shape #record })
}

/// Makes sure that a name, or an alias, means one thing.
fn expect_different<'a>(names: impl Iterator<Item = (&'a Ident, String)>) -> Result<()> {
    let mut known = BTreeSet::new();
    for (ident, name) in names {
        if !known.insert(name.clone()) {
            return Err(Error::new_spanned(ident, format!("{name} is another one's name, too")));
        }
    }
    Ok(())
}

/// The implementation of `Record`, if there is a name for it.
fn of_record(input: &DeriveInput) -> Result<TokenStream> {
    let RecordAttributes { name, version, source } = RecordAttributes::parse(&input.attrs)?;
    let Some(kind) = name else { return Ok(TokenStream::new()) };
    let ident = &input.ident;
    let description = description(&input.attrs);
    let version = version.map_or_else(|| quote!(1), |version| quote!(#version));
    let source = source.map_or_else(|| quote!(""), |source| quote!(#source));
    Ok(quote! {
        #[automatically_derived]
        impl ::vmstream::record::Record for #ident {
            fn schema() -> ::vmstream::Schema {
                let root = match <Self as ::vmstream::record::Shape>::shape() {
                    ::vmstream::schema::Type::Struct(root) => root,
                    _ => ::vmstream::schema::Struct::default(),
                };
                ::vmstream::Schema {
                    name: #kind.to_owned(),
                    version: #version,
                    description: #description.to_owned(),
                    source: #source.to_owned(),
                    root,
                }
            }
        }
    })
}

/// A field of a struct.
struct Member<'a> {
    ident: &'a Ident,
    kind: &'a Type,
    name: String,
    description: String,
    attributes: FieldAttributes,
}

impl<'a> Member<'a> {
    fn parse(field: &'a Field) -> Result<Self> {
        let ident = field.ident.as_ref();
        let ident = ident.ok_or_else(|| Error::new_spanned(field, "a field has a name"))?;
        let attributes = FieldAttributes::parse(&field.attrs)?;
        let name = attributes.name.as_ref().map(LitStr::value);
        let name = name.unwrap_or_else(|| ident.to_string());
        let description = description(&field.attrs);
        Ok(Self { ident, kind: &field.ty, name, description, attributes })
    }

    /// The field's default as its own type.
    fn default(&self) -> Option<TokenStream> {
        let (kind, default) = (self.kind, self.attributes.default.as_ref()?);
        Some(quote!({ let default: #kind = #default; default }))
    }

    fn declaration(&self) -> TokenStream {
        let Self { kind, name, description, attributes, .. } = self;
        let limits = self.limits();
        let mut sets = TokenStream::new();
        if let Some(unit) = &attributes.unit {
            sets.extend(quote!(field.unit = #unit.to_owned();));
        }
        if let Some(source) = &attributes.source {
            sets.extend(quote!(field.source = #source.to_owned();));
        }
        if let Some(since) = &attributes.since {
            sets.extend(quote!(field.since = #since;));
        }
        if let Some(critical) = &attributes.critical {
            sets.extend(quote!(field.critical = ::vmstream::schema::Criticality::#critical;));
        }
        if let Some(default) = self.default() {
            sets.extend(quote! {
                field.default = Some(::vmstream::record::Shape::to_value(&#default));
            });
        }
        let aliases = &attributes.aliases;
        quote!({
            let mut kind = <#kind as ::vmstream::record::Shape>::shape();
            #limits
            let mut field = ::vmstream::schema::Field::new(#name, kind);
            field.description = #description.to_owned();
            field.aliases = vec![#(#aliases.to_owned()),*];
            #sets
            field
        })
    }

    /// Narrows the type that the field's own type has.
    fn limits(&self) -> TokenStream {
        let FieldAttributes { min, max, max_len, bits, .. } = &self.attributes;
        let mut sets = TokenStream::new();
        for (name, bound) in [("min", min), ("max", max)] {
            let name = Ident::new(name, proc_macro2::Span::call_site());
            sets.extend(bound.iter().map(|bound| quote!(int.#name = i128::from(#bound);)));
        }
        for (name, bit) in bits {
            let name = name.to_string();
            sets.extend(quote!(int.flags.push((#name.to_owned(), #bit));));
        }
        let int = (!sets.is_empty()).then(|| {
            quote! {
                if let ::vmstream::schema::Type::Int(int) = &mut kind { #sets }
            }
        });
        let length = max_len.as_ref().map(|most| {
            quote! {
                match &mut kind {
                    ::vmstream::schema::Type::Text(max)
                    | ::vmstream::schema::Type::Bytes(_, max)
                    | ::vmstream::schema::Type::List(_, _, max) => *max = #most,
                    _ => {}
                }
            }
        });
        quote!(#int #length)
    }

    fn save(&self) -> TokenStream {
        let Self { ident, name, .. } = self;
        let value = quote!(::vmstream::record::Shape::to_value(&self.#ident));
        match self.default() {
            None => quote!(map.insert(#name, #value);),
            Some(default) => quote! {
                let value = #value;
                if value != ::vmstream::record::Shape::to_value(&#default) {
                    map.insert(#name, value);
                }
            },
        }
    }

    fn load(&self) -> TokenStream {
        let Self { ident, name, .. } = self;
        let default = self.default().map_or_else(|| quote!(None), |default| quote!(Some(#default)));
        quote!(#ident: ::vmstream::record::take(&mut map, #name, #default)?)
    }
}

fn of_enum(input: &DeriveInput, data: &DataEnum) -> Result<TokenStream> {
    let name = &input.ident;
    let mut symbols = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(variant, "a symbol has no fields"));
        }
        let given = FieldAttributes::parse(&variant.attrs)?.name.map(|name| name.value());
        symbols.push((&variant.ident, given.unwrap_or_else(|| kebab(&variant.ident.to_string()))));
    }
    expect_different(symbols.iter().map(|(ident, word)| (*ident, word.clone())))?;
    let words = symbols.iter().map(|(_, word)| quote!(#word.to_owned()));
    let to = symbols.iter().map(|(variant, word)| quote!(Self::#variant => #word));
    let from = symbols.iter().map(|(variant, word)| quote!(Some(#word) => Ok(Self::#variant)));
    Ok(quote! {
        #[automatically_derived]
        impl ::vmstream::record::Shape for #name {
            fn shape() -> ::vmstream::schema::Type {
                ::vmstream::schema::Type::Enum(vec![#(#words),*])
            }

            fn to_value(&self) -> ::vmstream::Value {
                ::vmstream::Value::from(match self { #(#to),* })
            }

            fn from_value(value: ::vmstream::Value) -> ::core::result::Result<Self, ::vmstream::Broken> {
                match value.as_text() {
                    #(#from,)*
                    _ => Err(::vmstream::Broken::new(::vmstream::Rule::D1).found(value.noun())),
                }
            }
        }
    })
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            out.push('-');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests;

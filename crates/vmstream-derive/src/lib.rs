//! `#[derive(Record)]`, for `vmstream`; what it takes is written there, in `vmstream::record`.
#![forbid(unsafe_code)]

mod attributes;
mod expand;

use proc_macro::TokenStream;

/// From one struct its coding, its schema and its conversions.
///
/// Implements `vmstream::record::Shape`, and `vmstream::record::Record` if the struct has a name.
#[proc_macro_derive(Record, attributes(record, field))]
pub fn derive_record(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    expand::record(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

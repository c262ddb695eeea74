//! JSON that keeps the order of members and those of one name, bounded in depth and size.
//!
//! QEMU writes several members of one name where a list has several items, and which one is which is known by order.

use std::borrow::Cow;

use crate::cursor::Cursor;
use crate::error::{Broken, Rule};

/// A JSON value, of the kinds that QEMU's descriptions hold. Texts stay where they are, but for those with escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
    Array(Vec<Self>),
    Object(Vec<(Cow<'a, str>, Self)>),
}

/// Nesting that is read; QEMU's own goes about ten deep.
const DEPTH: u32 = 64;

/// Values in one document; a large machine's description has some 20,000.
const VALUES: u32 = 150_000;

impl<'a> Json<'a> {
    /// Reads one document that fills `bytes`.
    pub(crate) fn parse(bytes: &'a [u8], offset: u64) -> Result<Self, Broken> {
        let mut parser = Parser { cursor: Cursor::new(bytes, offset), left: VALUES };
        let value = parser.value(0)?;
        parser.space();
        if parser.cursor.is_empty() { Ok(value) } else { Err(parser.broken()) }
    }

    pub(crate) fn members(&self) -> &[(Cow<'a, str>, Self)] {
        if let Self::Object(members) = self { members } else { &[] }
    }

    pub(crate) fn items(&self) -> &[Self] {
        if let Self::Array(items) = self { items } else { &[] }
    }

    /// The first member of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.members().iter().find(|(key, _)| **key == *name).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    left: u32,
}

impl<'a> Parser<'a> {
    fn broken(&self) -> Broken {
        self.cursor.broken(Rule::Json)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.cursor.peek() {
            self.cursor.skip_one();
        }
    }

    fn next(&mut self) -> Result<u8, Broken> {
        self.cursor.u8().map_err(|_| self.broken())
    }

    fn value(&mut self, depth: u32) -> Result<Json<'a>, Broken> {
        self.space();
        self.left = self.left.checked_sub(1).ok_or_else(|| self.broken())?;
        if depth > DEPTH {
            return Err(self.broken());
        }
        match self.cursor.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::Text(self.text()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: u32) -> Result<Json<'a>, Broken> {
        self.next()?;
        let mut members = Vec::new();
        self.space();
        if self.cursor.peek() == Some(b'}') {
            self.next()?;
            return Ok(Json::Object(members));
        }
        loop {
            self.space();
            let name = self.text()?;
            self.space();
            if self.next()? != b':' {
                return Err(self.broken());
            }
            members.push((name, self.value(depth.saturating_add(1))?));
            self.space();
            match self.next()? {
                b',' => {}
                b'}' => return Ok(Json::Object(members)),
                _ => return Err(self.broken()),
            }
        }
    }

    fn array(&mut self, depth: u32) -> Result<Json<'a>, Broken> {
        self.next()?;
        let mut items = Vec::new();
        self.space();
        if self.cursor.peek() == Some(b']') {
            self.next()?;
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth.saturating_add(1))?);
            self.space();
            match self.next()? {
                b',' => {}
                b']' => return Ok(Json::Array(items)),
                _ => return Err(self.broken()),
            }
        }
    }

    fn text(&mut self) -> Result<Cow<'a, str>, Broken> {
        if self.next()? != b'"' {
            return Err(self.broken());
        }
        let rest = self.cursor.rest();
        let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        let plain = rest.iter().position(is_special).unwrap_or(rest.len());
        let plain = self.cursor.take(plain)?;
        if self.cursor.peek() == Some(b'"') {
            self.cursor.skip_one();
            return std::str::from_utf8(plain).map(Cow::Borrowed).map_err(|_| self.broken());
        }
        let mut bytes = plain.to_vec();
        loop {
            match self.next()? {
                b'"' => break,
                b'\\' => {
                    let letter = self.escape()?;
                    bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..0x20 => return Err(self.broken()),
                byte => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).map(Cow::Owned).map_err(|_| self.broken())
    }

    fn escape(&mut self) -> Result<char, Broken> {
        Ok(match self.next()? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let digits = self.cursor.take(4).map_err(|_| self.broken())?;
                let digits = std::str::from_utf8(digits).map_err(|_| self.broken())?;
                let code = u32::from_str_radix(digits, 16).map_err(|_| self.broken())?;
                char::from_u32(code).ok_or_else(|| self.broken())?
            }
            _ => return Err(self.broken()),
        })
    }

    fn number(&mut self) -> Result<Json<'a>, Broken> {
        let rest = self.cursor.rest();
        let end = rest.iter().skip(1).position(|byte| !byte.is_ascii_digit());
        let digits = self.cursor.take(end.map_or(rest.len(), |end| end.saturating_add(1)))?;
        let digits = std::str::from_utf8(digits).map_err(|_| self.broken())?;
        digits.parse().map(Json::Int).map_err(|_| self.broken())
    }

    fn word(&mut self) -> Result<Json<'a>, Broken> {
        let words =
            [("true", Json::Bool(true)), ("false", Json::Bool(false)), ("null", Json::Null)];
        for (word, value) in words {
            if self.cursor.rest().starts_with(word.as_bytes()) {
                self.cursor.take(word.len())?;
                return Ok(value);
            }
        }
        Err(self.broken())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_one_name_are_all_kept_in_order() {
        let json = Json::parse(br#"{"a": 1, "b": "x\u0041", "a": [true, {}]}"#, 0).expect("valid");
        let names: Vec<_> = json.members().iter().map(|(name, _)| &**name).collect();

        assert_eq!(names, ["a", "b", "a"]);
        assert_eq!(json.get("b").and_then(Json::text), Some("xA"));
    }

    #[test]
    fn nesting_without_end_is_refused_where_it_gets_too_deep() {
        let broken = Json::parse(&[b'['; 10_000], 100).expect_err("too deep");

        assert_eq!((broken.rule, broken.offset), (Rule::Json, 165));
    }

    #[test]
    fn what_follows_the_document_is_refused() {
        assert!(Json::parse(b"{} {}", 0).is_err());
        assert!(Json::parse(b"{\"a\":1.5}", 0).is_err());
        assert!(Json::parse(b"\"\x01\"", 0).is_err());
    }
}

//! Bytes into values, or the rule that they break.

use std::cmp::Ordering;

use super::map::order;
use super::{Map, Value};
use crate::broken::Broken;
use crate::limits;
use crate::rule::Rule;

/// Reads exactly one value.
///
/// Memory grows with the bytes that are there, never with a length that they claim.
///
/// # Errors
///
/// [`Broken`] with a rule `V-…` and the offset of the value that breaks it.
pub fn decode(bytes: &[u8]) -> Result<Value, Broken> {
    let (value, rest) = decode_prefix(bytes)?;
    if rest.is_empty() {
        return Ok(value);
    }
    Err(Broken::new(Rule::V1).at(offset(bytes.len() - rest.len())))
}

/// Reads one value from the beginning, and hands out what follows it.
///
/// # Errors
///
/// As [`decode`], except that bytes may follow.
pub fn decode_prefix(bytes: &[u8]) -> Result<(Value, &[u8]), Broken> {
    let mut decoder = Decoder { bytes, at: 0, values: 1 };
    let value = decoder.value(limits::DEPTH)?;
    Ok((value, bytes.get(decoder.at..).unwrap_or_default()))
}

fn offset(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}

struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Values announced so far.
    values: usize,
}

impl<'a> Decoder<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Broken> {
        let start = self.at;
        let (major, argument) = self.head()?;
        match major {
            0 => Ok(Value::Int(i128::from(argument))),
            1 => Ok(Value::Int(!i128::from(argument))),
            2 => self.take(argument).map(|bytes| Value::Bytes(bytes.to_vec())),
            3 => self.text(argument).map(Value::Text),
            4 => self.list(argument, depth),
            5 => self.map(argument, depth),
            7 => match argument {
                20 => Ok(Value::Bool(false)),
                21 => Ok(Value::Bool(true)),
                22 => Ok(Value::Null),
                _ => Err(Broken::new(Rule::V5).at(offset(start))),
            },
            _ => Err(Broken::new(Rule::V5).at(offset(start))),
        }
    }

    fn list(&mut self, length: u64, depth: usize) -> Result<Value, Broken> {
        let depth = depth.checked_sub(1).ok_or_else(|| self.broken(Rule::V7))?;
        let length = self.count(length, 1)?;
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.value(depth)?);
        }
        Ok(Value::List(items))
    }

    fn map(&mut self, length: u64, depth: usize) -> Result<Value, Broken> {
        let depth = depth.checked_sub(1).ok_or_else(|| self.broken(Rule::V7))?;
        let length = self.count(length, 2)?;
        if length > limits::KEYS {
            return Err(self.broken(Rule::V8));
        }
        let mut map = Map::with_capacity(length);
        for _ in 0..length {
            let start = self.at;
            let (major, argument) = self.head()?;
            if major != 3 {
                return Err(Broken::new(Rule::V4).at(offset(start)));
            }
            let key = self.text(argument)?;
            let last = map.iter().next_back();
            if last.is_some_and(|(last, _)| order(last, &key) != Ordering::Less) {
                return Err(Broken::new(Rule::V4).at(offset(start)).path(&key));
            }
            let value = self.value(depth).map_err(|broken| broken.below(&key))?;
            map.push_last(key, value);
        }
        Ok(Value::Map(map))
    }

    /// A count of items of at least `least` bytes each, if so many can still follow.
    ///
    /// Values are counted when they are announced, so that nested lists cannot reserve the same bytes each.
    fn count(&mut self, claimed: u64, least: usize) -> Result<usize, Broken> {
        let left = (self.bytes.len() - self.at) / least;
        let claimed = usize::try_from(claimed).ok().filter(|claimed| *claimed <= left);
        let claimed = claimed.ok_or_else(|| self.broken(Rule::V9))?;
        self.values = self.values.saturating_add(claimed);
        if self.values > limits::VALUES {
            return Err(self.broken(Rule::V8));
        }
        Ok(claimed)
    }

    fn text(&mut self, length: u64) -> Result<String, Broken> {
        let start = self.at;
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Broken::new(Rule::V6).at(offset(start))),
        }
    }

    /// Major type and argument of the next head.
    fn head(&mut self) -> Result<(u8, u64), Broken> {
        let start = self.at;
        let initial = *self.take(1)?.first().ok_or_else(|| self.broken(Rule::V9))?;
        let (major, low) = (initial >> 5, initial & 0x1f);
        let argument = match low {
            0..24 => return Ok((major, u64::from(low))),
            24 => self.argument(1)?,
            25 => self.argument(2)?,
            26 => self.argument(4)?,
            27 => self.argument(8)?,
            31 if major != 7 => return Err(Broken::new(Rule::V3).at(offset(start))),
            _ => return Err(Broken::new(Rule::V5).at(offset(start))),
        };
        if major == 7 {
            return Err(Broken::new(Rule::V5).at(offset(start)));
        }
        let least = match low {
            24 => 24,
            25 => 1 << 8,
            26 => 1 << 16,
            _ => 1 << 32,
        };
        if argument < least {
            return Err(Broken::new(Rule::V2).at(offset(start)));
        }
        Ok((major, argument))
    }

    fn argument(&mut self, width: u64) -> Result<u64, Broken> {
        let bytes = self.take(width)?;
        Ok(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Broken> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| self.broken(Rule::V9))?;
        self.at += taken.len();
        Ok(taken)
    }

    fn broken(&self, rule: Rule) -> Broken {
        Broken::new(rule).at(offset(self.at))
    }
}

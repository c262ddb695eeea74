//! Points in time as metadata has them: seconds since 1970, or ISO 8601.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Reads a `created_at`. Seconds since 1970 as a number, whole or not, or as text in the forms that
/// Python's `isoformat` has; one without an offset is taken as UTC.
pub(super) fn parse(value: &Value) -> Option<SystemTime> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok().or_else(|| iso(text))?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    UNIX_EPOCH.checked_add(since)
}

/// Writes a `created_at` as this version does: seconds since 1970, to the millisecond.
pub(super) fn format(time: SystemTime) -> Value {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let rounded = Duration::new(since.as_secs(), since.subsec_millis() * 1_000_000);
    rounded.as_secs_f64().into()
}

/// `YYYY-MM-DD[T ]HH:MM[:SS[.fraction]][Z|±HH[:]MM]`, as seconds since 1970.
fn iso(text: &str) -> Option<f64> {
    let (date, rest) = text.trim().split_once(['T', ' '])?;
    let (clock, offset) = match rest.find(['Z', 'z', '+', '-']) {
        Some(at) => rest.split_at_checked(at)?,
        None => (rest, ""),
    };
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (digits(date.next()?)?, digits(date.next()?)?, digits(date.next()?)?);
    let mut clock = clock.splitn(3, ':');
    let (hour, minute) = (digits(clock.next()?)?, digits(clock.next()?)?);
    let second: f64 = clock.next().map_or(Some(0.0), |text| text.parse().ok())?;
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && (0.0..61.0).contains(&second);
    if !valid {
        return None;
    }
    let whole = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60;
    let local = f64::from(i32::try_from(whole / 60).ok()?) * 60.0 + second;
    Some(local - offset_seconds(offset)?)
}

fn offset_seconds(text: &str) -> Option<f64> {
    let (sign, rest) = match text.chars().next() {
        None | Some('Z' | 'z') => return Some(0.0),
        Some('-') => (-1.0, text.get(1..)?),
        Some(_) => (1.0, text.get(1..)?),
    };
    let plain: String = rest.chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = plain.split_at_checked(2)?;
    let minutes = if minutes.is_empty() { 0 } else { digits(minutes)? };
    let seconds = digits(hours)?.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
    Some(sign * f64::from(i32::try_from(seconds).ok()?))
}

fn digits(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, whose years start in March here so that
/// the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // 153 days in any five months from March on; 719_468 days from 0000-03-01 to 1970-01-01.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seconds(value: &Value) -> Option<f64> {
        parse(value).map(|time| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
    }

    #[test]
    fn numbers_and_iso_texts_of_the_same_moment_agree() {
        for value in [
            json!(1_768_480_496.5),
            json!("1768480496.5"),
            json!("2026-01-15T12:34:56.500"),
            json!("2026-01-15 12:34:56.5Z"),
            json!("2026-01-15T14:34:56.500000+02:00"),
            json!("2026-01-15T07:04:56.5-0530"),
        ] {
            assert_eq!(seconds(&value), Some(1_768_480_496.5), "{value}");
        }
        assert_eq!(seconds(&json!("2000-03-01T00:00:00")), Some(951_868_800.0));
        assert_eq!(seconds(&json!("2000-02-29T00:00")), Some(951_782_400.0));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for value in [
            json!(null),
            json!(-1),
            json!("yesterday"),
            json!("2026-13-01T00:00:00"),
            json!("2026-01-01T25:00:00"),
            json!("1e400"),
            json!([]),
            json!("é-01-01T00:00:00é"),
            json!("2026-01-01T00:00:00+é"),
        ] {
            assert_eq!(seconds(&value), None, "{value}");
        }
    }

    #[test]
    fn what_this_version_writes_it_reads_back_to_the_millisecond() {
        let time = UNIX_EPOCH + Duration::from_millis(1_768_480_496_123);

        assert_eq!(seconds(&format(time)), Some(1_768_480_496.123));
    }
}

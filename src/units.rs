//! What settings are made of: durations and sizes with their units (`"3s"`, `"64KiB"`), and what is wrong
//! with a value that cannot be used.

use std::time::Duration;

use jiff::SignedDuration;

/// Reads `"250ms"`, `"3s"`, `"2m"`, `"1h 30m"`.
///
/// # Errors
/// A sentence for a person: no unit, a negative length, or no duration at all.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let hint =
        || format!("`{text}` is not a duration; write it with its unit, such as \"3s\", \"250ms\" or \"2h\"");
    let parsed: SignedDuration = text.parse().map_err(|_| hint())?;
    Duration::try_from(parsed).map_err(|_| format!("`{text}` is negative; a duration cannot be"))
}

/// Reads a duration that something may take: more than nothing, at most a day.
///
/// # Errors
/// A sentence for a person.
pub fn parse_limit(text: &str) -> Result<Duration, String> {
    let limit = parse_duration(text)?;
    if limit.is_zero() || limit > Duration::from_secs(24 * 60 * 60) {
        return Err(format!("`{text}` is no limit; write more than nothing and at most \"24h\""));
    }
    Ok(limit)
}

/// Reads `"512B"`, `"64KiB"`, `"2MiB"`, `"1GiB"`; `KB`, `MB` and `GB` are powers of ten.
///
/// # Errors
/// A sentence for a person: no unit, an unknown one, or no whole number.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let hint = || {
        format!("`{text}` is not a size; write a whole number with its unit, such as \"64KiB\" or \"2MiB\"")
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().map_err(|_| hint())?;
    let scale: usize = match unit.trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(hint()),
    };
    number.checked_mul(scale).ok_or_else(hint)
}

macro_rules! with_unit {
    ($(#[$doc:meta])* $module:ident, $type:ty, $parse:path) => {
        $(#[$doc])*
        pub mod $module {
            use serde::{Deserialize, Deserializer};

            /// For `#[serde(deserialize_with)]`.
            ///
            /// # Errors
            /// A sentence for a person.
            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<$type, D::Error> {
                let text = String::deserialize(from)?;
                $parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

with_unit!(
    /// A duration as a field: `#[serde(with = "units::duration")]`.
    duration, std::time::Duration, super::parse_duration
);
with_unit!(
    /// A duration that something may take, as a field: `#[serde(with = "units::limit")]`.
    limit, std::time::Duration, super::parse_limit
);
with_unit!(
    /// A size in bytes as a field: `#[serde(with = "units::size")]`.
    size, usize, super::parse_size
);

/// A list of durations as a field: `#[serde(with = "units::durations")]`.
pub mod durations {
    use serde::{Deserialize, Deserializer};
    use std::time::Duration;

    /// For `#[serde(deserialize_with)]`.
    ///
    /// # Errors
    /// A sentence for a person.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Duration>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| super::parse_duration(text).map_err(serde::de::Error::custom)).collect()
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingProblem {
    /// The key within the destination's section, such as `url`.
    pub key: String,
    /// What is wrong. Holds no secret.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl SettingProblem {
    /// A problem with the setting `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), hint: hint.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_needed_and_understood() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert!(parse_duration("5").is_err());
        assert!(parse_duration("-5s").unwrap_err().contains("negative"));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("2MB"), Ok(2_000_000));
        assert_eq!(parse_limit("24h"), Ok(Duration::from_secs(86_400)));
        assert!(parse_limit("0s").is_err() && parse_limit("25h").is_err());
        assert!(parse_size("64").is_err());
        assert!(parse_size("64 parsecs").is_err());
    }
}

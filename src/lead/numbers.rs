//! Integers that do not fit in 64 bits: JSON allows them (RFC 8259 section 6), and our parser would round them. They are
//! identifiers, and are kept as text.

use std::borrow::Cow;

/// How many digits always fit.
const FIT: usize = 18;

/// The body with quotes around each integer that would be rounded. It is valid JSON already.
pub(super) fn with_long_ones_as_text(body: &[u8]) -> Cow<'_, [u8]> {
    let mut quoted: Option<Vec<u8>> = None;
    let (mut at, mut copied, mut in_text) = (0, 0, false);
    while let Some(byte) = body.get(at) {
        match byte {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            b'-' | b'0'..=b'9' if !in_text => {
                let is_of_number = |it: &u8| it.is_ascii_digit() || b"+-.eE".contains(it);
                let length = body[at..].iter().take_while(|it| is_of_number(it)).count();
                let number = &body[at..at + length];
                if is_rounded(number) {
                    let quoted = quoted.get_or_insert_default();
                    quoted.extend_from_slice(&body[copied..at]);
                    quoted.extend([b"\"", number, b"\""].concat());
                    copied = at + length;
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    match quoted {
        Some(mut quoted) => {
            quoted.extend_from_slice(&body[copied..]);
            Cow::Owned(quoted)
        }
        None => Cow::Borrowed(body),
    }
}

fn is_rounded(number: &[u8]) -> bool {
    let is_integer = number.iter().all(|it| it.is_ascii_digit() || *it == b'-');
    let text = std::str::from_utf8(number).unwrap_or_default();
    number.len() > FIT && is_integer && text.parse::<i64>().is_err() && text.parse::<u64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_and_what_does_not_is_text() {
        let same = r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":1.5e300,"d":"99999999999999999999\"1","e":[0,-1]}"#;
        assert!(matches!(with_long_ones_as_text(same.as_bytes()), Cow::Borrowed(_)));
        let long =
            br#"{"a":[12345678901234567890123, -99999999999999999999],"\\":"x","b":18446744073709551616}"#;
        let text = String::from_utf8(with_long_ones_as_text(long).into_owned()).unwrap();
        assert_eq!(
            text,
            r#"{"a":["12345678901234567890123", "-99999999999999999999"],"\\":"x","b":"18446744073709551616"}"#
        );
    }
}

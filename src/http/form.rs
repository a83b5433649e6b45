//! The fields of a plain form's body, urlencoded or multipart.

use axum::extract::Multipart;
use axum::http::StatusCode;
use encoding_rs::WINDOWS_1252;
use percent_encoding::percent_decode;

use super::answer::{Refusal, refusal};
use super::submit::unread;

/// The pairs of an urlencoded body (WHATWG URL, section 5.1).
pub(super) fn urlencoded(body: &[u8]) -> Vec<(String, String)> {
    let part = |part: &[u8]| {
        let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        text(percent_decode(&spaced).collect())
    };
    let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let mut sides = pair.splitn(2, |byte| *byte == b'=');
            let mut side = || part(sides.next().unwrap_or_default());
            (side(), side())
        })
        .collect()
}

/// The pairs of a multipart body (RFC 7578).
pub(super) async fn multipart(mut form: Multipart) -> Result<Vec<(String, String)>, Refusal> {
    let mut pairs = Vec::new();
    while let Some(field) = form.next_field().await.map_err(|error| unread(error.status()))? {
        let file = field.file_name().map(str::to_owned);
        let name = field.name().unwrap_or_default().to_owned();
        let value = field.bytes().await.map_err(|error| unread(error.status()))?;
        match file {
            None => pairs.push((name, text(value.into()))),
            // A file input in which nothing was chosen (HTML, "constructing the entry list", step 5.8).
            Some(file) if file.is_empty() && value.is_empty() => {}
            Some(_) => {
                return Err(refusal(StatusCode::BAD_REQUEST, "Files are not taken. Send the fields alone."));
            }
        }
    }
    Ok(pairs)
}

/// A form's text: UTF-8, or else Windows-1252, in which browsers send the forms of pages that say they are Latin-1
/// (WHATWG Encoding, section 4.2).
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| WINDOWS_1252.decode_without_bom_handling(error.as_bytes()).0.into_owned())
}

//! What a client of `POST /api/submit` is answered, in the one shape for every error.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::intake::Answer;
use crate::lead::validate::FieldErrors;

/// Why something is refused: the status, and what to do about it.
pub(super) type Refusal = (StatusCode, FieldErrors);

/// A refusal that is about the whole body or the moment.
pub(super) fn refusal(status: StatusCode, what_to_do: &str) -> Refusal {
    (status, FieldErrors { form_errors: vec![what_to_do.to_owned()], ..FieldErrors::default() })
}

/// The same, as a script reads it.
pub(super) fn refused(status: StatusCode, what_to_do: &str) -> Response {
    let (status, errors) = refusal(status, what_to_do);
    invalid(status, &errors)
}

/// Everything that is wrong with the fields.
pub(super) fn invalid(status: StatusCode, errors: &FieldErrors) -> Response {
    (status, Json(json!({ "success": false, "errors": errors }))).into_response()
}

/// The intake's answer; `shown` writes a refusal.
pub(super) fn taken(answer: Answer, shown: impl FnOnce(Refusal) -> Response) -> Response {
    match answer {
        Answer::Accepted(id) | Answer::Repeat(id) => {
            Json(json!({ "success": true, "id": id })).into_response()
        }
        Answer::Conflict => shown(refusal(
            StatusCode::UNPROCESSABLE_ENTITY,
            "This idempotency key was used before with another body. Use a new key for a new submission.",
        )),
        Answer::Unavailable { retry_after } => {
            let mut response = shown(refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "The submission could not be stored just now. Send it again in a few seconds.",
            ));
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
            response
        }
    }
}

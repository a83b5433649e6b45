//! The small pages for forms that are posted without a script.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::lead::validate::FieldErrors;

/// Whether the client is a browser that left its page: it posted a form and reads HTML.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let is_form =
        text(header::CONTENT_TYPE).is_some_and(|kind| !kind.trim_start().starts_with("application/json"));
    is_form && text(header::ACCEPT).is_some_and(|accept| accept.contains("text/html"))
}

/// Where a form without a page of its own is sent on to.
pub(super) const THANK_YOU: &str = "/thank-you";

pub(super) async fn thank_you() -> Html<String> {
    Html(page("Thank you", "<p>We have received your message and will be in touch.</p>"))
}

/// Everything that is wrong, on a page that a visitor can read.
pub(super) fn invalid(status: StatusCode, errors: &FieldErrors) -> Response {
    let mut list = String::new();
    for message in &errors.form_errors {
        list.push_str(&format!("<li>{}</li>", escaped(message)));
    }
    for (field, messages) in &errors.field_errors {
        for message in messages {
            list.push_str(&format!("<li><b>{}</b>: {}</li>", escaped(&label(field)), escaped(message)));
        }
    }
    let body = format!(
        "<ul>{list}</ul><p><a href=\"javascript:history.back()\">Go back and correct it</a>; what you typed is still there.</p>"
    );
    (status, Html(page("This could not be sent", &body))).into_response()
}

/// `source.url` as a visitor would say it.
fn label(field: &str) -> String {
    let mut words = field.rsplit('.').next().unwrap_or(field).replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <style>:root{{color-scheme:light dark}}body{{font:17px/1.6 system-ui,sans-serif;max-width:34rem;\
         margin:18vh auto 0;padding:0 1.5rem}}h1{{font-size:1.6rem;line-height:1.2}}li{{margin:.3rem 0}}</style>\
         <h1>{title}</h1>{body}</html>"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

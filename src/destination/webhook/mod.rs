//! A webhook: the lead as JSON, posted to any URL. Zapier and Make are webhooks with a few ways of
//! their own.
//!
//! A repeat carries the same `webhook-id` (Standard Webhooks 1.0.0), so a receiver can drop it. Where
//! the receiver does not, a doubled call beats a lost lead.

mod fault;
pub mod settings;
pub mod signature;

use async_trait::async_trait;
use reqwest::Request;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use super::{Destination, Parcel};
use crate::delivery::{DeliveryError, Receipt};
use crate::net::Net;
pub use settings::{Flavour, Parsed, Settings};

/// A place that leads are posted to.
pub struct Webhook {
    parsed: Parsed,
    net: Net,
}

impl Webhook {
    /// A webhook that calls through `net`.
    pub fn new(parsed: Parsed, net: Net) -> Self {
        Self { parsed, net }
    }

    /// The body: the lead as it was accepted, flat, and the server's fields.
    fn body(&self, parcel: &Parcel<'_>) -> Result<Vec<u8>, DeliveryError> {
        let unreadable = |error: serde_json::Error| {
            DeliveryError::rejected("not_json", "The lead cannot be written as JSON.").with_source(error)
        };
        let mut body = serde_json::to_value(parcel.lead.as_ref()).map_err(unreadable)?;
        if let Value::Object(fields) = &mut body {
            // For receivers that see the body alone and want to drop repeats.
            fields.insert("event_id".to_owned(), json!(parcel.delivery.event_id()));
            if self.parsed.timestamp {
                fields.insert("timestamp".to_owned(), json!(parcel.now));
            }
        }
        serde_json::to_vec(&body).map_err(unreadable)
    }

    fn request(&self, parcel: &Parcel<'_>) -> Result<Request, DeliveryError> {
        let body = self.body(parcel)?;
        let id = parcel.delivery.event_id();
        let seconds = parcel.now.as_second();
        let signatures: Vec<_> = self.parsed.keys.iter().map(|key| key.sign(&id, seconds, &body)).collect();
        let mut request = Request::new(reqwest::Method::POST, self.parsed.url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut ours = vec![("webhook-id", id), ("webhook-timestamp", seconds.to_string())];
        if !signatures.is_empty() {
            ours.push(("webhook-signature", signatures.join(" ")));
        }
        for (name, value) in ours {
            headers.insert(name, HeaderValue::try_from(value).expect("an id and base64 are plain ASCII"));
        }
        headers.extend(self.parsed.headers.clone());
        *request.body_mut() = Some(body.into());
        Ok(request)
    }
}

#[async_trait]
impl Destination for Webhook {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        let request = self.request(&parcel)?;
        match self.net.send(request, parcel.deadline).await {
            Ok(answer) => fault::judge(&answer, &self.parsed, parcel.now),
            Err(lost) => Err(fault::lost(lost)),
        }
    }

    /// The settings are whole. Whether the receiver takes leads, only a lead can tell.
    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

//! From the submit to the hook: leads a second that are accepted, posted to one webhook and settled.

use std::time::{Duration, Instant};

use super::service::Service;
use super::vendor::{Manner, Vendor};
use super::{Row, load};

const LEADS: usize = 40_000;

const CONNECTIONS: usize = 128;

pub(crate) async fn rows() -> Vec<Row> {
    let vendor = Vendor::start(Manner::Answers(Duration::ZERO, "{}")).await;
    let service = Service::start(None, &[("CRM_WEBHOOK_URL", &vendor.url())]).await;
    // What is made once is made before.
    let first = load::many(service.address, CONNECTIONS, Duration::from_secs(5), 2_000).await;
    vendor.until(first).await;
    let (began, worked) = (Instant::now(), service.processor_time());
    let posted = load::many(service.address, CONNECTIONS, Duration::from_secs(60), LEADS).await;
    let accepted = began.elapsed();
    vendor.until(first + posted).await;
    let there = began.elapsed();
    let rate = |length: Duration| posted as f64 / length.as_secs_f64();
    let cost = (service.processor_time() - worked).as_secs_f64() * 1e6 / posted as f64;
    let measured = format!(
        "{:.0} a second (accepted at {:.0} a second; {cost:.0} µs of the processors a lead, load generator and hook included)",
        rate(there),
        rate(accepted)
    );
    vec![Row::new("submit to hook, one webhook, SQLite", measured, "10,000 a second")]
}

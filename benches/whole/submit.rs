//! How much longer a visitor waits than the slowest inline vendor takes: 100 leads a second, two mails each, and the
//! vendor asked directly at the same time.

use std::time::Duration;

use super::service::Service;
use super::vendor::{Manner, Vendor};
use super::{Row, load};

const VENDOR: Duration = Duration::from_millis(50);

const PER_SECOND: usize = 100;

const LENGTH: Duration = Duration::from_secs(12);

pub(crate) async fn rows() -> Vec<Row> {
    let taken = r#"{"To":"a@example.com","ErrorCode":0,"Message":"OK","MessageID":"b7bc2f4a-e38e-4336-af7d-e6c392c2f817"}"#;
    let vendor = Vendor::start(Manner::Answers(VENDOR, taken)).await;
    let variables = [
        ("LEAD_INTAKE__MAIL__TRANSPORT", "postmark"),
        ("LEAD_INTAKE__MAIL__API_KEY", "11111111-2222-3333-4444-555555555555"),
        ("LEAD_INTAKE__MAIL__BASE_URL", &vendor.url()),
        ("EMAIL_FROM", "leads@example.org"),
        ("EMAIL_NOTIFY_TO", "team@example.org"),
        ("LEAD_INTAKE__DESTINATIONS__CONFIRMATION__PER_DAY", "0"),
    ];
    let service = Service::start(None, &variables).await;
    load::steadily(service.address, load::request(), PER_SECOND, Duration::from_secs(1)).await;
    let directly = load::post_of("/email", "{}");
    let ((submits, bad), (calls, _)) = tokio::join!(
        load::steadily(service.address, load::request(), PER_SECOND, LENGTH),
        load::steadily(vendor.address, directly, PER_SECOND, LENGTH),
    );
    assert_eq!(bad, 0, "every submit is answered 200");
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e3;
    let row = |percent: usize| {
        let (ours, theirs) = (at(&submits, percent), at(&calls, percent));
        Row::new(
            format!("p{percent} of a submit at {PER_SECOND} a second, two mails inline"),
            format!("{ours:.1} ms, the vendor's own {theirs:.1} ms: {:.1} ms more", ours - theirs),
            "5 ms more",
        )
    };
    vec![row(50), row(99)]
}

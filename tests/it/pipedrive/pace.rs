//! How fast Pipedrive may be called.

use stand_ins::api::Fault;
use stand_ins::pipedrive::{self, too_many};

use super::{LEAD, NOTE, PERSON, SEARCH, codes, from, made, service};
use crate::support::ada;

#[tokio::test]
async fn a_pause_that_pipedrive_asks_for_holds_everybody() {
    for (on, fault, code, least, most) in [
        (SEARCH, too_many(&[("x-ratelimit-reset", "120")]), "pipedrive_429", 119, 121),
        (LEAD, too_many(&[("retry-after", "600")]), "pipedrive_429", 599, 601),
        // The later of the two.
        (LEAD, too_many(&[("x-ratelimit-reset", "20"), ("retry-after", "600")]), "pipedrive_429", 599, 601),
        (LEAD, too_many(&[("x-ratelimit-reset", "600"), ("retry-after", "20")]), "pipedrive_429", 599, 601),
        (LEAD, too_many(&[]), "pipedrive_429", 1, 3),
        (LEAD, too_many(&[("x-daily-ratelimit-token-remaining", "0")]), "pipedrive_daily_budget", 59, 87_200),
        (NOTE, too_many(&[("x-daily-requests-left", "0")]), "pipedrive_daily_budget", 59, 87_200),
        (PERSON, Fault::html(403), "pipedrive_shut_out", 899, 901),
    ] {
        let vendor = pipedrive::start().await;
        vendor.next(on, fault.clone());
        let service = service(&vendor, &[]).await;
        let id = service.accepted(&ada()).await;
        let line = service.until_logged("attempt failed").await;
        let wait = line["retry_in_s"].as_u64().unwrap();
        assert!(line["code"] == code && (least..=most).contains(&wait), "{fault:?}: {line}");
        assert_eq!(line["outcome"], "transient", "it was surely not done: {fault:?}");
        if least > 10 {
            let second = service.accepted(&from("other@example.com")).await;
            assert_eq!(service.delivery(&second, "pipedrive").await["attempts"], 0, "the lane is held");
            assert_eq!(service.delivery(&id, "pipedrive").await["state"], "pending");
        } else {
            service.until_state(&id, "pipedrive", "delivered").await;
            assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1));
        }
    }
}

#[tokio::test]
async fn a_day_s_budget_that_is_used_up_in_the_middle_stops_there() {
    let vendor = pipedrive::start().await;
    vendor.vendor().tokens = 30;
    let service = service(&vendor, &[]).await;
    let id = service.accepted(&ada()).await;
    service.until_logged("attempt failed").await;
    let delivery = service.delivery(&id, "pipedrive").await;
    assert_eq!(codes(&delivery), ["pipedrive_daily_budget"]);
    assert!(delivery["history"][0]["detail"].as_str().unwrap().contains("midnight UTC"));
    assert_eq!(made(&vendor, "ada@example.com", &id), (1, 0, 0));
}

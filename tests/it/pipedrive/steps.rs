//! Steps that were saved before a process died or an attempt failed.

use stand_ins::api::Fault;
use stand_ins::pipedrive::{self, refuse};

use super::{DEAL, LEAD, NOTE, PERSON, SEARCH, codes, count, from, made, service};
use crate::support::{ada, soon};

#[tokio::test]
async fn a_kill_at_any_step_goes_on_after_the_last_one_that_was_saved() {
    for (create, on, before) in [
        ("lead", PERSON, vec![SEARCH, PERSON]),
        ("lead", LEAD, vec![SEARCH, PERSON, LEAD]),
        ("deal", DEAL, vec![SEARCH, PERSON, DEAL]),
        ("lead", NOTE, vec![SEARCH, PERSON, LEAD, NOTE]),
    ] {
        let vendor = pipedrive::start().await;
        vendor.vendor().search_lags = true;
        vendor.next(on, Fault::ApplyThenHang);
        let mut service = service(&vendor, &[("CREATE", create), ("TIMEOUT", "2s")]).await;
        let id = service.accepted(&ada()).await;
        let calls = soon(vendor.until(|calls| calls.last().is_some_and(|call| call.line() == on))).await;
        assert_eq!(calls.iter().map(stand_ins::api::Call::line).collect::<Vec<_>>(), before);
        service.kill().await;
        // Its lease is a due date in the future, and its turn ends in seconds; the test does not wait for them.
        let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
        store.execute("DELETE FROM turns", []).unwrap();
        assert_eq!(store.execute("UPDATE deliveries SET due_at = 0 WHERE state = 'pending'", []).unwrap(), 1);
        drop(store);
        let again = service.again().await;
        let delivery = again.until_state(&id, "pipedrive", "delivered").await;
        assert_eq!(codes(&delivery)[0], "lost");
        assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1), "{on}");
        for line in before {
            let most = if line == SEARCH && on == PERSON { 2 } else { 1 };
            assert_eq!(count(&vendor, line), most, "{line} after a kill in {on}");
        }
    }
}

#[tokio::test]
async fn a_step_that_is_done_is_not_done_again() {
    for (create, item) in [("lead", LEAD), ("deal", DEAL)] {
        let vendor = pipedrive::start().await;
        let service = service(&vendor, &[("CREATE", create)]).await;
        for (number, fault) in [refuse(500, "x"), refuse(422, "x")].into_iter().enumerate() {
            let address = format!("a{number}@example.com");
            vendor.next(NOTE, Fault::Answer(fault));
            let id = service.accepted(&from(&address)).await;
            if number == 1 {
                service.until_state(&id, "pipedrive", "dead").await;
                service.cli(&["deliveries", "replay", "--state", "dead", "--yes"]).await;
            }
            service.until_state(&id, "pipedrive", "delivered").await;
            assert_eq!(made(&vendor, &address, &id), (1, 1, 1), "{create}");
        }
        assert_eq!([SEARCH, PERSON, item, NOTE].map(|line| count(&vendor, line)), [2, 2, 2, 4], "{create}");
    }
}

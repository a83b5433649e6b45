//! The calls: one at a time, each judged, each no longer than Pipedrive is given.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::fault::{self, Asked, Named};
use super::pace::Streak;
use super::settings::Parsed;
use crate::clock::{Timestamp, after, until};
use crate::delivery::{DeliveryError, Fault, LONGEST_WAIT};
use crate::destination::api::{Api, Call, NoReply, Reply};
use crate::destination::commons::Ours;
use crate::net::Net;

/// The longest that one call may take.
pub(super) const LONGEST_CALL: Duration = Duration::from_secs(30);

/// How many entries a page of a list has: of the 500 that version 2 gives, so many that they fit in what is read of an
/// answer, with ten kilobytes for each.
const PAGE: &str = "100";

/// How many entries a page of one of version 1's lists has: a note can have 100 KB.
const OLD_PAGE: u64 = 10;

/// Pipedrive's API.
pub(super) struct Client {
    api: Api,
    streak: Streak,
    named: Named,
    settle: Duration,
    /// What Pipedrive's clock said in its latest answer, and when that was heard.
    clock: Mutex<Option<(Timestamp, Instant)>>,
}

/// When an attempt is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The wall clock at its start.
    pub(super) now: Timestamp,
    /// The steady clock at its start.
    pub(super) began: Instant,
    /// When it must be over.
    pub(super) deadline: Instant,
}

impl Moment {
    /// The wall clock's time.
    pub(super) fn wall(&self) -> Timestamp {
        after(self.now, self.began.elapsed())
    }

    /// When a call that begins now must be over.
    pub(super) fn call_ends(&self) -> Instant {
        self.deadline.min(Instant::now() + LONGEST_CALL)
    }
}

impl Client {
    /// A client that calls through `net`.
    pub(super) fn new(parsed: &Parsed, net: Net, ours: Ours) -> Self {
        // The settings were believed: such a token can stand in a header.
        let api = Api::new(net, parsed.base_url.clone(), ("x-api-token", parsed.token.expose()), ours)
            .expect("a token is visible ASCII");
        Self {
            api,
            streak: Streak::default(),
            named: Named::of(parsed),
            settle: parsed.settle,
            clock: Mutex::default(),
        }
    }

    /// A moment of our clock as a moment of Pipedrive's. What Pipedrive has bears its own times, and ours may be wrong
    /// by hours. It may have been wrong in another way when it gave the moment: one that is still to come can be any
    /// moment of the longest wait.
    pub(super) fn by_their_clock(&self, moment: Timestamp, on: Moment) -> Timestamp {
        let now = on.wall();
        let ago = if moment <= now { until(moment, now) } else { LONGEST_WAIT };
        let theirs = self.their_clock(on);
        theirs.checked_sub(ago).unwrap_or(theirs)
    }

    /// What Pipedrive's clock says; ours, where it has said nothing yet.
    pub(super) fn their_clock(&self, on: Moment) -> Timestamp {
        let said = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        said.map_or_else(|| on.wall(), |(said, heard)| after(said, heard.elapsed()))
    }

    /// Asks; nothing is changed.
    pub(super) async fn read(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        moment: Moment,
    ) -> Result<Value, DeliveryError> {
        self.call(Call::get(path).with(query), Asked::Question, moment).await.map_err(|(_, error)| error)
    }

    /// Asks for one thing; `None`: it is not there, or no longer.
    pub(super) async fn one(&self, path: &[&str], moment: Moment) -> Result<Option<Value>, DeliveryError> {
        match self.call(Call::get(path), Asked::Question, moment).await {
            Ok(mut answer) => {
                let gone = answer["data"]["is_deleted"] == true;
                Ok(Some(answer["data"].take()).filter(|data| data.is_object() && !gone))
            }
            // A gateway's page is not Pipedrive's word.
            Err((Some(404), error)) if error.fault == Fault::Rejected => Ok(None),
            Err((_, error)) => Err(error),
        }
    }

    /// Creates something; its id.
    pub(super) async fn create(
        &self,
        path: &[&str],
        body: &Value,
        moment: Moment,
    ) -> Result<String, DeliveryError> {
        self.create_after(async { Ok(()) }, path, body, moment).await
    }

    /// Creates something; its id. `before` is done once the call is about to be made, and may keep it from being made.
    pub(super) async fn create_after(
        &self,
        before: impl Future<Output = Result<(), DeliveryError>> + Send,
        path: &[&str],
        body: &Value,
        moment: Moment,
    ) -> Result<String, DeliveryError> {
        let asked = Asked::Creation { settle: self.settle };
        let call = Call::send(Method::POST, path, body);
        self.api.leave(moment.call_ends()).await.map_err(|no_reply| lost(no_reply, asked))?;
        before.await?;
        let began = Instant::now();
        let replied = self.api.call_now(call, moment.now, moment.call_ends()).await;
        let answer = self.heard(replied, asked, moment, began).map_err(|(_, error)| error)?;
        match &answer["data"]["id"] {
            Value::String(id) if !id.is_empty() => Ok(id.clone()),
            Value::Number(id) => Ok(id.to_string()),
            _ => Err(asked.unsure(
                "pipedrive_no_id",
                "Pipedrive said yes, but not what it created. That is looked for, and created if it is not there.",
                Duration::ZERO,
            )),
        }
    }

    /// Everything in a list of version 2 (pages by cursor), until `take` has had enough.
    pub(super) async fn list(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        moment: Moment,
        mut take: impl FnMut(&Value),
    ) -> Result<(), DeliveryError> {
        let mut cursor = None::<String>;
        loop {
            let mut query = [query, &[("limit", PAGE)]].concat();
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let answer = self.read(path, &query, moment).await?;
            entries(&answer).for_each(&mut take);
            let next = answer["additional_data"]["next_cursor"].as_str().filter(|next| !next.is_empty());
            match next {
                // The same place again would never end.
                Some(next) if cursor.as_deref() != Some(next) => cursor = Some(next.to_owned()),
                _ => return Ok(()),
            }
        }
    }

    /// Everything in a list of version 1 (pages by number).
    pub(super) async fn old_list(
        &self,
        path: &[&str],
        (name, id): (&str, &str),
        moment: Moment,
        mut take: impl FnMut(&Value),
    ) -> Result<(), DeliveryError> {
        let mut start = 0;
        loop {
            let (from, most) = (start.to_string(), OLD_PAGE.to_string());
            let answer = self.read(path, &[(name, id), ("start", &from), ("limit", &most)], moment).await?;
            entries(&answer).for_each(&mut take);
            let pages = &answer["additional_data"]["pagination"];
            if pages["more_items_in_collection"] != true {
                return Ok(());
            }
            start = pages["next_start"].as_u64().filter(|next| *next > start).unwrap_or(start + OLD_PAGE);
        }
    }

    /// Makes a call and judges its answer; an error comes with the status, where there was one.
    async fn call(
        &self,
        call: Call<'_>,
        asked: Asked,
        moment: Moment,
    ) -> Result<Value, (Option<u16>, DeliveryError)> {
        let began = Instant::now();
        let replied = self.api.call(call, moment.now, moment.call_ends()).await;
        self.heard(replied, asked, moment, began)
    }

    /// Judges what came of a call.
    fn heard(
        &self,
        replied: Result<Reply, NoReply>,
        asked: Asked,
        moment: Moment,
        began: Instant,
    ) -> Result<Value, (Option<u16>, DeliveryError)> {
        match replied {
            Ok(reply) => {
                let date = reply.header("date").and_then(|date| httpdate::parse_http_date(date).ok());
                if let Some(said) = date.and_then(|date| Timestamp::try_from(date).ok()) {
                    *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some((said, Instant::now()));
                }
                let status = fault::status(&reply);
                self.judge(reply, asked, moment, began).map_err(|error| (Some(status), error))
            }
            Err(no_reply) => Err((None, lost(no_reply, asked))),
        }
    }

    fn judge(
        &self,
        reply: Reply,
        asked: Asked,
        moment: Moment,
        began: Instant,
    ) -> Result<Value, DeliveryError> {
        if fault::says_too_many(&reply) {
            let in_a_row = self.streak.refused(began);
            let rest = super::pace::rest(&reply, in_a_row, moment.wall(), fastrand::f64());
            return Err(self.resting(rest.error()));
        }
        self.streak.answered();
        if let Some(rest) = super::pace::used_up(&reply) {
            self.api.rest_all(rest);
        }
        fault::judge(reply, asked, &self.named).map_err(|error| self.resting(error))
    }

    /// What holds the lane also holds the calls of the attempts that are under way.
    fn resting(&self, error: DeliveryError) -> DeliveryError {
        if let Some(hold) = error.hold_lane {
            self.api.rest(hold);
        }
        error
    }
}

/// The entries of a list, whichever way it is wrapped.
fn entries(answer: &Value) -> impl Iterator<Item = &Value> {
    let data = &answer["data"];
    data.as_array().or_else(|| data["items"].as_array()).into_iter().flatten()
}

/// Judges an answer that did not come.
fn lost(no_reply: NoReply, asked: Asked) -> DeliveryError {
    let mut error = no_reply.into_error("Pipedrive");
    if let Fault::Unknown { look_after } = &mut error.fault {
        match asked {
            Asked::Creation { settle } => *look_after = settle,
            Asked::Question => {
                error.fault = Fault::Transient { retry_after: None };
                "Pipedrive did not answer a question, which changes nothing there. It is asked again."
                    .clone_into(&mut error.detail);
            }
        }
    }
    error
}

//! Whether the token is known, and what the configuration names is there. Nothing is created.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::time::Instant;

use super::client::{Client, LONGEST_CALL, Moment};
use super::custom::Custom;
use super::settings::Parsed;
use crate::clock::Clock;
use crate::delivery::DeliveryError;

/// Asks Pipedrive.
pub(super) async fn check(client: &Client, parsed: &Parsed) -> Result<(), DeliveryError> {
    let began = Instant::now();
    let moment = Moment { now: Clock::system().now(), began, deadline: began + LONGEST_CALL };
    client.read(&["v1", "users", "me"], &[], moment).await?;
    if let Some(pipeline) = parsed.pipeline_id {
        let pipelines = ids(client, "pipelines", moment).await?;
        if !pipelines.iter().any(|(id, _)| *id == pipeline) {
            return Err(missing("pipeline_id", pipeline, "pipelines", &pipelines));
        }
    }
    if let Some(stage) = parsed.stage_id {
        let stages = ids(client, "stages", moment).await?;
        let Some((_, found)) = stages.iter().find(|(id, _)| *id == stage) else {
            return Err(missing("stage_id", stage, "stages", &stages));
        };
        if let Some(pipeline) = parsed.pipeline_id
            && found["pipeline_id"].as_u64().is_some_and(|of| of != pipeline)
        {
            let of_it: Vec<_> = stages.into_iter().filter(|(_, it)| it["pipeline_id"] == pipeline).collect();
            return Err(DeliveryError::blocked(
                "bad_stage_id",
                format!(
                    "`stage_id` {stage} is a stage of another pipeline than `pipeline_id` {pipeline}. That has the stages {}.",
                    told(&of_it)
                ),
            ));
        }
    }
    fields(client, "personFields", ("person_fields", &parsed.person_fields), moment).await?;
    fields(client, "dealFields", ("deal_fields", &parsed.deal_fields), moment).await
}

async fn ids(client: &Client, list: &str, moment: Moment) -> Result<Vec<(u64, Value)>, DeliveryError> {
    let mut found = Vec::new();
    let take = |it: &Value| found.extend(it["id"].as_u64().map(|id| (id, it.clone())));
    client.list(&["api", "v2", list], &[], moment, take).await?;
    Ok(found)
}

/// Whether the custom fields are there.
async fn fields(
    client: &Client,
    list: &str,
    (key, fields): (&str, &BTreeMap<String, Custom>),
    moment: Moment,
) -> Result<(), DeliveryError> {
    if fields.is_empty() {
        return Ok(());
    }
    let mut known = Vec::new();
    let take = |it: &Value| known.extend(it["field_code"].as_str().map(str::to_owned));
    client.list(&["api", "v2", list], &[], moment, take).await?;
    match fields.keys().find(|code| !known.contains(code)) {
        Some(code) => Err(DeliveryError::blocked(
            format!("bad_{key}"),
            format!(
                "Pipedrive has no field {code}, which `{key}` fills. Take its key from Company settings, Data fields."
            ),
        )),
        None => Ok(()),
    }
}

fn missing(key: &str, id: u64, list: &str, there: &[(u64, Value)]) -> DeliveryError {
    DeliveryError::blocked(
        format!("bad_{key}"),
        format!(
            "`{key}` is {id}, and there is none such in this Pipedrive. It has the {list} {}.",
            told(there)
        ),
    )
}

/// `1 (Sales), 2 (Support)`
fn told(there: &[(u64, Value)]) -> String {
    let names = there.iter().map(|(id, it)| match it["name"].as_str() {
        Some(name) => format!("{id} ({name})"),
        None => id.to_string(),
    });
    names.collect::<Vec<_>>().join(", ")
}

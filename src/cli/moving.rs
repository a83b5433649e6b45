//! `lead-intake migrate --from … --to …`: a whole store into another. What is promised stands in
//! [`crate::store::moving`].

use serde_json::json;

use super::progress::Meter;
use super::{Common, Failure, is_there, print_json, table};
use crate::report::Chain;
use crate::secret::Secret;
use crate::store::moving::{self, Moved};
use crate::store::{Settings, StoreError, connect};

pub(super) async fn run(common: &Common, from: Option<Secret>, to: Option<Secret>) -> Result<(), Failure> {
    let (from, to) = match (from, to) {
        (Some(from), Some(to)) => (place("--from", from)?, place("--to", to)?),
        (Some(from), None) => (place("--from", from)?, common.store_settings()?),
        (None, Some(to)) => (common.store_settings()?, place("--to", to)?),
        (None, None) => return Ok(()),
    };
    if from.is_same(&to) {
        return Err(Failure::Usage(format!(
            "source and target are the same: {}; name two stores with --from and --to",
            from.place_name()
        )));
    }
    let there = from.is_there().await.map_err(|error| named("--from", &error));
    if !there? {
        is_there(&from, "let --from (or DATABASE_URL) name the store to move").await?;
    }
    let source = connect::open_to_move(&from).await.map_err(|error| named("--from", &error))?;
    let target = match connect::open_to_move(&to).await {
        Ok(target) => target,
        Err(error) => {
            source.close().await;
            return Err(named("--to", &error));
        }
    };
    let mut meter = Meter::new();
    let moved = moving::run(source.as_ref(), target.as_ref(), &mut |progress| meter.tell(progress)).await;
    meter.end();
    source.close().await;
    target.close().await;
    report(common, &from, &to, &moved?)
}

/// A URL that was given as an argument.
fn place(argument: &str, url: Secret) -> Result<Settings, Failure> {
    let settings = Settings::of(url);
    match settings.problems().first() {
        Some(problem) => Err(Failure::Usage(format!("{argument}: {}; {}", problem.message, problem.hint))),
        None => Ok(settings),
    }
}

/// What is wrong with one of the two stores, in the words of this command.
fn named(argument: &str, error: &StoreError) -> Failure {
    let said = Chain(error).to_string().replace("store.url (DATABASE_URL)", argument);
    Failure::Because(format!("{argument}: {}", said.replace("store.url", argument)))
}

fn report(common: &Common, from: &Settings, to: &Settings, moved: &Moved) -> Result<(), Failure> {
    let Moved { written, unchanged, comparison } = moved;
    let difference = comparison.difference.as_ref();
    if common.json {
        let tables = comparison.tables.iter().map(|it| {
            let side = |sum: moving::Sum| json!({ "rows": sum.rows, "digest": sum.to_string() });
            json!({ "table": it.table, "from": side(it.from), "to": side(it.to) })
        });
        print_json(&json!({
            "written": written, "unchanged": unchanged, "same": difference.is_none(),
            "difference": difference.map(ToString::to_string),
            "first_lead": difference.and_then(moving::Difference::lead),
            "tables": tables.collect::<Vec<_>>(),
        }))?;
    } else {
        say!("From {}\nto   {}:", from.place_name(), to.place_name());
        let written = table::counted(*written, "lead was", "leads were");
        say!("{written} written; {unchanged} needed nothing.\n");
        let rows = comparison.tables.iter().map(|it| {
            let is = if it.from == it.to { "same" } else { "NOT THE SAME" };
            let digest = it.from.to_string().chars().take(16).collect();
            vec![it.table.to_owned(), it.from.rows.to_string(), it.to.rows.to_string(), digest, is.to_owned()]
        });
        table::print(&["TABLE", "FROM", "TO", "DIGEST", ""], &rows.collect::<Vec<_>>());
        say!("");
    }
    match difference {
        None if common.json => Ok(()),
        None => {
            say!("Both hold the same. If a service still works on the source, stop it and run");
            say!("this command again; then start the service on the target.");
            Ok(())
        }
        Some(difference) => Err(Failure::Because(format!(
            "source and target are not the same: {difference}. If a service works on the source, stop it and run this command again"
        ))),
    }
}

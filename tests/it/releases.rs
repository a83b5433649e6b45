//! A store that a release before or after this one has worked in.

use lead_intake::clock::Clock;
use lead_intake::secret::Secret;
use lead_intake::store::{Settings, connect};

use crate::support::postgres::{is_here, shared};
use crate::support::{Service, ada, binary};

/// A store of each engine, with a folder for a file.
struct Kept {
    url: String,
    folder: tempfile::TempDir,
}

impl Kept {
    async fn of_every_engine() -> Vec<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut all =
            vec![Self { url: format!("sqlite://{}", folder.path().join("leads.db").display()), folder }];
        if is_here() {
            all.push(Self { url: shared().database().await, folder: tempfile::tempdir().unwrap() });
        }
        for kept in &all {
            let settings = Settings::of(Secret::new(kept.url.clone()));
            connect::open(&settings, Clock::system()).await.unwrap().close().await;
        }
        all
    }

    /// What another release does to it.
    async fn script(&self, sql: &str) {
        match self.url.strip_prefix("sqlite://") {
            Some(path) => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
            None => {
                let name = self.url.split(['/', '?']).nth(3).unwrap();
                shared().connect(name).await.batch_execute(sql).await.unwrap();
            }
        }
    }

    /// Runs a command on it: how it ends, and what it says.
    async fn run(&self, arguments: &[&str]) -> (i32, String) {
        let ended = binary(self.folder.path(), &[("DATABASE_URL", &self.url)])
            .args(arguments)
            .output()
            .await
            .unwrap();
        let said = [ended.stdout, ended.stderr].concat();
        (ended.status.code().unwrap(), String::from_utf8(said).unwrap())
    }
}

#[tokio::test]
async fn who_only_looks_leaves_an_earlier_release_s_schema_as_it_is() {
    for store in Kept::of_every_engine().await {
        store.script("DROP INDEX turns_by_end; DELETE FROM migrations WHERE name LIKE '0006%'").await;
        // Twice: the first has changed nothing.
        for _ in 0..2 {
            for command in [["leads", "list"], ["deliveries", "list"], ["leads", "export"]] {
                let (code, said) = store.run(&command).await;
                assert!(
                    code == 1 && said.contains("run `lead-intake migrate`"),
                    "{command:?} {code}: {said}"
                );
            }
            let (code, said) = store.run(&["check"]).await;
            assert!(code == 0 && said.contains("`lead-intake serve` brings it up to date"), "{code}: {said}");
        }
        assert_eq!(store.run(&["migrate"]).await.0, 0);
        assert_eq!(store.run(&["leads", "list"]).await, (0, "No leads.\n".to_owned()));
        let (code, said) = store.run(&["check"]).await;
        assert!(code == 0 && !said.contains("release"), "{code}: {said}");
    }
}

#[tokio::test]
async fn a_newer_release_may_have_been_here_as_long_as_it_left_what_this_one_works_with() {
    for store in Kept::of_every_engine().await {
        let came = |name| format!("INSERT INTO migrations SELECT '{name}', digest FROM migrations LIMIT 1");
        store
            .script("ALTER TABLE leads ADD COLUMN later TEXT; ALTER TABLE deliveries ADD COLUMN later TEXT")
            .await;
        store.script(&came("9998_later")).await;
        // This release's last migration is 0006.
        store.script(&came("9998_without_what_once_was_ends_0005")).await;
        let mut service = Service::start(&[("DATABASE_URL", &store.url)]).await;
        assert_eq!(service.submit(&ada()).await.0, 200);
        assert_eq!(service.terminate().await, 0);
        let (code, said) = store.run(&["leads", "list"]).await;
        assert!(code == 0 && said.contains("ada@example.com"), "{code}: {said}");
        assert_eq!(store.run(&["migrate"]).await.0, 0);
        // A move would leave behind what it does not know.
        let target = format!("sqlite://{}", store.folder.path().join("copy.db").display());
        let (code, said) = store.run(&["migrate", "--to", &target]).await;
        assert!(code == 1 && said.contains("--from: the store cannot be opened: a newer release"), "{said}");

        store.script(&came("9999_without_what_is_ends_0006")).await;
        for command in [&["leads", "list"][..], &["check"], &["migrate"], &["serve"]] {
            let (code, said) = store.run(command).await;
            assert!(
                code == 1 && said.contains("a newer release of lead-intake has changed it"),
                "{code}: {said}"
            );
        }
    }
}

//! Who may know whom, read from the source itself.

use std::path::{Path, PathBuf};

/// The floors of the house, from the ground up: a module may import from its own floor and from below.
/// A longer path wins over a shorter one.
const FLOORS: [(&str, u8); 28] = [
    ("clock", 0),
    ("id", 0),
    ("secret", 0),
    ("report", 0),
    ("units", 0),
    ("net", 1),
    ("telemetry", 1),
    ("lead", 1),
    ("delivery", 2),
    ("destination", 3),
    ("store", 3),
    ("dispatch", 4),
    ("intake", 4),
    ("destination/webhook", 5),
    ("destination/google_sheets", 5),
    ("destination/email", 5),
    ("destination/hubspot", 5),
    ("destination/pipedrive", 5),
    ("destination/registry", 6),
    ("store/postgres", 5),
    ("store/sqlite", 5),
    ("store/connect", 6),
    ("http", 5),
    ("config", 7),
    ("app", 8),
    ("demo", 9),
    ("cli", 10),
    ("main", 11),
];

/// Who may name what, and what to do instead.
const RESERVED: [(&str, &[&str], &str); 10] = [
    ("axum::", &["http/", "app.rs", "demo/"], "answers over HTTP are made in http/"),
    ("tokio_postgres::", &["store/postgres/"], "ask the Store"),
    ("rusqlite::", &["store/sqlite/"], "ask the Store"),
    ("reqwest::", &["net.rs", "destination/"], "call through net::Net"),
    ("lettre::", &["destination/email/"], "mail is sent by destination/email"),
    ("google_sheets4::", &["destination/google_sheets/"], "the sheet is destination/google_sheets"),
    ("yup_oauth2::", &["destination/google_sheets/"], "the sheet is destination/google_sheets"),
    ("std::env::", &["config/load.rs"], "settings come from Config"),
    ("tokio::spawn(", &[], "spawn on the task tracker that app.rs hands out"),
    ("Timestamp::now(", &["clock.rs"], "ask a Clock"),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn source() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root).into_iter();
    files
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            // What a module's own tests use is their own affair.
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
            (name, text)
        })
        .collect()
}

fn floor(module: &str) -> Option<u8> {
    let fits =
        |name: &str| module == name || module.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
    FLOORS.iter().filter(|(name, _)| fits(name)).max_by_key(|(name, _)| name.len()).map(|(_, floor)| *floor)
}

/// Every `crate::a::b` in a text, as `a/b`.
fn imports(text: &str) -> Vec<String> {
    let code =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let path: String = rest.chars().take_while(|it| it.is_alphanumeric() || "_:".contains(*it)).collect();
        let base = path.trim_end_matches(':').replace("::", "/");
        match rest[path.len()..].strip_prefix('{').and_then(|list| list.split_once('}')) {
            Some((list, _)) => {
                let names = list.split(',').map(|name| name.trim().split("::").next().unwrap_or_default());
                found.extend(
                    names
                        .filter(|name| !name.is_empty())
                        .map(|name| format!("{base}/{name}").trim_start_matches('/').to_owned()),
                );
            }
            None => found.push(base),
        }
    }
    found
}

#[test]
fn imports_point_down_only() {
    let mut wrong = Vec::new();
    for (name, text) in source() {
        let module = name.trim_end_matches(".rs").trim_end_matches("/mod");
        if module == "lib" {
            continue;
        }
        let own = floor(module).unwrap_or_else(|| panic!("src/{name} stands on no floor: add it to FLOORS"));
        for import in imports(&text) {
            if floor(&import).is_some_and(|theirs| theirs > own) {
                wrong.push(format!("src/{name} imports {import}, which stands above it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn destinations_and_engines_never_import_each_other() {
    for (name, text) in source() {
        for family in ["destination", "store"] {
            let Some((own, _)) =
                name.strip_prefix(&format!("{family}/")).and_then(|rest| rest.split_once('/'))
            else {
                continue;
            };
            for import in imports(&text) {
                let other =
                    import.strip_prefix(&format!("{family}/")).and_then(|rest| rest.split('/').next());
                let is_folder = other.is_some_and(|other| floor(&format!("{family}/{other}")) == Some(5));
                assert!(
                    !is_folder || other == Some(own),
                    "src/{name} imports {import}: put what both need below them"
                );
            }
        }
    }
}

#[test]
fn each_library_has_its_place() {
    for (name, text) in source() {
        let code =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for (library, places, instead) in RESERVED {
            let may = places.iter().any(|place| name.starts_with(place));
            assert!(may || !code.contains(library), "src/{name} names {library}; {instead}");
        }
    }
}

#[test]
fn no_file_is_too_long_to_be_read() {
    for (name, text) in source() {
        assert!(text.lines().count() <= 500, "src/{name} is longer than 500 lines: split it by its reasons");
    }
}

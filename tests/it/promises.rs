//! README says what proves each promise: what it names is there.

use std::path::Path;

/// The names of all tests in a file or in the files of a folder.
fn tests(path: &Path) -> Vec<String> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        return entries.flat_map(|path| tests(&path)).collect();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let mut names = Vec::new();
    while let Some(line) = lines.next() {
        if ["#[test]", "#[tokio::test"].iter().any(|start| line.trim_start().starts_with(start)) {
            let name =
                lines.find_map(|line| line.split_once("fn ")).and_then(|(_, rest)| rest.split_once('('));
            names.extend(name.map(|(name, _)| name.to_owned()));
        }
    }
    names
}

#[test]
fn every_test_that_stands_beside_a_promise_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, table) = readme.split_once("| promise | tests").unwrap();
    let mut named = 0;
    for row in table.lines().skip(2).take_while(|line| line.starts_with("| ")) {
        let (_, proof) = row.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        let mut there = Vec::new();
        for word in proof.split([' ', ',']).filter(|word| !word.is_empty()) {
            if let Some(path) = word.strip_prefix('`').and_then(|word| word.strip_suffix('`')) {
                let places = [root.join("tests/it").join(path), root.join(path)];
                let place = places.iter().find(|place| place.exists());
                there = tests(place.unwrap_or_else(|| panic!("{path} is not there: {row}")));
            } else {
                let (start, end) = word.split_once('…').unwrap_or((word, ""));
                let fits = |name: &String| {
                    if word.contains('…') {
                        name.starts_with(start) && name.ends_with(end)
                    } else {
                        name == word
                    }
                };
                assert!(there.iter().any(fits), "no test is called {word}: {row}");
                named += 1;
            }
        }
    }
    assert!(named > 20, "{named}: is the table still there?");
}

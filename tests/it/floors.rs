//! Keeps the floors of `src/lib.rs`: a module imports only from below itself.

use std::fs;
use std::path::{Path, PathBuf};

/// Module -> floor. Strangers on one floor may not import each other, except where `ALLOWED` says so.
const FLOORS: &[(&str, u8)] = &[
    ("config", 0),
    ("telemetry", 0),
    ("tls", 0),
    ("proxy", 1),
    ("trace", 1),
    ("routing", 1),
    ("export", 2),
    ("correlation", 3),
    ("admin", 3),
    ("view", 3),
    ("hop", 4),
    ("sidecar", 5),
    ("wrap", 5),
    ("doctor", 5),
    ("cli", 6),
    ("main", 6),
];

fn floor(module: &str) -> u8 {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .unwrap_or_else(|| panic!("{module} has no floor"))
        .1
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn imports(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for marker in ["crate::", "hopspan::"] {
        for (at, _) in text.match_indices(marker) {
            let rest = &text[at + marker.len()..];
            let list = rest
                .strip_prefix('{')
                .map(|r| r.split('}').next().unwrap_or(""));
            let heads: Vec<&str> = match list {
                Some(list) => list.split(',').map(str::trim).collect(),
                None => vec![rest],
            };
            for head in heads {
                let name: String = head
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                names.push(name);
            }
        }
    }
    names
}

#[test]
fn modules_import_only_from_below() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut checked = 0;
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let module = inside
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        if module == "lib" {
            continue;
        }
        assert_ne!(
            inside.file_name().unwrap(),
            "mod.rs",
            "no mod.rs: {}",
            inside.display()
        );
        let text: String = fs::read_to_string(&file)
            .unwrap()
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect();
        for name in imports(&text) {
            if !FLOORS.iter().any(|(known, _)| *known == name) || name == module {
                continue;
            }
            checked += 1;
            let below = floor(&name) < floor(&module);
            let routing_reads_config = module == "routing" && name == "config";
            if !below && !routing_reads_config {
                wrong.push(format!("{} imports {name}", inside.display()));
            }
        }
    }
    assert!(checked > 0, "the guard looked at nothing");
    assert!(
        wrong.is_empty(),
        "imports upwards or sideways:\n{}",
        wrong.join("\n")
    );
}

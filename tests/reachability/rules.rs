//! The list of rules in `RULES.md` names tests that exist.

use std::{fs, path::Path};

fn sources(at: &Path, text: &mut String) {
    for entry in fs::read_dir(at).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|it| it == "rs") {
            text.push_str(&fs::read_to_string(path).expect("text"));
        }
    }
}

#[test]
fn each_rule_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for at in ["src/reachability", "tests/reachability", "tests/ports"] {
        sources(&root.join(at), &mut text);
    }
    let list = include_str!("RULES.md");
    let rules: Vec<&str> = list
        .lines()
        .filter_map(|line| line.strip_suffix(" |")?.rsplit_once(" | "))
        .map(|(_, tests)| tests)
        .filter(|tests| tests.starts_with('`'))
        .collect();
    assert!(rules.len() > 40, "{} rules", rules.len());
    for name in rules.iter().flat_map(|tests| tests.split(", ")) {
        let name = name.trim_matches('`');
        assert!(text.contains(&format!("fn {name}(")), "no test {name}");
    }
}

//! What the documents say is there.

#[path = "../mutants/list.rs"]
mod list;

use std::fs;
use std::path::Path;

use list::{MUTANTS, Mutant};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

#[test]
fn every_fault_can_be_made_and_is_documented() {
    let documented = read("docs/mutants.md");
    for Mutant { name, file, find, replace, test } in MUTANTS {
        assert_eq!(read(file).matches(find).count(), 1, "{name}: {file}");
        assert_ne!(find, replace, "{name}");
        let (test_file, test_name) = test.rsplit_once("::").expect("binary::file::name");
        let shader = file.strip_prefix("shaders/").expect("a shader");
        let row = format!("| {name} | `{shader}` | `{test_file}`: `{test_name}` |");
        assert!(documented.contains(&row), "docs/mutants.md has no line {row}");
        let source = read(&format!("tests/{}.rs", test_file.replace("::", "/")));
        assert!(source.contains(&format!("fn {test_name}()")), "{name}: {test}");
    }
    assert_eq!(documented.matches("\n| ").count(), MUTANTS.len() + 1);
}

/// All of the sources below a folder.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).expect("readable"));
        }
    }
}

#[test]
fn every_test_that_stands_against_a_trouble_exists() {
    let mut all = String::new();
    for folder in ["src", "tests", "cli/src"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut all);
    }
    let troubles = read("docs/troubles.md");
    let quoted = troubles.split('`').skip(1).step_by(2);
    // a test's name is its claim, in words
    let tests: Vec<_> = quoted.filter(|name| !name.contains(' ') && name.matches('_').count() > 2).collect();
    assert!(tests.len() > 20, "{tests:?}");
    for test in tests.into_iter().filter(|name| !name.contains("::")) {
        assert!(all.contains(&format!("fn {test}()")), "docs/troubles.md: {test}");
    }
}

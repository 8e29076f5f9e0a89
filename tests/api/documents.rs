//! What the documents name exists.

#[path = "../mutants/list.rs"]
mod list;

use std::fs;
use std::path::{Path, PathBuf};

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
    // a test's name is a claim of several words
    let tests: Vec<_> = quoted.filter(|name| !name.contains(' ') && name.matches('_').count() > 2).collect();
    assert!(tests.len() > 20, "{tests:?}");
    for test in tests.into_iter().filter(|name| !name.contains("::")) {
        assert!(all.contains(&format!("fn {test}()")), "docs/troubles.md: {test}");
    }
}

/// Every document of the repository.
fn documents(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && !["target", "node_modules", ".git"].contains(&name.as_str()) {
            documents(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            all.push(path);
        }
    }
}

/// What a document names as a path: the targets of its links, and what stands in backticks with a slash or an extension
/// of ours.
fn named_paths(text: &str) -> Vec<&str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.contains("://") && !link.starts_with('#') && !link.starts_with("mailto:"));
    // code between fences is not a path
    let prose = text.split("```").step_by(2);
    let quoted = prose.flat_map(|part| part.split('`').skip(1).step_by(2)).filter(|quoted| {
        let plain = quoted.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
        let known = ["rs", "wgsl", "md", "toml", "py", "mjs", "gz", "yml"];
        plain && quoted.rsplit_once('.').is_some_and(|(name, extension)| !name.is_empty() && known.contains(&extension))
    });
    links.map(|link| link.split('#').next().unwrap_or_default()).chain(quoted).filter(|path| !path.is_empty()).collect()
}

/// A path stands in its document's folder, in the repository, or below one of the folders whose files the document is
/// about.
#[test]
fn every_path_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    documents(root, &mut all);
    assert!(all.len() > 10, "{all:?}");
    let mut missing = Vec::new();
    let mut looked_at = 0;
    for document in all {
        let text = fs::read_to_string(&document).expect("readable");
        let here = document.parent().expect("a folder");
        for path in named_paths(&text) {
            looked_at += 1;
            let folders = [
                "",
                "src",
                "src/kernels",
                "src/layout",
                "shaders",
                "shaders/shared",
                "tests",
                "tests/kernels",
                "tests/api",
            ];
            let is_there =
                here.join(path).exists() || folders.iter().any(|folder| root.join(folder).join(path).exists());
            let is_made = path.starts_with("target/") || path.ends_with("Cargo.toml");
            if !is_there && !is_made {
                missing.push(format!("{}: {path}", document.display()));
            }
        }
    }
    assert!(looked_at > 50, "{looked_at}");
    assert!(missing.is_empty(), "{missing:#?}");
}

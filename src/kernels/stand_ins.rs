//! Compares the stand-ins of the files under `shaders/` with what they stand for: one that differs would validate with its
//! file, and hide what a plan's shader gets.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::permutations_of_every_pair;
use super::template::recorded;
use crate::layout::slots::Role;
use crate::layout::words;

/// A file: its name, its text outside the stand-ins, and the text inside.
struct File {
    name: String,
    own: String,
    stand_ins: String,
}

fn files() -> Vec<File> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let folders = [root.clone(), root.join("shared")].map(|folder| std::fs::read_dir(folder).expect("a folder"));
    let paths = folders.into_iter().flatten().map(|entry| entry.expect("readable").path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "wgsl")).map(|path| {
        let text = std::fs::read_to_string(&path).expect("readable");
        let (mut own, mut stand_ins, mut inside) = (String::new(), String::new(), false);
        for line in text.lines() {
            match line {
                "//# stand-in" => inside = true,
                "//# end" if inside => inside = false,
                _ => {
                    let part = if inside { &mut stand_ins } else { &mut own };
                    *part += line.split("//").next().unwrap_or_default();
                    *part += "\n";
                }
            }
        }
        File { name: path.file_name().expect("a file").to_string_lossy().into_owned(), own, stand_ins }
    });
    files.collect()
}

/// `logits0` and the like stand for the `x0` of the files that load and store.
fn with_x0(text: &str) -> String {
    Role::LISTS.iter().fold(text.to_owned(), |text, role| {
        ["load", "store", "one", "pick"]
            .iter()
            .fold(text, |text, verb| text.replace(&format!("{verb}_{}0(", role.list()), &format!("{verb}_x0(")))
    })
}

/// The words of a text, without commas that end a list.
fn plain(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace("( ", "(").replace(", )", ")").replace(" )", ")").replace("@align(16) ", "")
}

/// Each function's name, and its signature.
fn functions(text: &str) -> Vec<(String, String)> {
    let starts = text.match_indices("fn ").filter(|(at, _)| *at == 0 || text[..*at].ends_with('\n'));
    let of = starts.map(|(at, _)| {
        let signature = text[at..].split('{').next().unwrap_or_default();
        let name = signature["fn ".len()..].split('(').next().unwrap_or_default();
        (name.to_owned(), plain(signature).trim_end().to_owned())
    });
    of.collect()
}

/// Each structure's name, and its fields.
fn structures(text: &str) -> Vec<(String, Vec<String>)> {
    let of = text.split("struct ").skip(1).map(|text| {
        let (name, rest) = text.split_once('{').expect("a body");
        let fields = rest.split('}').next().unwrap_or_default().split(',').map(plain);
        (name.trim().to_owned(), fields.filter(|field| !field.is_empty()).collect())
    });
    of.collect()
}

/// Each constant's name, and its value.
fn constants(text: &str) -> Vec<(String, String)> {
    let declarations = text.split(';').filter_map(|declaration| declaration.trim().strip_prefix("const "));
    let of = declarations.filter_map(|declaration| declaration.split_once(" = "));
    of.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Each variable of a binding: its name, and the binding.
fn bindings(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.split_once("@binding("));
    let of = lines.map(|(_, rest)| {
        let (binding, rest) = rest.split_once(')').expect("a binding");
        let name = rest.split_once("> ").and_then(|(_, rest)| rest.split_once(':')).expect("a variable").0;
        (name.to_owned(), binding.to_owned())
    });
    of.collect()
}

/// A binding window by its list: `BINDING_x0_w2` is `BINDING_x0_w0` in the files.
fn first_window(name: &str) -> String {
    let (first, last) = name.rsplit_once("_w").unwrap_or((name, ""));
    if !last.is_empty() && last.chars().all(|c| c.is_ascii_digit()) { format!("{first}_w0") } else { name.to_owned() }
}

fn number(value: &str) -> String {
    let hex = value.strip_prefix("0x").and_then(|value| u32::from_str_radix(value.trim_end_matches('u'), 16).ok());
    hex.map_or_else(|| value.to_owned(), |number| format!("{number}u"))
}

#[test]
fn a_stand_in_is_what_it_stands_for() {
    let files = files();
    let own = |file: &File| files.iter().filter(|other| other.name != file.name).map(|file| file.own.clone()).collect();
    let words: BTreeMap<_, _> = words::all().collect();
    let _ = permutations_of_every_pair();
    let plans = recorded();
    for file in &files {
        let others: Vec<String> = own(file);
        let stand_ins = with_x0(&file.stand_ins);
        for (name, signature) in functions(&stand_ins) {
            let defined: Vec<_> =
                others.iter().flat_map(|other| functions(other)).filter(|(n, _)| *n == name).collect();
            assert!(!defined.is_empty(), "{}: nothing is fn {name}", file.name);
            // floats and integers load into different types
            let is_one = defined.iter().any(|(_, expected)| *expected == signature);
            assert!(is_one, "{}: expected one of {defined:?}, got {signature}", file.name);
        }
        for (name, fields) in structures(&stand_ins) {
            let defined: Vec<_> =
                others.iter().flat_map(|other| structures(other)).filter(|(n, _)| *n == name).collect();
            assert!(!defined.is_empty(), "{}: nothing is struct {name}", file.name);
            // one of them: struct Invocation has two definitions, one per way to reduce
            let within = |(_, all): &(String, Vec<String>)| fields.iter().all(|field| all.contains(field));
            assert!(
                defined.iter().any(within),
                "{}: struct {name}: expected fields of {defined:?}, got {fields:?}",
                file.name
            );
        }
        for (name, value) in constants(&stand_ins) {
            let defined = others.iter().flat_map(|other| constants(other)).find(|(n, _)| *n == name);
            let expected = words.get(name.as_str()).cloned().or(defined.map(|(_, value)| value));
            let is_list = name.strip_suffix('0').is_some_and(|list| plans.contains(&format!("list {list}")));
            if let Some(expected) = expected {
                assert_eq!(number(&value), number(&expected), "{}: {name}", file.name);
            } else {
                let is_known = is_list || plans.contains(&format!("constant {name}"));
                assert!(is_known, "{}: no plan and no file has {name}", file.name);
            }
        }
        for (name, binding) in bindings(&file.stand_ins) {
            let defined: BTreeSet<_> =
                others.iter().flat_map(|other| bindings(other)).filter(|(n, _)| *n == name).collect();
            // `losses` and the like have a binding per stage
            let is_there = defined.iter().any(|(_, expected)| *expected == binding);
            assert!(is_there, "{}: {name}: expected one of {defined:?}, got binding {binding}", file.name);
        }
    }
}

/// Rendering panics where a file names what no plan sets; this is the other direction.
#[test]
fn every_flag_list_and_constant_that_plans_set_is_in_a_file() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut text = String::new();
    for folder in [root.clone(), root.join("shared")] {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|extension| extension == "wgsl") {
                text += &std::fs::read_to_string(path).expect("readable");
            }
        }
    }
    let directives = text.split("//# ").skip(1).map(|rest| rest.lines().next().unwrap_or_default().trim());
    let mut named: BTreeSet<String> = BTreeSet::new();
    for directive in directives {
        match directive.split_whitespace().collect::<Vec<_>>()[..] {
            ["if", name] | ["if", "not", name] => named.insert(format!("flag {name}")),
            ["each", name] => named.insert(format!("list {name}")),
            _ => true,
        };
    }
    named
        .extend(files().iter().flat_map(|file| constants(&file.stand_ins)).map(|(name, _)| format!("constant {name}")));
    let _ = permutations_of_every_pair();
    let set: BTreeSet<String> = recorded().iter().map(|name| first_window(name)).collect();
    assert!(set.len() > 40, "{set:?}");
    let lost: Vec<_> = set.difference(&named).collect();
    assert!(lost.is_empty(), "in no file: {lost:?}");
    let flags: Vec<_> = named.difference(&set).filter(|name| !name.starts_with("constant")).collect();
    assert!(flags.is_empty(), "set by no plan: {flags:?}");
}

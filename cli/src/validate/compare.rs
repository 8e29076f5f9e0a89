//! Two validations side by side.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use comfy_table::{Table, presets};

use super::page::scientific;
use super::record::{Adapter, Counts, SCHEMA, Validation};

/// A line of a comparison: place, name, and the two values.
type Line = (String, String, [String; 2]);

pub fn read(path: &Path) -> Result<Validation> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let validation: Validation = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    ensure!(validation.schema == SCHEMA, "{}: expected {SCHEMA}, got {}", path.display(), validation.schema);
    Ok(validation)
}

/// Prints both, with a mark where they differ. Returns the number of lines that differ.
pub fn print(one: &Validation, other: &Validation) -> usize {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["", "where", "what", "A", "B"]);
    let lines = lines(one, other);
    let differ = |[a, b]: &[String; 2]| a != b;
    for (place, what, values) in &lines {
        let mark = if differ(values) { "≠" } else { "" };
        table.add_row([mark, place, what, &values[0], &values[1]]);
    }
    println!("{table}");
    lines.iter().filter(|(.., values)| differ(values)).count()
}

fn lines(one: &Validation, other: &Validation) -> Vec<Line> {
    let both = [one, other];
    let mut lines = vec![
        (String::new(), "version".to_owned(), both.map(|v| v.version.clone())),
        (String::new(), "failures".to_owned(), both.map(|v| v.failures().count().to_string())),
    ];
    let names: Vec<&str> = both.iter().flat_map(|v| &v.shaders.tools).map(|tool| tool.name.as_str()).collect();
    for name in unique(names) {
        let answer = |v: &Validation| {
            let tool = v.shaders.tools.iter().find(|tool| tool.name == name);
            tool.map_or("–".to_owned(), |tool| match &tool.absent {
                Some(_) => "absent".to_owned(),
                None => format!("{} checked, {} failed", tool.checked, tool.failures.len()),
            })
        };
        lines.push(("shaders".to_owned(), name.to_owned(), both.map(answer)));
    }
    let in_loops = |v: &Validation| {
        let found = v.shaders.switches_in_loops.as_ref();
        found.map_or("–".to_owned(), |found| format!("{} of {} permutations", found.any, found.permutations))
    };
    lines.push(("shaders".to_owned(), "HLSL 5.1: a switch inside a loop".to_owned(), both.map(in_loops)));
    // two validations of one device each are compared even if the devices have different names
    if let ([a], [b]) = (&one.adapters[..], &other.adapters[..]) {
        lines.extend(adapter_lines("adapter", [Some(a), Some(b)]));
        return lines;
    }
    let names: Vec<&str> = both.iter().flat_map(|v| &v.adapters).map(|adapter| adapter.name.as_str()).collect();
    for name in unique(names) {
        let find = |v: &'_ Validation| v.adapters.iter().position(|adapter| adapter.name == name);
        let found = [find(one).map(|i| &one.adapters[i]), find(other).map(|i| &other.adapters[i])];
        lines.extend(adapter_lines(name, found));
    }
    lines
}

fn adapter_lines(place: &str, adapters: [Option<&Adapter>; 2]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = |what: &str, value: &dyn Fn(&Adapter) -> String| {
        let values = adapters.map(|adapter| adapter.map_or("–".to_owned(), value));
        lines.push((place.to_owned(), what.to_owned(), values));
    };
    line("name", &|a| a.name.clone());
    line("cases", &|a| format!("{} passed, {} failed", a.cases.passed, a.cases.failed));
    line("every pair of choices", &|a| {
        let Counts { passed, failed, unsupported } = a.covering;
        format!("{passed} passed, {failed} failed, {unsupported} unsupported")
    });
    line("every kernel", &|a| format!("{} passed, {} failed", a.steps.passed, a.steps.failed));
    line("same bits", &|a| format!("{} steps, {} not", a.determinism.passed, a.determinism.failed));
    let named = |list: fn(&Adapter) -> &[(String, String)]| {
        unique(adapters.iter().flatten().flat_map(|a| list(a)).map(|(name, _)| name.as_str()).collect())
    };
    let value = |list: &[(String, String)], name: &str| {
        list.iter().find(|(n, _)| n == name).map_or("–".to_owned(), |(_, value)| value.clone())
    };
    for name in named(|a| &a.states) {
        line(name, &|a| value(&a.states, name));
    }
    for name in named(|a| &a.variant) {
        line(&format!("variant: {name}"), &|a| value(&a.variant, name));
    }
    let kinds = adapters.iter().flatten().flat_map(|a| &a.errors).map(|e| (e.kind.as_str(), e.dtype.as_str()));
    for (kind, dtype) in unique(kinds.collect()) {
        line(&format!("worst errors: {kind}, {dtype}"), &|a| {
            let errors = a.errors.iter().find(|e| e.kind == kind && e.dtype == dtype);
            errors.map_or("–".to_owned(), |e| format!("{}, {}", scientific(e.loss), scientific(e.gradient)))
        });
    }
    for what in unique(adapters.iter().flatten().flat_map(|a| &a.sizes).map(|size| size.what.as_str()).collect()) {
        line(&format!("size: {what}"), &|a| {
            let size = a.sizes.iter().find(|size| size.what == what);
            size.map_or("–".to_owned(), |size| format!("{}, {}", scientific(size.loss), scientific(size.gradient)))
        });
    }
    lines
}

/// Each element once, in the order of first appearance.
fn unique<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}

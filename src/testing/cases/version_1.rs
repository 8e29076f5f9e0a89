//! A file of `segloss-cases/1` as one of `segloss-cases/2`: the table in tests/cases/SCHEMA.md.

use serde_json::{Map, Value, json};

/// Rewrites the heads of a file, and what it expects of them.
pub(super) fn upgrade(file: &mut Value) {
    let cases = file.get_mut("cases").and_then(Value::as_array_mut);
    for case in cases.into_iter().flatten().filter_map(Value::as_object_mut) {
        let heads = case.get_mut("heads").and_then(Value::as_array_mut);
        let mut kinds = Vec::new();
        for head in heads.into_iter().flatten().filter_map(Value::as_object_mut) {
            kinds.push(upgrade_head(head));
        }
        let expected = case.get_mut("expected").and_then(|expected| expected.get_mut("heads"));
        let expected = expected.and_then(Value::as_array_mut).into_iter().flatten();
        for (expected, kinds) in expected.filter_map(Value::as_object_mut).zip(kinds) {
            let terms = kinds.iter().map(|kind| expected.remove(*kind).unwrap_or(Value::Null)).collect();
            expected.retain(|name, _| !["overlap", "pixel"].contains(&name.as_str()));
            expected.insert("terms".to_owned(), Value::Array(terms));
            if let Some(counts) = expected.remove("hard_counts").filter(|counts| !counts.is_null()) {
                expected.insert("metrics".to_owned(), json!({ "hard_counts": counts }));
            }
        }
    }
}

/// Rewrites a head, and returns the names that its terms had.
fn upgrade_head(head: &mut Map<String, Value>) -> Vec<&'static str> {
    let classes = head.get("shape").and_then(|shape| shape.get(1)).and_then(Value::as_u64).unwrap_or(0);
    let activation = head.remove("activation").unwrap_or(Value::Null);
    let (mut terms, mut kinds) = (Vec::new(), Vec::new());
    if let Some(Value::Object(mut term)) = head.remove("overlap") {
        if let Some(only) = term.remove("present_classes_only") {
            term.insert("absent".to_owned(), json!(if only == true { "skip" } else { "count" }));
        }
        let without_background = term.get("include_background") == Some(&Value::Bool(false)) && classes > 1;
        let single = classes - u64::from(without_background) == 1;
        if term.remove("ignore_single_class_weight") == Some(Value::Bool(true)) && single {
            term.remove("class_weights");
        }
        term.insert("activation".to_owned(), activation.clone());
        terms.push(Value::Object(term));
        kinds.push("overlap");
    }
    if let Some(Value::Object(mut term)) = head.remove("pixel") {
        let kind = term.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if kind == "focal" {
            term.insert("activation".to_owned(), activation.clone());
            if term.get("reduction") == Some(&json!("sum")) {
                term.insert("reduction".to_owned(), json!("sum_of_item_means"));
            }
        }
        terms.push(Value::Object(term));
        kinds.push("pixel");
    }
    let ignore_index = head.remove("ignore_index").unwrap_or(Value::Null);
    let mut target = head.remove("target").unwrap_or(Value::Null);
    if let Value::Object(target) = &mut target {
        target.insert("ignore_index".to_owned(), ignore_index);
    }
    head.insert("targets".to_owned(), Value::Array(vec![target]));
    head.insert("terms".to_owned(), Value::Array(terms));
    head.insert("metrics".to_owned(), json!({ "target": 0, "activation": activation }));
    kinds
}

//! The page as one file: markup, style, the JavaScript modules, and the document.

use std::io::Write as _;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use maud::{DOCTYPE, PreEscaped, html};
use serde_json::{Map, Value};

const BODY: &str = include_str!("../../web/page.html");
const STYLE: &str = include_str!("../../web/page.css");
/// Each is imported by its name, as Node does it by package.json.
const MODULES: [(&str, &str); 7] = [
    ("#bytes", include_str!("../../web/bytes.mjs")),
    ("#check", include_str!("../../web/check.mjs")),
    ("#compare", include_str!("../../web/compare.mjs")),
    ("#gpu", include_str!("../../web/gpu.mjs")),
    ("#measure", include_str!("../../web/measure.mjs")),
    ("#results", include_str!("../../web/results.mjs")),
    ("#view", include_str!("../../web/view.mjs")),
];
const MAIN: &str = include_str!("../../web/main.mjs");

/// What a static host and a reader's patience bear.
const MOST_BYTES: usize = 2_000_000;

pub fn page(document: &str) -> Result<String> {
    let imports: Map<String, Value> = MODULES
        .iter()
        .map(|(name, text)| {
            let url = format!("data:text/javascript;base64,{}", BASE64_STANDARD.encode(text));
            ((*name).to_owned(), url.into())
        })
        .collect();
    let imports = serde_json::to_string(&serde_json::json!({ "imports": imports }))?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(document.as_bytes())?;
    let document = BASE64_STANDARD.encode(gzip.finish()?);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "segloss" }
                // or else a browser asks the host for one
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
                script type="importmap" { (PreEscaped(imports)) }
            }
            body {
                (PreEscaped(BODY))
                script type="text/plain" id="document" { (document) }
                script type="module" { (PreEscaped(MAIN)) }
            }
        }
    };
    let page = page.into_string();
    ensure!(
        page.len() < MOST_BYTES,
        "expected a page below {MOST_BYTES} bytes, got {}: fewer cases (--every) or shapes",
        page.len()
    );
    Ok(page)
}

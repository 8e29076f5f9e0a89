//! What a caller relies on besides the numbers: refusals, text, documents, dispatches, threads, ranks, caches, tuning.
#![allow(missing_docs, reason = "a test's name is its claim")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/ranks.rs"]
mod ranks;
#[path = "../common/specs.rs"]
mod specs;

mod dispatches;
mod distributed;
mod documents;
mod errors;
mod house;
mod pipeline_cache;
mod settings;
mod storage_buffers;
mod text;
mod threads;
mod tuning;

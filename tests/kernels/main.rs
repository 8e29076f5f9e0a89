//! What the kernels compute: against published cases, the f64 reference, formulas, and themselves, on every adapter.
#![allow(missing_docs, reason = "a test's name is its claim")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/specs.rs"]
mod specs;

mod answers;
mod big;
mod cases;
mod gradient_modes;
mod guards;
mod halves;
mod hashed;
mod hostile;
mod kinds;
mod label_tables;
mod left_out;
mod log_form;
mod memory_format;
mod one_channel;
mod pools;
mod random;
mod report;
mod steps;
mod top_k;
mod views;
mod weights;
mod windows;
mod workgroups;

//! A validation as one self-contained page of HTML.

use anyhow::{Result, anyhow};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::prelude::*;
use segloss::testing::Tolerance;

use super::record::{Adapter, Bin, Counts, Shaders, Spread, SwitchesInLoops, Tool, Validation};

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: #176b2c; } .bad { color: #a11; font-weight: bold; } .absent { color: #777; }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .6rem; }
";

pub fn page(validation: &Validation) -> Result<String> {
    let failures: Vec<_> = validation.failures().collect();
    let adapters = validation.adapters.iter().map(adapter).collect::<Result<Vec<_>>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "segloss: validation" } style { (STYLE) } }
            body {
                h1 { "segloss: validation" }
                p { "Version " (validation.version) ", commit " (validation.commit) "; random specifications of seed "
                    (validation.seed) "." }
                p { @if failures.is_empty() { span.good { "0 failures" } }
                    @else { span.bad { (failures.len()) " failures" } } }
                @for (place, failure) in &failures { p.bad { (place) ": " (failure.what) } pre { (failure.message) } }
                (shaders(&validation.shaders))
                @for adapter in &adapters { (adapter) }
                (spread(&validation.spread))
            }
        }
    };
    Ok(page.into_string())
}

fn shaders(shaders: &Shaders) -> Markup {
    html! {
        h2 { "Shaders" }
        p { (shaders.permutations) " permutations" @if let Some(all) = shaders.all { " of " (all) }
             ": every pair of choices (terms, targets, masks, outputs, types, bindings, reductions and whatever else \
             changes text), and a sample drawn from the seed. All go through naga; the " (shaders.covering) " that have every \
             pair, through the other tools." }
        table {
            tr { th { "tool" } th { "what it says" } th { "checked" } th { "failed" } }
            @for tool in &shaders.tools { (row(tool)) }
        }
        @if let Some(found) = &shaders.switches_in_loops { (switches(found)) }
    }
}

fn switches(found: &SwitchesInLoops) -> Markup {
    html! {
        h3 { "A " code { "switch" } " inside a loop" }
        p { "In HLSL at shader model 5.1, " (found.any) " of " (found.permutations) " permutations have a " code { "switch" }
             " inside a loop: " (found.own_loop) " in a loop of the same function, the others in a loop that calls the \
             function. FXC, which wgpu's DX12 takes where it finds no DXC, inlines every call, and is known to miscompile \
             such a " code { "switch" } ". No tool here is FXC, so this is where to look, not a failure. The \
             table counts permutations." }
        @if !found.functions.is_empty() {
            table {
                tr { th { "stage" } th { "function" } th { "in its own loop" } th { "in a caller's loop" } }
                @for row in &found.functions {
                    tr { td { (row.stage) } td { code { (row.function) } } td.n { (row.own_loop) }
                         td.n { (row.callers_loop) } }
                }
            }
        }
    }
}

fn row(tool: &Tool) -> Markup {
    html! {
        tr {
            td { (tool.name) }
            @if let Some(reason) = &tool.absent { td.absent colspan="3" { "absent: " (reason) } }
            @else { td { (tool.question) } td.n { (tool.checked) } (number(tool.failures.len())) }
        }
    }
}

fn number(failed: usize) -> Markup {
    html! { @if failed == 0 { td.n.good { "0" } } @else { td.n.bad { (failed) } } }
}

fn counts(what: &str, Counts { passed, failed, unsupported }: Counts) -> Markup {
    html! { tr { td { (what) } td.n { (passed) } (number(failed)) td.n { (unsupported) } } }
}

fn adapter(adapter: &Adapter) -> Result<Markup> {
    let pairs = |title: &str, pairs: &[(String, String)]| {
        html! { h3 { (title) } table { @for (name, value) in pairs { tr { td { (name) } td { (value) } } } } }
    };
    let runs = format!("steps with the same bits in {} runs", adapter.runs_each);
    Ok(html! {
        h2 { (adapter.name) }
        table {
            tr { th { "" } th { "passed" } th { "failed" } th { "unsupported" } }
            (counts("cases of published implementations", adapter.cases))
            (counts("steps that have every pair of choices, against f64", adapter.covering))
            (counts("steps that have every kernel, against f64", adapter.steps))
            (counts(&runs, adapter.determinism))
        }
        h3 { "Worst errors of these and of random specifications against f64" }
        p { "The loss relative to max(1, |loss|), at most " (scientific(Tolerance::DEVICE.loss)) "; the gradient relative to the largest \
             of its head, at most " (scientific(Tolerance::DEVICE.gradient)) " beside the one rounding to its type. A specification of \
             several heads counts for each." }
        table {
            tr { th { "term" } th { "type" } th { "trials" } th { "loss" } th { "gradient" } }
            @for errors in &adapter.errors {
                tr {
                    td { (errors.kind) } td { (errors.dtype) } td.n { (errors.trials) }
                    td.n { (scientific(errors.loss)) } td.n { (scientific(errors.gradient)) }
                }
            }
        }
        (PreEscaped(histogram(&adapter.histogram)?))
        h3 { "Shapes at the limits" }
        table {
            tr { th { "" } th { "shape" } th { "loss" } th { "gradient" } }
            @for size in &adapter.sizes {
                tr { td { (size.what) } td { (size.shape) } td.n { (scientific(size.loss)) }
                     td.n { (scientific(size.gradient)) } }
            }
        }
        (pairs("What the device states", &adapter.states))
        (pairs("The variant of the kernels that a plan chooses", &adapter.variant))
    })
}

fn spread(spread: &[Spread]) -> Markup {
    html! {
        @if !spread.is_empty() {
            h2 { "Between adapters" }
            table {
                tr { th { "" } th { "" } th { "steps" } th { "equal bits" } th { "loss" } th { "gradient" } }
                @for s in spread {
                    tr { td { (s.one) } td { (s.other) } td.n { (s.steps) } td.n { (s.equal_bits) }
                         td.n { (scientific(s.loss)) } td.n { (scientific(s.gradient)) } }
                }
            }
        }
    }
}

pub fn scientific(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") }
}

/// A histogram of the trials' gradient errors, by powers of two.
fn histogram(bins: &[Bin]) -> Result<String> {
    let Some(most) = bins.iter().map(|bin| bin.trials).max() else { return Ok(String::new()) };
    let (first, last) = (bins[0].below - 1, bins[bins.len() - 1].below.max(-17));
    let mut svg = String::new();
    draw(&mut svg, bins, first..last, most).map_err(|error| anyhow!("{error}"))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    bins: &[Bin],
    range: std::ops::Range<i32>,
    most: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (720, 260)).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .caption("worst gradient error of a trial", ("sans-serif", 15))
        .build_cartesian_2d(range.start..range.end, 0..most + most / 10 + 1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("log2 of the error")
        .y_desc("trials")
        .x_label_formatter(&|exponent| exponent.to_string())
        .draw()?;
    let bars =
        bins.iter().map(|bin| Rectangle::new([(bin.below - 1, 0), (bin.below, bin.trials)], BLUE.mix(0.5).filled()));
    chart.draw_series(bars)?;
    root.present()?;
    Ok(())
}

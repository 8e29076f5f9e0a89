//! Finds where HLSL has a `switch` inside a loop. DX12 without DXC compiles with FXC, which inlines every call and is
//! known to drop or miscompile such a `switch`.

use std::collections::{BTreeMap, HashSet};

use naga::{Block, Function, Handle, Module, Statement, SwitchCase};

use super::record::{Switch, SwitchesInLoops};

/// The loops that a `switch` is in.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Loops {
    /// A loop of the function that has the `switch`.
    pub own: bool,
    /// A loop of a direct or indirect caller, where the `switch` is outside its own function's loops.
    pub callers: bool,
}

/// The functions of a shader that have a `switch` inside a loop, named as in `shaders/`.
pub type Functions = BTreeMap<String, Loops>;

/// The functions with a `switch` inside a loop that an entry point reaches.
pub fn in_loops(module: &Module, entry_point: &str) -> Functions {
    let mut walk = Walk { module, seen: HashSet::new(), found: Functions::new() };
    for point in module.entry_points.iter().filter(|point| point.name == entry_point) {
        walk.block(&point.function.body, At { function: entry_point, called_in_loop: false, in_loop: false });
    }
    walk.found
}

/// Where a statement is.
#[derive(Clone, Copy)]
struct At<'a> {
    function: &'a str,
    /// Whether the function is called in a loop.
    called_in_loop: bool,
    /// Whether the statement is in a loop of the function.
    in_loop: bool,
}

struct Walk<'a> {
    module: &'a Module,
    /// Functions whose body was walked, and whether they were called in a loop.
    seen: HashSet<(Handle<Function>, bool)>,
    found: Functions,
}

impl Walk<'_> {
    fn block(&mut self, block: &Block, at: At<'_>) {
        for statement in block {
            match statement {
                Statement::Block(inner) => self.block(inner, at),
                Statement::If { accept, reject, .. } => {
                    self.block(accept, at);
                    self.block(reject, at);
                }
                Statement::Loop { body, continuing, .. } => {
                    let inside = At { in_loop: true, ..at };
                    self.block(body, inside);
                    self.block(continuing, inside);
                }
                Statement::Switch { cases, .. } => {
                    if (at.in_loop || at.called_in_loop) && !one_body(cases) {
                        let loops = self.found.entry(in_the_files(at.function)).or_default();
                        loops.own |= at.in_loop;
                        loops.callers |= !at.in_loop;
                    }
                    for case in cases {
                        self.block(&case.body, at);
                    }
                }
                Statement::Call { function, .. } => self.call(*function, at.in_loop || at.called_in_loop),
                _ => {}
            }
        }
    }

    fn call(&mut self, callee: Handle<Function>, called_in_loop: bool) {
        if self.seen.insert((callee, called_in_loop)) {
            let Function { name, body, .. } = &self.module.functions[callee];
            let function = name.as_deref().unwrap_or("unnamed");
            self.block(body, At { function, called_in_loop, in_loop: false });
        }
    }
}

/// Whether all cases share one body, which naga writes without `switch`.
fn one_body(cases: &[SwitchCase]) -> bool {
    cases.iter().rev().skip(1).all(|case| case.fall_through && case.body.is_empty())
}

/// A function's name as in the files under `shaders/`, where all numbers are 0: `load_s0` for `load_s3`.
fn in_the_files(function: &str) -> String {
    let part = |part: &str| match part.split_at_checked(1) {
        Some((list, number)) if list.chars().all(char::is_alphabetic) && number.parse::<u32>().is_ok() => {
            format!("{list}0")
        }
        _ => part.to_owned(),
    };
    function.split('_').map(part).collect::<Vec<_>>().join("_")
}

impl SwitchesInLoops {
    /// Counts a permutation.
    pub fn count(&mut self, stage: &str, functions: Functions) {
        self.permutations += 1;
        self.any += usize::from(!functions.is_empty());
        self.own_loop += usize::from(functions.values().any(|loops| loops.own));
        for (function, loops) in functions {
            let order = |row: &Switch| (&row.stage[..], &row.function[..]).cmp(&(stage, &function[..]));
            let at = self.functions.binary_search_by(order).unwrap_or_else(|at| {
                self.functions.insert(at, Switch { stage: stage.to_owned(), function, own_loop: 0, callers_loop: 0 });
                at
            });
            let row = &mut self.functions[at];
            row.own_loop += usize::from(loops.own);
            row.callers_loop += usize::from(loops.callers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCH: &str = "switch w { case 0u: { w = 3u; } case 1u: { w = 5u; } default: {} }";
    const OWN: Loops = Loops { own: true, callers: false };
    const CALLERS: Loops = Loops { own: false, callers: true };

    /// What is found in a shader whose entry point has this body, which may call `pick`, `pick_s7`, `nested` and
    /// `looped`.
    fn found(main: &str) -> Vec<(String, Loops)> {
        let pick = |name: &str| format!("fn {name}(v: u32) -> u32 {{ var w = v; {SWITCH} return w; }}");
        let source = format!(
            "@group(0) @binding(0) var<storage, read_write> words: array<u32>;
            {} {}
            fn nested(v: u32) -> u32 {{ return pick(v) + 1u; }}
            fn looped(v: u32) -> u32 {{ var w = v; loop {{ if w > 9u {{ break; }} {SWITCH} w += 1u; }} return w; }}
            @compute @workgroup_size(1) fn other() {{ for (var i = 0u; i < 4u; i += 1u) {{ words[i] = pick(i); }} }}
            @compute @workgroup_size(1) fn main() {{ var w = words[0]; {main} words[0] = w; }}",
            pick("pick"),
            pick("pick_s7"),
        );
        in_loops(&naga::front::wgsl::parse_str(&source).expect("WGSL"), "main").into_iter().collect()
    }

    fn named(function: &str, loops: Loops) -> Vec<(String, Loops)> {
        vec![(function.to_owned(), loops)]
    }

    #[test]
    fn a_switch_inside_a_loop_is_found() {
        assert_eq!(found(&format!("while w < 9u {{ {SWITCH} w += 1u; }}")), named("main", OWN));
        assert_eq!(found(&format!("while w < 9u {{ if w > 2u {{ {SWITCH} }} w += 1u; }}")), named("main", OWN));
        assert_eq!(found("w = looped(w);"), named("looped", OWN));
    }

    #[test]
    fn a_switch_outside_loops_is_not_found() {
        assert_eq!(found(&format!("{SWITCH} while w < 9u {{ w += 1u; }} {SWITCH}")), []);
        assert_eq!(found("w = pick(w); while w < 9u { w += 1u; }"), []);
    }

    #[test]
    fn a_switch_in_a_function_called_in_a_loop_is_found() {
        assert_eq!(found("while w < 9u { w += pick(w); }"), named("pick", CALLERS));
        assert_eq!(found("while w < 9u { w += nested(w); }"), named("pick", CALLERS));
        assert_eq!(found("w = nested(w); while w < 9u { w += pick_s7(w); }"), named("pick_s0", CALLERS));
        assert_eq!(found("while w < 9u { w = looped(w); }"), named("looped", OWN));
    }

    #[test]
    fn a_switch_that_naga_writes_without_switch_is_not_found() {
        assert_eq!(found("while w < 9u { switch w { case 0u, default: { w += 1u; } } }"), []);
    }

    #[test]
    fn names_are_those_of_the_files() {
        for (name, expected) in [
            ("word_s3_w12", "word_s0_w0"),
            ("logits_g1", "logits_g0"),
            ("fold_2", "fold_2"),
            ("ratio_of", "ratio_of"),
            ("x", "x"),
        ] {
            assert_eq!(in_the_files(name), expected);
        }
    }

    #[test]
    fn permutations_are_counted_once() {
        let mut counted = SwitchesInLoops::default();
        let both = Loops { own: true, callers: true };
        counted.count("main", Functions::from([("a".to_owned(), both), ("b".to_owned(), CALLERS)]));
        counted.count("main", Functions::from([("b".to_owned(), CALLERS)]));
        counted.count("main", Functions::new());
        counted.count("early", Functions::from([("b".to_owned(), OWN)]));
        assert_eq!([counted.permutations, counted.any, counted.own_loop], [4, 3, 2]);
        let row = |row: &Switch| (row.stage.clone(), row.function.clone(), [row.own_loop, row.callers_loop]);
        let expected = [("early", "b", [1, 0]), ("main", "a", [1, 1]), ("main", "b", [0, 2])];
        let expected = expected.map(|(stage, function, counts)| (stage.to_owned(), function.to_owned(), counts));
        assert_eq!(counted.functions.iter().map(row).collect::<Vec<_>>(), expected);
    }
}

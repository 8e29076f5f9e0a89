//! How a shader is put together from the files under `shaders/`.
//!
//! Every file is WGSL that stands alone: an editor opens it, and a test validates it. Four things turn the files into the
//! shader of a plan, and there is nothing else to it:
//!
//! | in the file | in the plan's shader |
//! |---|---|
//! | `//# stand-in` … `//# end` | dropped: it declares what the other files supply |
//! | `//# if NAME`, `//# if not NAME` … `//# end` | kept or dropped |
//! | `//# each x` … `//# end` | repeated for each number of list `x`; the name part `x0` becomes `x1`, `x2`, … |
//! | `const NAME = …;` | takes the plan's value where the plan has one |
//!
//! A name part stands between underscores or alone: `e_c0` becomes `e_c1`, and `c0`, declared by [`numbers`], `c1`.
//!
//! Why not a crate: `wesl` imports and drops text, but does not repeat it, which unrolled class loops and a load per head
//! need; and it brings a parser of its own into every program that embeds this one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a plan puts into a file.
#[derive(Default, Clone)]
pub(crate) struct Values {
    flags: Vec<&'static str>,
    lists: BTreeMap<char, Vec<u32>>,
    constants: BTreeMap<String, String>,
}

impl Values {
    /// Keeps the text under `//# if name`.
    pub(crate) fn flag(mut self, name: &'static str, set: bool) -> Self {
        if set {
            self.flags.push(name);
        }
        self
    }

    /// Repeats the text under `//# each letter` for these numbers.
    pub(crate) fn list(mut self, letter: char, numbers: impl IntoIterator<Item = u32>) -> Self {
        self.lists.insert(letter, numbers.into_iter().collect());
        self
    }

    /// Sets `const name`.
    pub(crate) fn constant(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.constants.insert(name.to_owned(), value.to_string());
        self
    }
}

/// The text of a file with a plan's values. Panics where a directive is wrong: the files are the crate's, and all tested.
pub(crate) fn render(file: &str, values: &Values) -> String {
    let file = with_fault(file);
    let lines: Vec<&str> = file.lines().collect();
    let mut out = String::with_capacity(file.len());
    render_lines(&lines, values, &mut out);
    out
}

/// The mutation check puts a fault into one file: `SEGLOSS_FAULT` names a file with its text, a zero byte, and the faulty text.
#[cfg(feature = "testing")]
fn with_fault(file: &str) -> &str {
    use std::sync::LazyLock;
    static FAULT: LazyLock<Option<String>> = LazyLock::new(|| {
        let path = std::env::var_os("SEGLOSS_FAULT")?;
        Some(std::fs::read_to_string(path).expect("SEGLOSS_FAULT names a readable file"))
    });
    let fault = FAULT.as_ref().and_then(|fault| fault.split_once('\0'));
    fault.filter(|(right, _)| *right == file).map_or(file, |(_, wrong)| wrong)
}

#[cfg(not(feature = "testing"))]
fn with_fault(file: &str) -> &str {
    file
}

fn render_lines(lines: &[&str], values: &Values, out: &mut String) {
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        let Some(directive) = line.trim_start().strip_prefix("//# ") else {
            out.push_str(&with_constant(line, values));
            out.push('\n');
            continue;
        };
        let end = matching_end(lines, at);
        let inner = &lines[at..end];
        at = end + 1;
        match directive.split_whitespace().collect::<Vec<_>>()[..] {
            ["if", name] if values.flags.contains(&name) => render_lines(inner, values, out),
            ["if", "not", name] if !values.flags.contains(&name) => render_lines(inner, values, out),
            ["stand-in"] | ["if", _] | ["if", "not", _] => {}
            ["each", list] => {
                let letter = list.chars().next().expect("a list has a name");
                let mut once = String::new();
                render_lines(inner, values, &mut once);
                for &number in values.lists.get(&letter).map_or(&[][..], Vec::as_slice) {
                    out.push_str(&numbered(&once, letter, number));
                }
            }
            _ => panic!("unknown directive: {line}"),
        }
    }
}

/// The line of the `//# end` that closes the block whose first line is `at`.
fn matching_end(lines: &[&str], mut at: usize) -> usize {
    let mut depth = 1;
    loop {
        match lines[at].trim_start().strip_prefix("//# ") {
            Some("end") => depth -= 1,
            Some(_) => depth += 1,
            None => {}
        }
        if depth == 0 {
            return at;
        }
        at += 1;
    }
}

fn with_constant(line: &str, values: &Values) -> String {
    let constant = line
        .strip_prefix("const ")
        .and_then(|rest| rest.split_once(" = "))
        .and_then(|(name, _)| Some((name, values.constants.get(name)?)));
    constant.map_or_else(|| line.to_owned(), |(name, value)| format!("const {name} = {value};"))
}

/// `text` with the name part `x0` of list `x` replaced by `x<number>`.
pub(crate) fn numbered(text: &str, letter: char, number: u32) -> String {
    renamed(text, letter, letter, number)
}

/// As [`numbered`], into another list.
pub(crate) fn renamed(text: &str, letter: char, to: char, number: u32) -> String {
    let part = format!("{letter}0");
    let is_word = |c: char| c.is_ascii_alphanumeric();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(&part) {
        let after = &rest[at + part.len()..];
        let stands_alone = !rest[..at].ends_with(is_word) && !after.starts_with(is_word);
        out.push_str(&rest[..at]);
        if stands_alone {
            let _ = write!(out, "{to}{number}");
        } else {
            out.push_str(&part);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Declares `x0 = 0u`, `x1 = 1u`, … below `count`: repeated text names its own number with them.
pub(crate) fn numbers(letter: char, count: u32) -> String {
    (0..count).fold(String::new(), |mut text, i| {
        let _ = writeln!(text, "const {letter}{i} = {i}u;");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_part_is_replaced_only_where_it_stands_alone() {
        let text = "e_c0 + c0 + load_c0_w0 + abc0 + c00";
        assert_eq!(numbered(text, 'c', 3), "e_c3 + c3 + load_c3_w0 + abc0 + c00");
    }

    #[test]
    fn blocks_nest() {
        let file = "//# if a\n//# each c\nx_c0 s0\n//# if not b\ny_c0\n//# end\n//# end\n//# end\n//# stand-in\nz\n//# end\nconst N = 1u;";
        let values = Values::default().flag("a", true).list('c', [0, 2]).constant("N", "5u");
        assert_eq!(render(file, &values), "x_c0 s0\ny_c0\nx_c2 s0\ny_c2\nconst N = 5u;\n");
    }
}

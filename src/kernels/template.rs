//! How a shader is put together from the files under `shaders/`.
//!
//! Every file is WGSL that stands alone: an editor opens it, and a test validates it. These directives turn the files into
//! the shader of a plan:
//!
//! | in the file | in the plan's shader |
//! |---|---|
//! | `//# stand-in` … `//# end` | dropped: it declares what the other files and the plan supply |
//! | `//# if NAME`, `//# if not NAME` … `//# else` … `//# end` | one of the two is kept; `else` may be left out |
//! | `//# each x` … `//# end` | repeated for each number of list `x`; the name part `x0` becomes `x1`, `x2`, … |
//! | `TEXT //# if NAME`, `TEXT //# each x` | the same, for one line |
//! | `//#= TEXT` | TEXT, which the file by itself lacks: the other side of an alternative |
//!
//! A name part stands between underscores or alone: `e_c0` becomes `e_c1`, and `c0`, declared by [`numbers`], `c1`. The
//! constants that a plan supplies are declared before the text, with those of [`words`](crate::layout::words) that it uses.
//!
//! Why not a crate: `wesl` imports and drops text, but does not repeat it, which unrolled class loops and a load per head
//! need; and it brings a parser of its own into every program that embeds this one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a plan puts into a file.
#[derive(Default, Clone)]
pub(crate) struct Values {
    flags: BTreeMap<&'static str, bool>,
    lists: BTreeMap<&'static str, Vec<u32>>,
}

impl Values {
    /// Keeps the text under `//# if name` where it is set, else that under `//# if not name`.
    pub(crate) fn flag(mut self, name: &'static str, set: bool) -> Self {
        record("flag", name);
        self.flags.insert(name, set);
        self
    }

    /// Repeats the text under `//# each name` for these numbers.
    pub(crate) fn list(mut self, name: &'static str, numbers: impl IntoIterator<Item = u32>) -> Self {
        record("list", name);
        self.lists.insert(name, numbers.into_iter().collect());
        self
    }

    fn is_set(&self, name: &str) -> bool {
        *self.flags.get(name).unwrap_or_else(|| panic!("no plan sets the flag {name}"))
    }

    fn numbers(&self, list: &str) -> &[u32] {
        self.lists.get(list).unwrap_or_else(|| panic!("no plan has the list {list}"))
    }
}

/// Declares a constant that the files have as a stand-in.
pub(crate) fn constant(name: &str, value: u32) -> String {
    record("constant", name);
    format!("const {name} = {value}u;\n")
}

#[cfg(test)]
thread_local! {
    static RECORDED: std::cell::RefCell<std::collections::BTreeSet<String>> = std::cell::RefCell::default();
}

/// What plans have set on this thread: the names of flags, lists and constants.
#[cfg(test)]
pub(super) fn recorded() -> std::collections::BTreeSet<String> {
    RECORDED.with_borrow(Clone::clone)
}

#[cfg(test)]
fn record(what: &str, name: &str) {
    RECORDED.with_borrow_mut(|recorded| recorded.insert(format!("{what} {name}")));
}

#[cfg(not(test))]
fn record(_: &str, _: &str) {}

/// The text of a file with a plan's values. Panics where a directive is wrong, or names what the plan does not supply: the
/// files are the crate's own, and all tested.
pub(crate) fn render(file: &str, values: &Values) -> String {
    let file = with_fault(file);
    let lines: Vec<&str> = file.lines().collect();
    let mut out = String::with_capacity(file.len());
    render_lines(&lines, values, &mut out);
    out
}

/// The mutation check puts a fault into one file: `SEGLOSS_FAULT` names a file with its text, a zero byte, and the faulty
/// text.
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
        let Some(directive) = block_directive(line) else {
            render_line(line, values, out);
            continue;
        };
        let (otherwise, end) = block_end(lines, at);
        let (first, second) = (&lines[at..otherwise], &lines[end.min(otherwise + 1)..end]);
        at = end + 1;
        match words(directive)[..] {
            ["stand-in"] => {}
            ["if", name] => render_lines(if values.is_set(name) { first } else { second }, values, out),
            ["if", "not", name] => render_lines(if values.is_set(name) { second } else { first }, values, out),
            ["each", list] => {
                let mut once = String::new();
                render_lines(first, values, &mut once);
                repeat(&once, list, values, out);
            }
            _ => panic!("unknown directive: {line}"),
        }
    }
}

/// A line of text: as it is, or as the directive at its end has it.
fn render_line(line: &str, values: &Values, out: &mut String) {
    let line = line.replacen("//#= ", "", 1);
    let Some((text, directive)) = line.split_once("//# ") else {
        out.push_str(&line);
        out.push('\n');
        return;
    };
    let text = format!("{}\n", text.trim_end());
    match words(directive)[..] {
        ["if", name] if values.is_set(name) => out.push_str(&text),
        ["if", "not", name] if !values.is_set(name) => out.push_str(&text),
        ["if", _] | ["if", "not", _] => {}
        ["each", list] => repeat(&text, list, values, out),
        _ => panic!("unknown directive: {line}"),
    }
}

fn repeat(text: &str, list: &str, values: &Values, out: &mut String) {
    for &number in values.numbers(list) {
        out.push_str(&numbered(text, list, number));
    }
}

/// The directive that begins, divides or ends a block: it has a line to itself.
fn block_directive(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("//# ")
}

fn words(directive: &str) -> Vec<&str> {
    directive.split_whitespace().collect()
}

/// The lines of the `//# else` and of the `//# end` of the block whose first line is `at`; without an `else`,
/// both are the end.
fn block_end(lines: &[&str], mut at: usize) -> (usize, usize) {
    let (mut depth, mut otherwise) = (1, None);
    loop {
        match block_directive(lines[at]) {
            Some("end") => depth -= 1,
            Some("else") if depth == 1 => otherwise = Some(at),
            Some("else") | None => {}
            Some(_) => depth += 1,
        }
        if depth == 0 {
            return (otherwise.unwrap_or(at), at);
        }
        at += 1;
    }
}

/// `text` with the name part `x0` of list `x` replaced by `x<number>`.
pub(crate) fn numbered(text: &str, list: &str, number: u32) -> String {
    renamed(text, list, list, number)
}

/// As [`numbered`], but with the name part `<to><number>`.
pub(crate) fn renamed(text: &str, list: &str, to: &str, number: u32) -> String {
    let part = format!("{list}0");
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
pub(crate) fn numbers(list: &str, count: u32) -> String {
    (0..count).fold(String::new(), |text, number| text + &format!("const {list}{number} = {number}u;\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_part_is_replaced_only_where_it_stands_alone() {
        let text = "e_c0 + c0 + load_c0_w0 + abc0 + c00";
        assert_eq!(numbered(text, "c", 3), "e_c3 + c3 + load_c3_w0 + abc0 + c00");
    }

    #[test]
    fn blocks_nest_and_have_alternatives() {
        let file = "//# if a\n//# each c\nx_c0 s0\n//# if not b\ny_c0\n//# else\nz\n//# end\n//# end\n//# else\nn\n//# end\n\
                    //# stand-in\nz\n//# end\nend";
        let values = |a| Values::default().flag("a", a).flag("b", false).list("c", [0, 2]);
        assert_eq!(render(file, &values(true)), "x_c0 s0\ny_c0\nx_c2 s0\ny_c2\nend\n");
        assert_eq!(render(file, &values(false)), "n\nend\n");
    }

    #[test]
    fn a_line_may_have_a_directive_of_its_own_and_text_that_only_a_plan_has() {
        let file = "x_c0; //# each c\nif h { //# if a\n//#= if not { //# if not a\n    //#= z";
        let values = |a| Values::default().flag("a", a).list("c", [1, 2]);
        assert_eq!(render(file, &values(true)), "x_c1;\nx_c2;\nif h {\n    z\n");
        assert_eq!(render(file, &values(false)), "x_c1;\nx_c2;\nif not {\n    z\n");
    }

    #[test]
    #[should_panic(expected = "no plan sets the flag b")]
    fn a_flag_that_no_plan_sets_is_no_silence() {
        render("x //# if b", &Values::default().flag("a", true));
    }
}

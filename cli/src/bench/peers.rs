//! Losses of other libraries, timed in the same rounds: a process runs a step of one of them on request.
//!
//! Requests and answers are one line of JSON each:
//!
//! - `{"shape": [2, 4, 128, 128, 128]}` is answered by `{"peers": ["name", …], "on": "…"}`,
//! - `{"run": "name"}` by `{"seconds": 0.25}`,
//! - either of them by `{"error": "…"}` if it fails.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::json;

/// A process that times peers.
pub struct Peers {
    command: String,
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// The peers of one shape.
pub struct OfShape<'a> {
    pub names: Vec<String>,
    peers: RefCell<&'a mut Peers>,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Answer {
    Ready { peers: Vec<String>, on: String },
    Time { seconds: f64 },
    Error { error: String },
}

impl Peers {
    /// Starts a command: a program and its arguments, separated by spaces.
    pub fn start(command: &str) -> Result<Self> {
        let mut words = command.split_whitespace();
        let program = words.next().context("--peers: expected a command, got none")?;
        let mut process = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("peers: cannot start {program}"))?;
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("a pipe")?);
        Ok(Self { command: command.to_owned(), process, questions, answers })
    }

    /// Prepares the peers for a shape.
    pub fn of(&mut self, shape: &[usize]) -> Result<OfShape<'_>> {
        let names = match self.ask(&json!({ "shape": shape }))? {
            Answer::Ready { peers, on } if !peers.is_empty() => {
                println!("peers: {on}");
                peers
            }
            _ => bail!("peers: {}: expected the names of peers, got none", self.command),
        };
        Ok(OfShape { names, peers: RefCell::new(self) })
    }

    fn ask(&mut self, question: &serde_json::Value) -> Result<Answer> {
        let asked = self.questions.as_mut().map(|questions| writeln!(questions, "{question}"));
        let mut line = String::new();
        // how the process ended is a better error than a broken pipe
        let read = if matches!(asked, Some(Ok(()))) { self.answers.read_line(&mut line).unwrap_or(0) } else { 0 };
        if read == 0 {
            let status = self.status();
            bail!("peers: {}: no answer to {question}: {status}", self.command);
        }
        match serde_json::from_str(&line) {
            Ok(Answer::Error { error }) => bail!("peers: {}: {question}: {error}", self.command),
            Ok(answer) => Ok(answer),
            Err(_) => bail!("peers: {}: {question}: expected a line of JSON, got {}", self.command, line.trim_end()),
        }
    }

    /// How the process ended, after some time to do so.
    fn status(&mut self) -> String {
        drop(self.questions.take());
        for _ in 0..100 {
            if let Ok(Some(status)) = self.process.try_wait() {
                return format!("it ended, {status}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        "its output ended".to_owned()
    }
}

impl OfShape<'_> {
    /// Nanoseconds of one forward and backward of a peer.
    pub fn time(&self, peer: &str) -> Result<f64> {
        let mut peers = self.peers.borrow_mut();
        match peers.ask(&json!({ "run": peer }))? {
            Answer::Time { seconds } if seconds.is_finite() && seconds > 0.0 => Ok(seconds * 1e9),
            _ => bail!("peers: {}: {peer}: expected seconds, got none", peers.command),
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // closing its input ends it; one that hangs is killed
        drop(self.questions.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of peers that are a shell script.
    fn played(answer: &str) -> Result<f64> {
        let path = std::env::temp_dir().join(format!("segloss-peers-{}-{}.sh", std::process::id(), answer.len()));
        std::fs::write(&path, format!("while read question; do case $question in {answer} esac; done\n"))?;
        let mut peers = Peers::start(&format!("sh {}", path.display()))?;
        let time = peers.of(&[1, 2, 3]).and_then(|peers| peers.time(&peers.names[0]));
        std::fs::remove_file(path)?;
        time
    }

    const READY: &str = r#"'{"shape":[1,2,3]}') echo '{"peers": ["one"], "on": "a shell"}' ;;"#;

    #[test]
    #[cfg(unix)]
    fn a_peer_is_asked_by_name_and_answers_in_seconds() {
        let time = played(&format!(r#"{READY} '{{"run":"one"}}') echo '{{"seconds": 0.25}}' ;;"#)).expect("a time");
        assert!((time - 0.25e9).abs() < 1.0);
    }

    #[test]
    #[cfg(unix)]
    fn a_peer_that_dies_errs_or_answers_something_else_is_an_error_that_says_so() {
        let refused = |answer: &str| format!("{:#}", played(&format!("{READY} *) {answer} ;;")).expect_err("refused"));
        assert!(refused("exit 3").ends_with(r#"no answer to {"run":"one"}: it ended, exit status: 3"#));
        assert!(refused("echo twelve").ends_with("expected a line of JSON, got twelve"));
        assert!(refused(r#"echo '{"error": "no memory"}'"#).ends_with(r#"{"run":"one"}: no memory"#));
        assert!(refused(r#"echo '{"seconds": -1}'"#).ends_with("one: expected seconds, got none"));
        let missing = format!("{:#}", Peers::start("segloss-no-such-program --serve").err().expect("refused"));
        assert!(missing.starts_with("peers: cannot start segloss-no-such-program"), "{missing}");
    }
}

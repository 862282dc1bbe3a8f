//! How a command ends: what it tells goes to standard output, what went wrong to standard error, and the exit code
//! says which of the two it was. With `--json` there is exactly one object on standard output either way.

use std::io::{self, Write};

use serde_json::{Value as Json, json};

use super::exit::Exit;
use super::told::Told;

/// Why a command has nothing to tell.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    exit: Exit,
    code: &'static str,
    message: String,
    facts: Json,
}

impl Failure {
    /// `code` is for programs, `message` says what to do.
    pub(super) fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self { exit, code, message: message.into(), facts: json!({}) }
    }

    /// Adds a fact for programs.
    #[must_use]
    pub(super) fn fact(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.facts[name] = value.into();
        self
    }

    /// One JSON object, on one line.
    pub(super) fn json(&self) -> Json {
        let mut object = json!({
            "ok": false, "error": self.code, "message": self.message, "exit": self.exit as u8,
        });
        if let (Some(object), Some(facts)) = (object.as_object_mut(), self.facts.as_object()) {
            object.extend(facts.clone());
        }
        object
    }
}

/// Prints what a command has to tell, or why it has not.
pub(super) fn finish(result: Result<Told, Failure>, as_json: bool) -> Exit {
    match result {
        Ok(told) if as_json => print(&format!("{}\n", told.json()), told.exit()),
        Ok(told) => print(&told.text(), told.exit()),
        Err(failure) if as_json => print(&format!("{}\n", failure.json()), failure.exit),
        Err(failure) => complain(&failure.message, failure.exit),
    }
}

/// Writes to standard output in the midst of a command. `false`: whoever read it has seen enough.
pub(super) fn try_print(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            let message = format!("cannot write to standard output: {error}");
            Err(Failure::new(Exit::Internal, "internal", message))
        }
    }
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error; a full disk is.
pub(super) fn print(text: &str, exit: Exit) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => exit,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit,
        Err(error) => complain(&format!("cannot write to standard output: {error}"), Exit::Internal),
    }
}

/// Writes to standard error. If even that fails there is nobody left to tell.
pub(super) fn complain(message: &str, exit: Exit) -> Exit {
    let _ = writeln!(io::stderr(), "sluice: {message}");
    exit
}

//! An error at run time: whose fault it is, and whether trying again helps.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The topology or the command line is wrong.
    Config,
    /// A record is wrong, and the job says that this stops it.
    Data,
    /// A server, a file, a disk: something that Millrace needs and does not have.
    Dependency,
    /// A guard of the job has stopped it.
    Guard,
    /// Millrace is wrong.
    Bug,
}

/// Message grammar: a lowercase primary line that is a sentence without its full stop; what happened in detail; what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub kind: FaultKind,
    /// Whether the same call can succeed later without anybody changing anything.
    pub retry: bool,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault { kind, retry: false, message: message.into(), detail: None, hint: None }
    }
    pub fn config(message: impl Into<String>) -> Fault {
        Self::new(FaultKind::Config, message)
    }
    pub fn data(message: impl Into<String>) -> Fault {
        Self::new(FaultKind::Data, message)
    }
    /// A dependency that is down: retry helps.
    pub fn down(message: impl Into<String>) -> Fault {
        Fault { retry: true, ..Self::new(FaultKind::Dependency, message) }
    }
    /// A dependency that says no: retry does not help.
    pub fn refused(message: impl Into<String>) -> Fault {
        Self::new(FaultKind::Dependency, message)
    }
    pub fn bug(message: impl Into<String>) -> Fault {
        Self::new(FaultKind::Bug, message)
    }
    pub fn detail(mut self, detail: impl Into<String>) -> Fault {
        self.detail = Some(detail.into());
        self
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(d) = &self.detail {
            write!(f, "\n  Detail: {d}")?;
        }
        if let Some(h) = &self.hint {
            write!(f, "\n  Hint: {h}")?;
        }
        Ok(())
    }
}
impl std::error::Error for Fault {}

//! Exit codes: documented, and the same in every release.

use millrace_engine::summary::FaultClass;
use millrace_sdk::{Fault, FaultKind};
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well; records in the dead letter are not lost.
    Ok = 0,
    /// The topology has errors.
    Config = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A server, topic, table, file or folder is missing, or says no; another process of the job is gone.
    Dependency = 3,
    /// Data that the job may not go on with.
    Data = 4,
    /// A record could be written nowhere, not even to the dead letter.
    Lost = 5,
    /// A guard was red: what it looks at is not published, and somebody must look.
    Halted = 6,
    /// A test does not hold.
    Failed = 7,
    /// A topology cannot go on with the state of the one that it is compared with.
    StateLost = 8,
    /// Millrace is wrong.
    Bug = 70,
}

pub const HELP: &str = "Exit codes:
  0   all went well (records in the dead letter are not lost)
  1   the topology has errors
  2   the command line is wrong
  3   a server, topic, table, file or folder is missing, or says no; another process of the job is gone
  4   data that the job may not go on with
  5   a record was lost: it could be written nowhere, not even to the dead letter
  6   a guard has halted the job: what it was red for is not published
  7   a test of a topology does not hold
  8   a topology cannot go on with all the state of the one that it is compared with
  70  a bug in Millrace";

impl Exit {
    pub fn of(fault: &Fault) -> Exit {
        match fault.kind {
            FaultKind::Config => Exit::Config,
            FaultKind::Data => Exit::Data,
            FaultKind::Dependency => Exit::Dependency,
            FaultKind::Guard => Exit::Halted,
            FaultKind::Bug => Exit::Bug,
        }
    }

    pub fn of_class(class: FaultClass) -> Exit {
        match class {
            FaultClass::Config => Exit::Config,
            FaultClass::Data => Exit::Data,
            FaultClass::Dependency => Exit::Dependency,
            FaultClass::Guard => Exit::Halted,
            FaultClass::Bug => Exit::Bug,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(e: Exit) -> ExitCode {
        ExitCode::from(e as u8)
    }
}

//! What doctor found: checks in groups, each with a code, a mark and what would change it.

use serde::Serialize;

use crate::telemetry::Code;

/// What a check is about. In the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The sidecar, the app and its server.
    App,
    /// Trace context in headers.
    Context,
    /// How calls find their parent.
    Joins,
    /// Spans on their way to the collector.
    Export,
    /// What the kernel and the privileges are.
    Kernel,
    /// Settings.
    Config,
    /// A manifest.
    Kubernetes,
}

impl Group {
    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Group::App => "app",
            Group::Context => "context",
            Group::Joins => "joins",
            Group::Export => "export",
            Group::Kernel => "kernel",
            Group::Config => "config",
            Group::Kubernetes => "kubernetes",
        }
    }
}

/// How a check came out. In the order of weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing to do, or not now.
    Note,
    /// Something is lost that need not be.
    Warn,
    /// Something does not work.
    Error,
}

impl Mark {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Mark::Ok => "ok",
            Mark::Note => "note",
            Mark::Warn => "warn",
            Mark::Error => "error",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about.
    pub group: Group,
    /// Its page in `hopspan explain`.
    pub code: Code,
    /// How it came out.
    pub mark: Mark,
    /// What was found.
    pub found: String,
    /// What would change it; empty where nothing needs to.
    pub fix: String,
}

/// All checks of one look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of this document: `config/doctor.schema.json`.
    pub version: u32,
    /// The version of hopspan that looked.
    pub hopspan: &'static str,
    /// What was looked at, in a sentence.
    pub subject: String,
    /// By group, in the order in which they were made.
    pub checks: Vec<Check>,
    /// How many came out how.
    pub summary: Summary,
}

/// Checks by how they came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// As they should be.
    pub ok: usize,
    /// Worth knowing.
    pub note: usize,
    /// Something is lost.
    pub warn: usize,
    /// Something does not work.
    pub error: usize,
}

/// Checks in the making.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Check>);

impl Findings {
    /// As it should be.
    pub(super) fn ok(&mut self, group: Group, code: Code, found: impl Into<String>) {
        self.add(group, code, Mark::Ok, found, "");
    }

    /// Any outcome; `fix` may be empty.
    pub(super) fn add(
        &mut self,
        group: Group,
        code: Code,
        mark: Mark,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.0.push(Check {
            group,
            code,
            mark,
            found: found.into(),
            fix: fix.into(),
        });
    }

    /// All of them.
    pub(super) fn report(self, subject: String) -> Report {
        let mut checks = self.0;
        checks.sort_by_key(|check| check.group);
        let count = |mark| checks.iter().filter(|check| check.mark == mark).count();
        let summary = Summary {
            ok: count(Mark::Ok),
            note: count(Mark::Note),
            warn: count(Mark::Warn),
            error: count(Mark::Error),
        };
        Report {
            version: 1,
            hopspan: env!("CARGO_PKG_VERSION"),
            subject,
            checks,
            summary,
        }
    }
}

impl Report {
    /// Whether something is as bad as `mark`, or worse.
    pub fn has(&self, mark: Mark) -> bool {
        self.checks.iter().any(|check| check.mark >= mark)
    }

    /// What is not as it should be.
    #[cfg(test)]
    pub(super) fn said(&self) -> Vec<&Check> {
        let checks = self.checks.iter();
        checks.filter(|check| check.mark != Mark::Ok).collect()
    }
}

//! The rules of the serial proof, by name. Each closes a hole that a program was found to fall into.

#[cfg(test)]
use crate::correlation::toothless;

/// The rules that refuse. All hold, always; only this library's test program can turn one off, to see what it prevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::correlation) enum Rule {
    /// The caller's process is older than its socket, so that it made it.
    Maker,
    /// No process that it forked since holds the call's socket or the request's.
    NoHeirs,
    /// Its main thread waits on the call's socket, and on nothing else.
    Parked,
    /// It is not known to serve several requests at once, and does not now.
    OneRequest,
    /// The request was given to the app before the call's bytes came.
    Before,
    /// The process has read some of the request.
    Read,
    /// Every other request that was alive at that moment waits, or is another worker's.
    OthersElsewhere,
    /// Where the caller, or who has it, is younger than another's request: both are living children of one process.
    Siblings,
    /// It is no event loop, and has no greenlets.
    Alone,
    /// At the end all of it still holds, for the same sockets.
    Still,
}

#[cfg(test)]
impl Rule {
    pub(super) const ALL: [Rule; 10] = [
        Rule::Maker,
        Rule::NoHeirs,
        Rule::Parked,
        Rule::OneRequest,
        Rule::Before,
        Rule::Read,
        Rule::OthersElsewhere,
        Rule::Siblings,
        Rule::Alone,
        Rule::Still,
    ];

    /// Those that are off in this run of the test program.
    pub(super) fn off() -> Vec<Rule> {
        let off = |rule: &Rule| toothless::is_off(&format!("{rule:?}"));
        Rule::ALL.into_iter().filter(off).collect()
    }
}

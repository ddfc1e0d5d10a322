//! What happens in a run: requests, and what workers do for them.

/// What a worker does for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::correlation::serial) enum Act {
    /// A call on a connection of its own, awaited.
    Fresh,
    /// A call on the process's kept connection, awaited.
    Pooled,
    /// A call sent in two pieces, awaited.
    Split,
    /// A call whose answer nobody reads.
    Fire,
    /// A call whose answer is read later, maybe within another request.
    Leave,
    /// Reads the answers of calls that were left.
    Collect,
    /// A call on a connection that all workers hold.
    Shared,
    /// A forked child that makes calls for this request, while its parent goes on.
    Fork,
    /// A forked child that forks another and ends; the other calls, and its parent is whoever is given orphans.
    Daemon,
    /// A forked child that goes on accepting, as a worker, and keeps what it inherited.
    ForkWorker,
    /// A forked child that answers the request in its parent's stead.
    HandOver,
    /// The same by a child's child, whose parent is whoever is given orphans.
    HandDown,
    /// Accepts another connection meanwhile, makes a call, then serves both.
    Nest,
    /// A call by another thread.
    Thread,
    /// Takes a while: a millisecond.
    Work,
    /// Takes long: a third of a second.
    Sleep,
    /// The worker dies; another may get its number.
    Die,
}

/// One request, or several on a kept connection.
#[derive(Clone, Debug)]
pub(in crate::correlation::serial) struct Visit {
    /// What is done for each: before the response, and after it.
    pub(in crate::correlation::serial) requests: Vec<(Vec<Act>, Vec<Act>)>,
    /// It does not come through hopspan.
    pub(in crate::correlation::serial) foreign: bool,
}

/// All that happens in one run.
#[derive(Clone, Debug)]
pub(in crate::correlation::serial) struct Plan {
    pub(in crate::correlation::serial) workers: usize,
    /// Workers make calls between requests, too.
    pub(in crate::correlation::serial) idle_calls: bool,
    /// The master is its container's first process, and given orphans; else hopspan is.
    pub(in crate::correlation::serial) master_first: bool,
    /// Workers have a thread that makes calls of its own.
    pub(in crate::correlation::serial) background: bool,
    pub(in crate::correlation::serial) visits: Vec<Visit>,
    pub(in crate::correlation::serial) schedule: Vec<u8>,
}

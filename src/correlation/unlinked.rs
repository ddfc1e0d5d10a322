//! Why an outbound call was left without a parent: a closed set of reasons.

use crate::telemetry::Code;

/// A reason, counted in `hopspan_joins_abstained_total{reason}` and exported as `hopspan.unlinked.reason`.
///
/// The set is closed: dashboards may rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unlinked {
    /// The call brought the token of a request that has ended: work that outlived it. It is linked to it.
    TokenExpired,
    /// The call came from another host: not the app's.
    RemotePeer,
    /// The call shares its connection with others (HTTP/2), so the connection proves nothing of it.
    Multiplexed,
    /// The call's connection was redirected: a NAT may have rewritten its addresses.
    Redirected,
    /// No rung works here: the kernel cannot be asked about sockets.
    Off,
    /// The kernel did not say when the call's bytes came in.
    NoTimestamp,
    /// The call waited in hopspan for longer than finished requests are remembered.
    Stale,
    /// The caller's socket is gone.
    SocketGone,
    /// No process of the app that hopspan can see holds the caller's socket.
    UnknownCaller,
    /// More than one process may hold the socket (opened before a fork, or inherited by a child).
    SharedSocket,
    /// The process serves several requests at once, or did so before (threads, event loop).
    SeveralRequests,
    /// The process's main thread did not come to wait for this call within the budget.
    NotParked,
    /// A thread made the call that serves no request: a background job, a thread of a pool, or a call at start.
    OtherThread,
    /// The process serves no request of ours: a background job or a call at start.
    NoInbound,
    /// The process accepted a request but has read none of it, or the request came after the call.
    NotRead,
    /// Another request was alive at that moment and its process is not known.
    UnknownOwner,
    /// `/proc` of the app's processes may not be read.
    NoProcessAccess,
    /// The look-up took longer than its budget.
    TimedOut,
    /// Too many look-ups were waiting.
    Overloaded,
    /// A kernel answer that this version cannot read.
    Unsupported,
    /// The thread that made the call serves several requests by turns: an event loop, or greenlets.
    EventLoop,
    /// Several threads sent the call's bytes, or one did during several requests.
    SplitCall,
    /// Several threads read the request or answer it, so none of them can be believed.
    HandedOver,
    /// The response to the request had begun when the call was sent.
    AnswerBegun,
    /// The kernel's programs did not see the call being sent.
    NotSeen,
    /// They saw other bytes on the call's connection than hopspan did.
    BytesDiffer,
    /// What they knew of the request was evicted: too many connections at once.
    Forgotten,
    /// Where the call begins on its connection is not known: it came before the answer to the call before, or after one
    /// of a length that was not told (a chunked body).
    StartUnknown,
}

impl Unlinked {
    /// All reasons.
    pub const ALL: [Unlinked; 28] = [
        Unlinked::TokenExpired,
        Unlinked::RemotePeer,
        Unlinked::Multiplexed,
        Unlinked::Redirected,
        Unlinked::Off,
        Unlinked::NoTimestamp,
        Unlinked::Stale,
        Unlinked::SocketGone,
        Unlinked::UnknownCaller,
        Unlinked::SharedSocket,
        Unlinked::SeveralRequests,
        Unlinked::NotParked,
        Unlinked::OtherThread,
        Unlinked::NoInbound,
        Unlinked::NotRead,
        Unlinked::UnknownOwner,
        Unlinked::NoProcessAccess,
        Unlinked::TimedOut,
        Unlinked::Overloaded,
        Unlinked::Unsupported,
        Unlinked::EventLoop,
        Unlinked::SplitCall,
        Unlinked::HandedOver,
        Unlinked::AnswerBegun,
        Unlinked::NotSeen,
        Unlinked::BytesDiffer,
        Unlinked::Forgotten,
        Unlinked::StartUnknown,
    ];

    /// The code that `hopspan explain` has a page for, exported as `hopspan.unlinked.code`.
    pub fn code(self) -> Code {
        match self {
            Unlinked::TokenExpired => Code::TokenExpired,
            Unlinked::RemotePeer => Code::RemotePeer,
            Unlinked::Multiplexed => Code::Multiplexed,
            Unlinked::Redirected => Code::Redirected,
            Unlinked::Off => Code::JoinsOff,
            Unlinked::NoTimestamp => Code::NoTimestamp,
            Unlinked::Stale => Code::Stale,
            Unlinked::SocketGone => Code::SocketGone,
            Unlinked::UnknownCaller => Code::UnknownCaller,
            Unlinked::SharedSocket => Code::SharedSocket,
            Unlinked::SeveralRequests => Code::SeveralRequests,
            Unlinked::NotParked => Code::NotParked,
            Unlinked::OtherThread => Code::OtherThread,
            Unlinked::NoInbound => Code::NoInbound,
            Unlinked::NotRead => Code::NotRead,
            Unlinked::UnknownOwner => Code::UnknownOwner,
            Unlinked::NoProcessAccess => Code::NoProcessAccess,
            Unlinked::TimedOut => Code::TimedOut,
            Unlinked::Overloaded => Code::Overloaded,
            Unlinked::Unsupported => Code::Unsupported,
            Unlinked::EventLoop => Code::EventLoop,
            Unlinked::SplitCall => Code::SplitCall,
            Unlinked::HandedOver => Code::HandedOver,
            Unlinked::AnswerBegun => Code::AnswerBegun,
            Unlinked::NotSeen => Code::NotSeen,
            Unlinked::BytesDiffer => Code::BytesDiffer,
            Unlinked::Forgotten => Code::Forgotten,
            Unlinked::StartUnknown => Code::StartUnknown,
        }
    }

    /// The reason, as exported.
    pub fn as_str(self) -> &'static str {
        match self {
            Unlinked::TokenExpired => "token_expired",
            Unlinked::RemotePeer => "remote_peer",
            Unlinked::Multiplexed => "multiplexed",
            Unlinked::Redirected => "redirected",
            Unlinked::Off => "off",
            Unlinked::NoTimestamp => "no_timestamp",
            Unlinked::Stale => "stale",
            Unlinked::SocketGone => "socket_gone",
            Unlinked::UnknownCaller => "unknown_caller",
            Unlinked::SharedSocket => "shared_socket",
            Unlinked::SeveralRequests => "several_requests",
            Unlinked::NotParked => "not_parked",
            Unlinked::OtherThread => "other_thread",
            Unlinked::NoInbound => "no_inbound",
            Unlinked::NotRead => "not_read",
            Unlinked::UnknownOwner => "unknown_owner",
            Unlinked::NoProcessAccess => "no_process_access",
            Unlinked::TimedOut => "timed_out",
            Unlinked::Overloaded => "overloaded",
            Unlinked::Unsupported => "unsupported",
            Unlinked::EventLoop => "event_loop",
            Unlinked::SplitCall => "split_call",
            Unlinked::HandedOver => "handed_over",
            Unlinked::AnswerBegun => "answer_begun",
            Unlinked::NotSeen => "not_seen",
            Unlinked::BytesDiffer => "bytes_differ",
            Unlinked::Forgotten => "forgotten",
            Unlinked::StartUnknown => "start_unknown",
        }
    }
}

impl std::fmt::Display for Unlinked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_and_codes_are_distinct() {
        let told: std::collections::HashSet<_> = Unlinked::ALL.iter().map(|r| r.as_str()).collect();
        let codes: std::collections::HashSet<_> = Unlinked::ALL.iter().map(|r| r.code()).collect();
        assert_eq!((told.len(), codes.len()), (Unlinked::ALL.len(), told.len()));
        assert!(codes.iter().all(|code| code.as_str().starts_with("HOP3")));
    }
}

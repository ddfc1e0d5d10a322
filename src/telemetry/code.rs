//! The codes of everything that hopspan says and that someone may have to act on: `HOP` and three digits.
//!
//! A code is given once and never reused. The same one is in `doctor`, in a log line (`code=`), on a span that has no
//! parent (`hopspan.unlinked.code`) and in `hopspan explain CODE`, where each has a page. The hundreds:
//!
//! ```text
//! 1xx  this host and the sidecar on it       2xx  a Kubernetes manifest       3xx  why a call has no parent
//! ```

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $title:literal;)+) => {
        /// A code. Its title is one line; its page says what it means and what to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $(#[$doc])* $name,)+
        }

        impl Code {
            /// All codes, in their order.
            pub const ALL: &'static [Code] = &[$(Code::$name,)+];

            /// As it is written: `HOP114`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => concat!("HOP", $number),)+
                }
            }

            /// In one line.
            pub fn title(self) -> &'static str {
                match self {
                    $(Code::$name => $title,)+
                }
            }
        }
    };
}

codes! {
    SidecarSilent = 101, "no sidecar answers at the admin address";
    SidecarTimeout = 102, "the sidecar took too long to answer";
    NotReady = 103, "the sidecar is not ready";
    AppRefuses = 104, "the app does not accept connections";
    AppTimeout = 105, "the app took too long to accept a connection";
    AppAddress = 106, "the app's address cannot be resolved";

    ContextMalformed = 111, "trace headers that were not valid came in";
    PropagatorsOff = 112, "no trace context leaves: the propagators leave it out";
    NotSampled = 113, "no new trace is recorded: the sampling ratio is 0";
    CallsBypass = 114, "the app's calls do not pass through hopspan";

    RungHeader = 120, "the header rung: the app sends a traceparent itself";
    RungToken = 121, "the token rung: a call brings back its request's token";
    RungThread = 122, "the thread rung: the kernel says which thread read the request and made the call";
    RungSerial = 123, "the serial rung: the process serves one request and waits for this call";
    ServerKind = 124, "what kind of server the app is";
    RouterInFront = 125, "a router process stands between hopspan and the app's workers";

    SerialNoSockDiag = 131, "serial: the kernel cannot be asked about sockets";
    SerialPidNamespace = 132, "serial: the app's processes are not visible";
    SerialUser = 133, "serial: the app runs as another user";
    SerialYama = 134, "serial: Yama forbids looking at the app's processes";
    SerialNotDumpable = 135, "serial: a process of the app may not be looked at";
    SerialKernel = 136, "serial: the kernel or the app's program does not tell enough";
    SerialUnixSocket = 137, "serial: the kernel cannot be asked about unix sockets";
    SerialWaiting = 138, "serial: the app does not run yet";
    SerialOff = 139, "serial: switched off in the config";

    ThreadCapabilities = 141, "thread: a capability is missing";
    ThreadNoBtf = 142, "thread: the kernel has no type information (BTF)";
    ThreadKernel = 143, "thread: the kernel lacks the tracepoints";
    ThreadLockdown = 144, "thread: the kernel is locked down";
    ThreadMemory = 145, "thread: the kernel gives no memory for it";
    ThreadForbidden = 146, "thread: bpf(2) is forbidden here";
    ThreadRefused = 147, "thread: the program could not be loaded";
    ThreadOff = 148, "thread: switched off in the config";

    TokenOff = 151, "token: off, and the app's server needs it";
    TokenNotReturned = 152, "token: no call brings one back; the shim is not loaded in the app";
    TokenUnknown = 153, "token: calls bring tokens that name no request";
    ShimNotUnpacked = 154, "the shim could not be given to the command";

    Unlinked = 161, "calls are left without a parent";
    RungsDisagree = 162, "two rungs answered and disagreed";

    ExportDisabled = 171, "no spans leave: export is disabled";
    CollectorUnreachable = 172, "the collector cannot be reached";
    CollectorTimeout = 173, "the collector took too long to answer";
    CollectorRejects = 174, "the collector answers, and does not take the spans";
    SpansDropped = 175, "spans were dropped";

    Kernel = 181, "the kernel and what it allows";
    MemoryShort = 182, "hopspan is short of memory";

    ConfigInvalid = 191, "the config file has mistakes";
    ReloadRefused = 192, "the last reload was refused; the config before it serves";
    NeedsRestart = 193, "settings in the file wait for a restart";
    ConfigSubPath = 194, "the config is mounted by subPath and never changes";
    DoorsOpen = 195, "the outbound or admin listener is open to other hosts";
    OtelEnvironment = 196, "an OTEL_* variable is not understood";

    ManifestUnreadable = 201, "the manifest cannot be read";
    ManifestNoSidecar = 202, "no hopspan container is in the manifest";
    ManifestPidNamespace = 203, "the pod does not share its process namespace";
    ManifestUser = 204, "hopspan and the app run as different users";
    ManifestCapabilities = 205, "the capabilities that are added do not take effect";
    ManifestCapabilityPair = 206, "the thread rung needs CAP_BPF and CAP_PERFMON, both";
    ManifestProxy = 207, "the app's container has no HTTP_PROXY that leads to hopspan";
    ManifestNotNative = 208, "hopspan is an ordinary container";
    ManifestSubPath = 209, "the config is mounted by subPath";

    TokenExpired = 301, "unlinked: the request of the token has ended";
    RemotePeer = 302, "unlinked: the call came from another host";
    JoinsOff = 303, "unlinked: no rung works here";
    NoTimestamp = 304, "unlinked: the kernel did not say when the call came in";
    Stale = 305, "unlinked: the call waited too long in hopspan";
    SocketGone = 306, "unlinked: the caller's socket is gone";
    UnknownCaller = 307, "unlinked: no visible process of the app made the call";
    SharedSocket = 308, "unlinked: several processes may hold the socket";
    SeveralRequests = 309, "unlinked: the process serves several requests at once";
    NotParked = 310, "unlinked: the main thread did not come to wait for the call";
    OtherThread = 311, "unlinked: another thread made the call";
    NoInbound = 312, "unlinked: the process serves no request";
    NotRead = 313, "unlinked: the process has not read the request";
    UnknownOwner = 314, "unlinked: another request was alive and its process is not known";
    NoProcessAccess = 315, "unlinked: the app's processes may not be looked at";
    TimedOut = 316, "unlinked: the look-up took too long";
    Overloaded = 317, "unlinked: too many look-ups were waiting";
    Unsupported = 318, "unlinked: a kernel answer that this version cannot read";
    Multiplexed = 319, "unlinked: the call shares its connection with others";
    EventLoop = 320, "unlinked: an event loop, or greenlets, made the call";
    SplitCall = 321, "unlinked: several threads or requests sent the call";
    HandedOver = 322, "unlinked: a request is handed from thread to thread";
    AnswerBegun = 323, "unlinked: the response had begun when the call was sent";
    NotSeen = 324, "unlinked: the kernel's programs did not see the call being sent";
    BytesDiffer = 325, "unlinked: the kernel saw the call begin elsewhere";
    Forgotten = 326, "unlinked: what was known of the request was evicted";
    StartUnknown = 327, "unlinked: where the call begins on its connection is not known";
    Redirected = 330, "unlinked: the call was redirected to hopspan";
}

impl Code {
    /// The code with this name, in any case: `HOP114`, `hop114`, `114`.
    pub fn parse(text: &str) -> Option<Code> {
        let text = text.trim().to_ascii_uppercase();
        let digits = text.strip_prefix("HOP").unwrap_or(&text);
        let known = |code: &&Code| code.as_str().strip_prefix("HOP") == Some(digits);
        Code::ALL.iter().find(known).copied()
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        let text = String::deserialize(deserializer)?;
        Code::parse(&text).ok_or_else(|| serde::de::Error::custom("no such code"))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_given_once_in_order_and_says_something_of_its_own() {
        let numbers: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(numbers, sorted);
        let titles: std::collections::HashSet<_> = Code::ALL.iter().map(|c| c.title()).collect();
        assert_eq!(titles.len(), Code::ALL.len());
        assert!(numbers.iter().all(|number| number.len() == 6));
    }

    #[test]
    fn a_code_is_read_as_people_write_it() {
        for text in ["HOP114", "hop114", " 114 "] {
            assert_eq!(Code::parse(text), Some(Code::CallsBypass), "{text}");
        }
        for text in ["", "HOP", "HOP999", "14", "HOPHOP114"] {
            assert_eq!(Code::parse(text), None, "{text}");
        }
    }
}

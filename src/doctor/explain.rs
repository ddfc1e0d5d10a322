//! `hopspan explain`: the page of each code, from the binary itself, since who needs it may have no network.
//!
//! A code without a page does not compile; a page without a code fails the test below.

use crate::correlation::Unlinked;
use crate::telemetry::Code;

/// The code that a user means: its name, its digits, or a `hopspan.unlinked.reason`.
pub fn find(text: &str) -> Option<Code> {
    let reason = |reason: &&Unlinked| reason.as_str() == text.trim();
    Code::parse(text).or_else(|| {
        Unlinked::ALL
            .iter()
            .find(reason)
            .map(|reason| reason.code())
    })
}

/// All codes, a line each.
pub fn list() -> String {
    let line = |code: &Code| format!("{code}  {}\n", code.title());
    Code::ALL.iter().map(line).collect()
}

/// What a code means and what to do. Its first line is code and title; it ends with a newline.
pub fn page(code: Code) -> &'static str {
    match code {
        Code::SidecarSilent => include_str!("pages/HOP101.txt"),
        Code::SidecarTimeout => include_str!("pages/HOP102.txt"),
        Code::NotReady => include_str!("pages/HOP103.txt"),
        Code::AppRefuses => include_str!("pages/HOP104.txt"),
        Code::AppTimeout => include_str!("pages/HOP105.txt"),
        Code::AppAddress => include_str!("pages/HOP106.txt"),
        Code::ContextMalformed => include_str!("pages/HOP111.txt"),
        Code::PropagatorsOff => include_str!("pages/HOP112.txt"),
        Code::NotSampled => include_str!("pages/HOP113.txt"),
        Code::CallsBypass => include_str!("pages/HOP114.txt"),
        Code::RungHeader => include_str!("pages/HOP120.txt"),
        Code::RungToken => include_str!("pages/HOP121.txt"),
        Code::RungThread => include_str!("pages/HOP122.txt"),
        Code::RungSerial => include_str!("pages/HOP123.txt"),
        Code::ServerKind => include_str!("pages/HOP124.txt"),
        Code::RouterInFront => include_str!("pages/HOP125.txt"),
        Code::SerialNoSockDiag => include_str!("pages/HOP131.txt"),
        Code::SerialPidNamespace => include_str!("pages/HOP132.txt"),
        Code::SerialUser => include_str!("pages/HOP133.txt"),
        Code::SerialYama => include_str!("pages/HOP134.txt"),
        Code::SerialNotDumpable => include_str!("pages/HOP135.txt"),
        Code::SerialKernel => include_str!("pages/HOP136.txt"),
        Code::SerialUnixSocket => include_str!("pages/HOP137.txt"),
        Code::SerialWaiting => include_str!("pages/HOP138.txt"),
        Code::SerialOff => include_str!("pages/HOP139.txt"),
        Code::ThreadCapabilities => include_str!("pages/HOP141.txt"),
        Code::ThreadNoBtf => include_str!("pages/HOP142.txt"),
        Code::ThreadKernel => include_str!("pages/HOP143.txt"),
        Code::ThreadLockdown => include_str!("pages/HOP144.txt"),
        Code::ThreadMemory => include_str!("pages/HOP145.txt"),
        Code::ThreadForbidden => include_str!("pages/HOP146.txt"),
        Code::ThreadRefused => include_str!("pages/HOP147.txt"),
        Code::ThreadOff => include_str!("pages/HOP148.txt"),
        Code::TokenOff => include_str!("pages/HOP151.txt"),
        Code::TokenNotReturned => include_str!("pages/HOP152.txt"),
        Code::TokenUnknown => include_str!("pages/HOP153.txt"),
        Code::ShimNotUnpacked => include_str!("pages/HOP154.txt"),
        Code::Unlinked => include_str!("pages/HOP161.txt"),
        Code::RungsDisagree => include_str!("pages/HOP162.txt"),
        Code::ExportDisabled => include_str!("pages/HOP171.txt"),
        Code::CollectorUnreachable => include_str!("pages/HOP172.txt"),
        Code::CollectorTimeout => include_str!("pages/HOP173.txt"),
        Code::CollectorRejects => include_str!("pages/HOP174.txt"),
        Code::SpansDropped => include_str!("pages/HOP175.txt"),
        Code::Kernel => include_str!("pages/HOP181.txt"),
        Code::MemoryShort => include_str!("pages/HOP182.txt"),
        Code::ConfigInvalid => include_str!("pages/HOP191.txt"),
        Code::ReloadRefused => include_str!("pages/HOP192.txt"),
        Code::NeedsRestart => include_str!("pages/HOP193.txt"),
        Code::ConfigSubPath => include_str!("pages/HOP194.txt"),
        Code::DoorsOpen => include_str!("pages/HOP195.txt"),
        Code::OtelEnvironment => include_str!("pages/HOP196.txt"),
        Code::ManifestUnreadable => include_str!("pages/HOP201.txt"),
        Code::ManifestNoSidecar => include_str!("pages/HOP202.txt"),
        Code::ManifestPidNamespace => include_str!("pages/HOP203.txt"),
        Code::ManifestUser => include_str!("pages/HOP204.txt"),
        Code::ManifestCapabilities => include_str!("pages/HOP205.txt"),
        Code::ManifestCapabilityPair => include_str!("pages/HOP206.txt"),
        Code::ManifestProxy => include_str!("pages/HOP207.txt"),
        Code::ManifestNotNative => include_str!("pages/HOP208.txt"),
        Code::ManifestSubPath => include_str!("pages/HOP209.txt"),
        Code::TokenExpired => include_str!("pages/HOP301.txt"),
        Code::RemotePeer => include_str!("pages/HOP302.txt"),
        Code::JoinsOff => include_str!("pages/HOP303.txt"),
        Code::NoTimestamp => include_str!("pages/HOP304.txt"),
        Code::Stale => include_str!("pages/HOP305.txt"),
        Code::SocketGone => include_str!("pages/HOP306.txt"),
        Code::UnknownCaller => include_str!("pages/HOP307.txt"),
        Code::SharedSocket => include_str!("pages/HOP308.txt"),
        Code::SeveralRequests => include_str!("pages/HOP309.txt"),
        Code::NotParked => include_str!("pages/HOP310.txt"),
        Code::OtherThread => include_str!("pages/HOP311.txt"),
        Code::NoInbound => include_str!("pages/HOP312.txt"),
        Code::NotRead => include_str!("pages/HOP313.txt"),
        Code::UnknownOwner => include_str!("pages/HOP314.txt"),
        Code::NoProcessAccess => include_str!("pages/HOP315.txt"),
        Code::TimedOut => include_str!("pages/HOP316.txt"),
        Code::Overloaded => include_str!("pages/HOP317.txt"),
        Code::Unsupported => include_str!("pages/HOP318.txt"),
        Code::Multiplexed => include_str!("pages/HOP319.txt"),
        Code::EventLoop => include_str!("pages/HOP320.txt"),
        Code::SplitCall => include_str!("pages/HOP321.txt"),
        Code::HandedOver => include_str!("pages/HOP322.txt"),
        Code::AnswerBegun => include_str!("pages/HOP323.txt"),
        Code::NotSeen => include_str!("pages/HOP324.txt"),
        Code::BytesDiffer => include_str!("pages/HOP325.txt"),
        Code::Forgotten => include_str!("pages/HOP326.txt"),
        Code::StartUnknown => include_str!("pages/HOP327.txt"),
        Code::Redirected => include_str!("pages/HOP330.txt"),
    }
}

#[cfg(test)]
mod tests;

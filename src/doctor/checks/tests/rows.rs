//! For each thing that a check finds, a world in which it does.

use super::super::super::facts::{Answer, Door, Facts};
use super::super::super::report::Mark;
use super::worlds::{
    books, calls, counted, failing, probed, proxied, rungs, serial_off, thread_off,
    without_sidecar, world,
};
use crate::correlation::server::ServerKind;
use crate::correlation::{Availability, Obstacle, Rung};
use crate::export::Reach;
use crate::telemetry::Code;

/// What is found, how bad it is, where, and in which words.
pub(super) type Row = (Code, Mark, Facts, &'static str);

fn app_and_context() -> Vec<Row> {
    use Code::*;
    let unresolved = || Door::Nameless("no such host".to_owned());
    vec![
        (
            SidecarSilent,
            Mark::Error,
            without_sidecar(true),
            "no sidecar answers",
        ),
        (
            SidecarSilent,
            Mark::Note,
            without_sidecar(false),
            "what the host would allow",
        ),
        (
            SidecarTimeout,
            Mark::Error,
            world(|facts| facts.sidecar.answer = Answer::TimedOut),
            "did not answer in time",
        ),
        (
            NotReady,
            Mark::Warn,
            world(|facts| facts.sidecar.not_ready = Some("draining".to_owned())),
            "not ready: draining",
        ),
        (
            AppRefuses,
            Mark::Error,
            world(|facts| facts.app.door = Door::Refused),
            "127.0.0.1:8000",
        ),
        (
            AppTimeout,
            Mark::Error,
            world(|facts| facts.app.door = Door::TimedOut),
            "in time",
        ),
        (
            AppAddress,
            Mark::Error,
            world(|facts| facts.app.door = unresolved()),
            "no such host",
        ),
        (
            ServerKind,
            Mark::Note,
            rungs(self::ServerKind::Unknown, Availability::Ready, Rung::Ready),
            "not known",
        ),
        (
            ContextMalformed,
            Mark::Warn,
            world(|facts| {
                facts.sidecar.counts.malformed = counted(&[("version", 2), ("length", 1)]);
            }),
            "3 malformed trace headers came in: length, version",
        ),
        (
            PropagatorsOff,
            Mark::Warn,
            world(|facts| facts.settings.tracecontext = false),
            "propagators",
        ),
        (
            NotSampled,
            Mark::Warn,
            world(|facts| facts.settings.ratio = 0.0),
            "ratio is 0",
        ),
        (
            CallsBypass,
            Mark::Note,
            proxied(Some(""), 1),
            "no HTTP_PROXY",
        ),
        (CallsBypass, Mark::Note, proxied(Some(""), 0), "yet"),
        (CallsBypass, Mark::Note, proxied(None, 1), "yet"),
        (
            CallsBypass,
            Mark::Warn,
            proxied(Some("http://proxy:3128"), 1),
            "leads elsewhere (http://proxy:3128)",
        ),
    ]
}

fn joins() -> Vec<Row> {
    use Code::*;
    let mut rows: Vec<Row> = Vec::new();
    for (code, obstacle) in [
        (
            ThreadCapabilities,
            Obstacle::Capability {
                bpf: true,
                perfmon: false,
            },
        ),
        (ThreadNoBtf, Obstacle::NoBtf),
        (
            ThreadKernel,
            Obstacle::NoTracepoint {
                kernel: "5.15".to_owned(),
            },
        ),
        (ThreadLockdown, Obstacle::Lockdown),
        (ThreadMemory, Obstacle::Memory),
        (ThreadForbidden, Obstacle::Forbidden),
        (ThreadRefused, Obstacle::Verifier("R1 invalid".to_owned())),
        (ThreadRefused, Obstacle::Failed("no".to_owned())),
        (ThreadOff, Obstacle::Disabled),
    ] {
        rows.push((code, Mark::Warn, thread_off(obstacle), "thread: off: "));
    }
    rows.push((
        RungsDisagree,
        Mark::Error,
        thread_off(Obstacle::Disagreed),
        "stronger proof",
    ));
    for code in [
        SerialNoSockDiag,
        SerialPidNamespace,
        SerialUser,
        SerialYama,
        SerialNotDumpable,
        SerialKernel,
        SerialUnixSocket,
        SerialOff,
    ] {
        rows.push((code, Mark::Warn, serial_off(code), "serial: off: why"));
    }
    let waiting = Rung::Waiting {
        why: "nobody listens".to_owned(),
    };
    let off = || Availability::Off(Obstacle::NoBtf);
    rows.push((
        SerialWaiting,
        Mark::Note,
        rungs(self::ServerKind::Unknown, off(), waiting),
        "waiting: nobody listens",
    ));
    for kind in [self::ServerKind::EventLoop, self::ServerKind::Greenlets] {
        rows.push((
            TokenOff,
            Mark::Warn,
            rungs(kind, Availability::Ready, Rung::Ready),
            "token: off",
        ));
    }
    let router = || rungs(self::ServerKind::Router, Availability::Ready, Rung::Ready);
    rows.push((RouterInFront, Mark::Warn, router(), "workers"));
    rows.push((TokenOff, Mark::Note, router(), "token: off"));
    rows.push((
        TokenNotReturned,
        Mark::Warn,
        calls(|calls| calls.joined = counted(&[("serial", 3)])),
        "though 3 were made for requests",
    ));
    rows.push((
        TokenUnknown,
        Mark::Note,
        calls(|calls| calls.unknown_tokens = 1),
        "1 calls",
    ));
    rows.push((
        TokenUnknown,
        Mark::Warn,
        calls(|calls| calls.unknown_tokens = 30),
        "30 calls",
    ));
    rows.push((
        Unlinked,
        Mark::Warn,
        calls(|calls| calls.unlinked = counted(&[("several_requests", 20), ("no_inbound", 1)])),
        "21 have none: several_requests 20 [HOP309], no_inbound 1 [HOP312]",
    ));
    rows.push((
        Unlinked,
        Mark::Note,
        calls(|calls| calls.unlinked = counted(&[("not_parked", 1)])),
        "100 of 101 calls have a parent (token 90, serial 10)",
    ));
    rows.push((
        RungsDisagree,
        Mark::Error,
        calls(|calls| calls.disagreements = counted(&[("serial", 1)])),
        "1 times",
    ));
    rows
}

fn export_and_config() -> Vec<Row> {
    use Code::*;
    let refused = || Reach::Unreachable("Connection refused".to_owned());
    let wrong = |what: &str| Some(("hopspan.yaml".to_owned(), Some(what.to_owned())));
    vec![
        (
            ExportDisabled,
            Mark::Warn,
            probed(Reach::Disabled),
            "no spans leave",
        ),
        (
            CollectorUnreachable,
            Mark::Error,
            probed(refused()),
            "Connection refused",
        ),
        (
            CollectorUnreachable,
            Mark::Error,
            failing(CollectorUnreachable),
            "cannot be reached",
        ),
        (
            CollectorTimeout,
            Mark::Error,
            probed(Reach::TimedOut),
            "in time",
        ),
        (
            CollectorTimeout,
            Mark::Error,
            failing(CollectorTimeout),
            "took too long",
        ),
        (
            CollectorRejects,
            Mark::Error,
            probed(Reach::Rejects("404".to_owned())),
            "404",
        ),
        (
            CollectorRejects,
            Mark::Error,
            probed(Reach::Wrong("no URL".to_owned())),
            "no URL",
        ),
        (
            CollectorRejects,
            Mark::Error,
            failing(CollectorRejects),
            "does not take spans",
        ),
        (
            SpansDropped,
            Mark::Warn,
            books(|books| books.spans.dropped = counted(&[("queue_full", 5), ("disabled", 9)])),
            "queue_full 5, of 10",
        ),
        (
            ConfigInvalid,
            Mark::Error,
            world(|facts| facts.settings.file = wrong("h.yaml:3:1: no")),
            "h.yaml:3:1",
        ),
        (
            ConfigSubPath,
            Mark::Warn,
            world(|facts| facts.settings.sub_path = true),
            "subPath",
        ),
        (
            ReloadRefused,
            Mark::Error,
            world(|facts| facts.sidecar.reload_error = Some("a.yaml:1: one\ntwo".to_owned())),
            "serves on: a.yaml:1: one",
        ),
        (
            NeedsRestart,
            Mark::Warn,
            world(|facts| facts.sidecar.needs_restart = vec!["inbound.listen".to_owned()]),
            "inbound.listen",
        ),
        (
            OtelEnvironment,
            Mark::Warn,
            world(|facts| facts.settings.environment = vec![(false, "OTEL_X: 7 s".to_owned())]),
            "OTEL_X: 7 s",
        ),
        (
            OtelEnvironment,
            Mark::Error,
            world(|facts| facts.settings.environment = vec![(true, "OTEL_Y: no URL".to_owned())]),
            "OTEL_Y",
        ),
        (
            DoorsOpen,
            Mark::Warn,
            world(|facts| facts.settings.admin = "0.0.0.0:9465".to_owned()),
            "admin listens",
        ),
        (
            DoorsOpen,
            Mark::Warn,
            world(|facts| facts.settings.clients = vec!["0.0.0.0/0".to_owned()]),
            "outbound serves everyone",
        ),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = app_and_context();
    rows.extend(joins());
    rows.extend(export_and_config());
    rows
}

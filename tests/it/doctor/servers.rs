//! What kind of server the app is, asked of real ones; and what the survey says of the rungs before them.

use std::net::SocketAddr;

use hopspan::correlation::server::{Place, ServerKind};
use hopspan::correlation::survey::{State, Survey};
use hopspan::correlation::{Correlator, Options};
use hopspan::telemetry::{Code, Metrics};
use hopspan::trace::Evidence;

use crate::support::{client, python, raw};

fn survey(app: SocketAddr, options: Options) -> Survey {
    Correlator::new(Metrics::new(), options).survey(&[Place::Tcp(app)])
}

#[tokio::test]
async fn each_server_is_known_by_its_processes() {
    let rows: [(&str, Vec<&str>, ServerKind, usize); 4] = [
        ("gunicorn", vec!["--workers", "2"], ServerKind::Sync, 3),
        ("gunicorn", vec!["--preload"], ServerKind::Sync, 2),
        ("gunicorn", vec!["--threads", "4"], ServerKind::Threads, 2),
        ("uvicorn", vec![], ServerKind::EventLoop, 1),
    ];
    let mut ran = 0;
    for (server, args, kind, processes) in rows {
        let address = raw::closed_port();
        let builder = match server {
            "gunicorn" => python::gunicorn_at(address),
            _ => python::uvicorn_at(address),
        };
        let django = builder
            .args(args.iter().copied())
            .env("HTTP_PROXY", "http://me:secret@127.0.0.1:8081")
            .run()
            .await;
        // Also while it has served and holds connections.
        client::get(django.address, "/healthz").send().await;
        let told = survey(django.address, Options::default()).server;
        assert_eq!(told.kind, kind, "{server} {args:?}: {told:?}");
        assert_eq!(
            told.processes.len(),
            processes,
            "{server} {args:?}: {told:?}"
        );
        let first = &told.processes[0];
        assert_eq!((first.pid, first.listens), (django.process.pid(), true));
        assert_eq!(
            first.proxy.as_deref(),
            Some("http://REDACTED:REDACTED@127.0.0.1:8081"),
            "what is secret stays so"
        );
        ran += 1;
    }
    assert_eq!(ran, 4);
}

#[tokio::test]
async fn the_rungs_say_what_they_lack() {
    let nobody = survey(raw::closed_port(), Options::default());
    let serial = nobody.rung(Evidence::Serial).unwrap();
    assert_eq!(
        (serial.state, serial.code),
        (State::Waiting, Code::SerialWaiting)
    );
    assert_eq!(nobody.server.kind, ServerKind::Unknown);

    let django = python::gunicorn().run().await;
    let options = Options {
        tokens: true,
        thread: false,
        ..Options::default()
    };
    let there = survey(django.address, options);
    let told: Vec<_> = there
        .rungs
        .iter()
        .map(|r| (&*r.rung, r.state, r.code))
        .collect();
    let expected = [
        ("header", State::Ready, Code::RungHeader),
        ("token", State::Ready, Code::RungToken),
        ("thread", State::Off, Code::ThreadOff),
        ("serial", State::Ready, Code::RungSerial),
    ];
    assert_eq!(told, expected);

    let off = Options {
        serial: false,
        ..Options::default()
    };
    let off = survey(django.address, off);
    let codes: Vec<_> = off.rungs.iter().map(|r| r.code).collect();
    assert_eq!((codes[1], codes[3]), (Code::TokenOff, Code::SerialOff));
    assert!(
        off.rungs
            .iter()
            .all(|r| (r.state == State::Ready) == r.why.is_empty())
    );
}

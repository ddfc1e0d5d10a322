//! The same exchange with hopspan between and without it: what differs is what a standard or a setting says, and nothing
//! else. [`ALLOWED`] is the whole list, each with its clause; one that no exchange needs fails as well.
//!
//! The order of fields with different names is not compared (RFC 9110 section 5.3: it means nothing), nor where chunks
//! begin and end (RFC 9112 section 7.1). Everything else is: lines, names as they are written, values, bodies, trailers,
//! and whether a connection goes on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::support::message::{self, Head};
use crate::support::raw::{self, Peer};
use crate::support::{python, sidecar};

mod exchanges;

use exchanges::{Exchange, exchanges};

/// What may differ: where, what, and by which clause. `+` came, `-` went, `~` changed.
const ALLOWED: &[(&str, &str)] = &[
    ("app - connection", "RFC 9110 7.6.1: a field for this hop"),
    ("app - keep-alive", "RFC 9110 7.6.1: a field for this hop"),
    (
        "client - connection",
        "RFC 9110 7.6.1: a field for this hop",
    ),
    (
        "client - keep-alive",
        "RFC 9110 7.6.1: a field for this hop",
    ),
    (
        "app + traceparent",
        "W3C Trace Context 3.2: the span that the app continues",
    ),
    (
        "app ~ traceparent",
        "W3C Trace Context 3.4: the parent is now hopspan's span",
    ),
    (
        "app + x-forwarded-for",
        "inbound.trusted_proxies: who asked",
    ),
    (
        "app ~ x-forwarded-for",
        "inbound.trusted_proxies: who asked, added to a trusted peer's list",
    ),
    (
        "app + x-forwarded-proto",
        "inbound.trusted_proxies: by which scheme",
    ),
    (
        "app + x-forwarded-host",
        "inbound.trusted_proxies: for which host",
    ),
];

/// A request as the app got it.
#[derive(Debug)]
struct Request {
    line: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
}

/// An answer as the client got it.
#[derive(Debug)]
struct Answer {
    line: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    whole: bool,
}

/// An exchange as both of its ends saw it.
#[derive(Debug, Default)]
struct Account {
    app: Option<Request>,
    client: Option<Answer>,
    /// What a tunnel said.
    tunnel: Vec<u8>,
    open: bool,
}

/// An app that answers whatever comes with the exchange in hand, and keeps what came.
struct App {
    server: raw::Server,
    row: Arc<Mutex<Option<Exchange>>>,
    seen: Arc<Mutex<Option<Request>>>,
}

impl App {
    async fn new() -> App {
        let row: Arc<Mutex<Option<Exchange>>> = Arc::default();
        let seen: Arc<Mutex<Option<Request>>> = Arc::default();
        let (asked, kept) = (Arc::clone(&row), Arc::clone(&seen));
        let server =
            raw::server(move |peer| answer(peer, Arc::clone(&asked), Arc::clone(&kept))).await;
        App { server, row, seen }
    }
}

/// A request, read without an opinion: it is the same reader with hopspan and without.
async fn read(peer: &mut Peer) -> Option<Request> {
    let head = peer.try_head().await?;
    let framed = ["content-length", "transfer-encoding"]
        .iter()
        .any(|name| !head.all(name).is_empty());
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    if framed {
        // Content is framed as that of a response is.
        let framing = Head {
            line: "HTTP/1.1 200 OK".to_owned(),
            ..head.clone()
        };
        let content = message::read_response(peer, framing, "POST").await;
        (body, trailers) = (content.body, content.trailers);
    }
    Some(Request {
        line: head.line,
        fields: head.fields,
        body,
        trailers,
    })
}

async fn answer(
    mut peer: Peer,
    row: Arc<Mutex<Option<Exchange>>>,
    seen: Arc<Mutex<Option<Request>>>,
) {
    while let Some(request) = read(&mut peer).await {
        *seen.lock().unwrap() = Some(request);
        let row = row.lock().unwrap().clone().unwrap();
        for piece in row.answer {
            peer.try_write(piece).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if row.upgrades {
            while let Some(said) = peer.some().await {
                peer.try_write(said).await;
            }
        }
        if row.closes {
            return;
        }
    }
}

async fn play(app: &App, to: SocketAddr, exchange: &Exchange) -> Account {
    *app.row.lock().unwrap() = Some(exchange.clone());
    *app.seen.lock().unwrap() = None;
    let (mut account, peer) = ask(to, exchange).await;
    account.app = app.seen.lock().unwrap().take();
    account.open = is_open(peer).await;
    account
}

async fn ask(to: SocketAddr, exchange: &Exchange) -> (Account, Peer) {
    let mut account = Account::default();
    let mut peer = raw::connect(to).await;
    peer.write(&exchange.request).await;
    let method = exchange.request.split(' ').next().unwrap();
    if let Some(got) = peer.try_response_to(method).await {
        account.client = Some(Answer {
            line: got.head.line,
            fields: got.head.fields,
            body: got.body,
            trailers: got.trailers,
            whole: got.complete,
        });
    }
    if exchange.upgrades {
        peer.write(b"\x81\x05hello").await;
        account.tunnel = peer.exactly(7).await;
    }
    (account, peer)
}

/// Whether something answers to one more request, or in a tunnel says it back: nothing comes on a connection that ends, be
/// it soon or late.
async fn is_open(mut peer: Peer) -> bool {
    assert_eq!(peer.unread(), "", "more than the answer");
    peer.try_write("GET /next HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        .await;
    peer.fill().await
}

/// Values by name, in their order; names as they are written.
fn by_name(fields: &[(String, String)]) -> Vec<(String, Vec<String>)> {
    let mut names: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in fields {
        match names.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value.clone()),
            None => names.push((name.clone(), vec![value.clone()])),
        }
    }
    names
}

/// What differs, as [`ALLOWED`] writes it, and in full.
struct Differences(Vec<(String, String)>);

impl Differences {
    fn note(&mut self, what: impl Into<String>, full: String) {
        self.0.push((what.into(), full));
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, without: &T, with: &T) {
        if without != with {
            self.note(what, format!("{without:?} -> {with:?}"));
        }
    }

    fn fields(&mut self, end: &str, without: &[(String, String)], with: &[(String, String)]) {
        let (without, with) = (by_name(without), by_name(with));
        for (name, values) in &without {
            match with.iter().find(|(other, _)| other == name) {
                None => self.note(
                    format!("{end} - {}", name.to_lowercase()),
                    format!("{values:?}"),
                ),
                Some((_, other)) if other != values => {
                    self.note(
                        format!("{end} ~ {}", name.to_lowercase()),
                        format!("{values:?} -> {other:?}"),
                    );
                }
                Some(_) => {}
            }
        }
        for (name, values) in &with {
            if !without.iter().any(|(other, _)| other == name) {
                self.note(
                    format!("{end} + {}", name.to_lowercase()),
                    format!("{values:?}"),
                );
            }
        }
    }

    fn of(without: &Account, with: &Account) -> Differences {
        let mut found = Differences(Vec::new());
        match (&without.app, &with.app) {
            (Some(without), Some(with)) => {
                found.same("app line", &without.line, &with.line);
                found.fields("app", &without.fields, &with.fields);
                found.same("app body", &without.body, &with.body);
                found.fields("app trailer", &without.trailers, &with.trailers);
            }
            (without, with) => found.same("app", &without.is_some(), &with.is_some()),
        }
        match (&without.client, &with.client) {
            (Some(without), Some(with)) => {
                found.same("client line", &without.line, &with.line);
                found.fields("client", &without.fields, &with.fields);
                found.same("client body", &without.body, &with.body);
                found.fields("client trailer", &without.trailers, &with.trailers);
                found.same("client whole", &without.whole, &with.whole);
            }
            (without, with) => found.same("client", &without.is_some(), &with.is_some()),
        }
        found.same("tunnel", &without.tunnel, &with.tunnel);
        found.same("open", &without.open, &with.open);
        found
    }
}

#[tokio::test]
async fn an_exchange_is_what_it_is_without_hopspan() {
    let app = App::new().await;
    let hopspan = sidecar::to(app.server.address).run().await;
    let rows = exchanges();
    let (mut used, mut wrong) = (BTreeSet::new(), Vec::new());
    for row in &rows {
        let without = play(&app, app.server.address, row).await;
        let with = play(&app, hopspan.inbound, row).await;
        for (what, full) in Differences::of(&without, &with).0 {
            // A row may need a difference of its own.
            let allowed = ALLOWED.iter().any(|(known, _)| *known == what);
            let own = row.allowed.iter().any(|(known, _)| *known == what);
            if !allowed && !own {
                wrong.push(format!("{}: {what}: {full}", row.name));
            }
            used.insert((if own { row.name } else { "" }, what));
        }
    }
    println!(
        "{} exchanges, {} kinds of differences",
        rows.len(),
        used.len()
    );
    assert!(
        wrong.is_empty(),
        "{} unexplained:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let all = ALLOWED.iter().map(|(what, _)| ("", *what));
    let own = rows
        .iter()
        .flat_map(|row| row.allowed.iter().map(|(what, _)| (row.name, *what)));
    let stale: Vec<_> = all
        .chain(own)
        .filter(|(name, what)| !used.contains(&(*name, (*what).to_owned())))
        .collect();
    assert!(stale.is_empty(), "allowed, and never seen: {stale:?}");
    assert!(rows.len() >= 60, "{}", rows.len());
}

/// The body of `/echo/`: what Django saw.
fn echoed(account: &Account) -> Option<(Vec<(String, String)>, Value)> {
    let body = &account.client.as_ref()?.body;
    let mut seen: Value = serde_json::from_slice(body).ok()?;
    let headers = seen.as_object_mut()?.remove("headers")?;
    let headers = headers.as_object()?.iter();
    let headers =
        headers.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned()));
    seen.as_object_mut()?.remove("pid");
    Some((headers.collect(), seen))
}

#[tokio::test]
async fn django_under_gunicorn_is_what_it_is_without_hopspan() {
    let django = python::gunicorn()
        .args(["--worker-class", "gthread", "--threads", "4"])
        .run()
        .await;
    let hopspan = sidecar::to(django.address).run().await;
    let rows = exchanges::to_django();
    let mut wrong = Vec::new();
    for row in &rows {
        let mut accounts = Vec::new();
        for to in [django.address, hopspan.inbound] {
            let (mut account, peer) = ask(to, row).await;
            account.open = is_open(peer).await;
            accounts.push(account);
        }
        let [mut without, mut with] = <[Account; 2]>::try_from(accounts).unwrap();
        let mut found = Differences(Vec::new());
        if let (Some((one, rest)), Some((two, other))) = (echoed(&without), echoed(&with)) {
            found.fields("app", &one, &two);
            found.same("app saw", &rest, &other);
            for account in [&mut without, &mut with] {
                let client = account.client.as_mut().unwrap();
                client.body.clear();
                client
                    .fields
                    .retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
            }
        }
        // Two answers are not of the same second.
        for account in [&mut without, &mut with] {
            let client = account.client.as_mut().unwrap();
            for (name, value) in &mut client.fields {
                if name == "Date" || (name == "Set-Cookie" && value.contains("expires=")) {
                    value.clear();
                }
            }
        }
        found.0.extend(Differences::of(&without, &with).0);
        for (what, full) in found.0 {
            let mut known = ALLOWED.iter().chain(row.allowed);
            if !known.any(|(known, _)| *known == what) {
                wrong.push(format!("{}: {what}: {full}", row.name));
            }
        }
    }
    println!("{} exchanges with Django", rows.len());
    assert!(
        wrong.is_empty(),
        "{} unexplained:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(rows.len() >= 20, "{}", rows.len());
}

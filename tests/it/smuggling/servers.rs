//! Servers that others wrote, behind hopspan: no request is served that hopspan did not send as one, and nobody gets
//! another's answer.
//!
//! Each case is a request that frames its body in two ways, or a row of `http1.txt`, or one of these changed at random;
//! behind it on its connection stands the next request, and after it somebody else asks on a connection of his own, which
//! is likely to be sent on the same one to the server. hopspan gives each request it sends a `traceparent` of its own, so
//! a request that a server found within another has none. What each server makes of the same bytes without hopspan is
//! told beside it: where the two differ, hopspan is what keeps them apart.
//!
//! `HOPSPAN_TEST_LONG=1`: more changed ones, from `HOPSPAN_FUZZ_SEED`.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use super::bench::sentinel;
use super::blocks;
use super::matrix::{CODINGS, LENGTHS};
use crate::fuzz;
use crate::support::process::Process;
use crate::support::{client, python, raw, sidecar};

/// Stands for the word of a case, and is as long.
const WORD: &[u8] = b"row-00000";
/// Connections at once.
const AT_ONCE: usize = 48;

/// What one server saw of one case, and how its client fared.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Verdict {
    /// Requests that reached it.
    seen: usize,
    /// The first status that the client got.
    status: Option<u16>,
}

/// Bodies that end where chunks end, or where the length says, with a request behind the nearer end.
fn framed() -> Vec<Vec<u8>> {
    let inner = "GET /smuggled-row-00000 HTTP/1.1\r\nHost: shop\r\n\r\n";
    let by_length = format!("0\r\n\r\n{inner}");
    let by_chunks = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let size = by_chunks.find("\r\n").unwrap() + 2;
    let mut all = Vec::new();
    for (body, right) in [(&by_length, by_length.len()), (&by_chunks, size)] {
        for lengths in LENGTHS {
            for codings in CODINGS {
                let lengths = lengths
                    .iter()
                    .map(|value| value.replace("15", &right.to_string()))
                    .map(|value| format!("Content-Length:{value}\r\n"));
                let codings = codings
                    .iter()
                    .map(|value| format!("Transfer-Encoding:{value}\r\n"));
                let fields: String = lengths.chain(codings).collect();
                let head = format!("POST /row-00000 HTTP/1.1\r\nHost: shop\r\n{fields}");
                all.push(format!("{head}\r\n{body}").into_bytes());
            }
        }
    }
    all
}

/// Every written case, then `changed` that are changed at random; each with its word.
fn cases(changed: usize) -> Vec<Vec<u8>> {
    let rows = blocks::read(include_str!("http1.txt")).into_iter();
    let rows = rows.map(|row| blocks::expand(&row.text, "row-00000", "shop"));
    let mut seeds: Vec<Vec<u8>> = framed().into_iter().chain(rows).collect();
    // A context of its own would hide that hopspan gave none; and long ones say nothing more here.
    let has_context = |seed: &[u8]| {
        let text = String::from_utf8_lossy(seed).to_ascii_lowercase();
        text.contains("traceparent")
    };
    seeds.retain(|seed| seed.len() < 4096 && !has_context(seed));
    assert!(seeds.len() > 900, "{}", seeds.len());
    let mut random = fuzz::random();
    let changed: Vec<_> = (0..changed).map(|_| random.changed(&seeds)).collect();
    let all = seeds.into_iter().chain(changed);
    all.enumerate()
        .map(|(number, bytes)| named(bytes, &word(number)))
        .collect()
}

fn word(number: usize) -> String {
    format!("row-{number:05}")
}

/// With a word of its own in place of [`WORD`].
fn named(mut bytes: Vec<u8>, word: &str) -> Vec<u8> {
    while let Some(at) = bytes.windows(WORD.len()).position(|at| at == WORD) {
        bytes[at..at + WORD.len()].copy_from_slice(word.as_bytes());
        if word.as_bytes() == WORD {
            break;
        }
    }
    bytes
}

/// Says a case and the request behind it, and reads until the end. The first status, and everything.
async fn say(to: SocketAddr, number: usize, bytes: Vec<u8>, leaves: bool) -> (Option<u16>, String) {
    let mut peer = raw::connect(to).await;
    let behind = sentinel(&word(number), to);
    // It may close before all is sent.
    peer.try_write([&bytes[..], behind.as_bytes()].concat())
        .await;
    if leaves {
        peer.half_close().await;
    }
    let got = String::from_utf8_lossy(&peer.rest().await).into_owned();
    let status = got.get(9..12).and_then(|status| status.parse().ok());
    (status, got)
}

/// Says all cases, [`AT_ONCE`] at once, each followed by somebody else's request. What went wrong is told.
async fn all(to: SocketAddr, cases: &Arc<Vec<Vec<u8>>>, hopspan: bool) -> Vec<Option<u16>> {
    let mut lanes = JoinSet::new();
    for lane in 0..AT_ONCE {
        let cases = Arc::clone(cases);
        lanes.spawn(async move {
            let mut statuses = Vec::new();
            for number in (lane..cases.len()).step_by(AT_ONCE) {
                let bytes = cases[number].clone();
                let (status, got) = say(to, number, bytes, !hopspan).await;
                statuses.push((number, status));
                if hopspan {
                    own(number, &cases[number], &got);
                    let target = format!("/victim-{number:05}");
                    let answer = client::get(to, &target).send().await;
                    let right = answer.text().ends_with(&format!("GET '{target}'\n"));
                    // A server that stands still between head and content is cut off there: no content is nobody else's.
                    let cut_off = !answer.complete && answer.body.is_empty();
                    assert!(
                        answer.status == 200 && (right || cut_off),
                        "{target} after {:?}: {answer:?}",
                        super::strict::latin(&cases[number])
                    );
                }
            }
            statuses
        });
    }
    let mut statuses: Vec<_> = lanes.join_all().await.concat();
    statuses.sort();
    statuses.into_iter().map(|(_, status)| status).collect()
}

/// No word that a client did not say is in what it got.
fn own(number: usize, case: &[u8], got: &str) {
    for at in got.match_indices("row-").map(|(at, _)| at) {
        let found = &got.as_bytes()[at..got.len().min(at + WORD.len())];
        let is_word = found.len() == WORD.len() && found[4..].iter().all(u8::is_ascii_digit);
        let said = || case.windows(found.len()).any(|part| part == found);
        assert!(
            !is_word || found == word(number).as_bytes() || said(),
            "case {number} got {got:?}"
        );
    }
    assert!(!got.contains("victim"), "case {number} got {got:?}");
}

/// A running server, told apart by the address it says it has.
struct Server {
    address: SocketAddr,
    process: Process,
}

impl Server {
    async fn start(program: &str, arguments: &[&str]) -> Server {
        let here = python::root().join("tests/it/smuggling");
        let mut command = Command::new(python::venv().join("bin").join(program));
        command.current_dir(here).args(arguments);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let process = Process::start(command);
        let line = process.line("http://127.0.0.1:").await;
        let address = line.split("http://").nth(1).unwrap();
        let address = address.split([' ', ',', '\u{1b}']).next().unwrap();
        let address = address.parse().unwrap();
        Server { address, process }
    }

    /// What it saw since the last time: contexts and targets. All of it has been written by then.
    async fn saw(&self, already: usize, mark: &str) -> Vec<(String, String)> {
        let target = format!("/{mark}");
        assert_eq!(client::get(self.address, &target).send().await.status, 200);
        self.process.line(&target).await;
        let output = self.process.stdout();
        let lines = output.lines().filter_map(|line| line.strip_prefix("saw "));
        let told = lines.map(|line| line.split_once(' ').unwrap());
        let told = told.map(|(context, asked)| (context.to_owned(), asked.to_owned()));
        told.skip(already).collect()
    }
}

/// How many requests of each case are among those.
fn counted(saw: &[(String, String)], cases: usize) -> Vec<usize> {
    let mut counts = vec![0; cases];
    for (_, asked) in saw {
        let at = asked.find("row-").map(|at| at + 4);
        let number = at.and_then(|at| asked.get(at..at + 5)?.parse::<usize>().ok());
        if let Some(count) = number.and_then(|number| counts.get_mut(number)) {
            *count += 1;
        }
    }
    counts
}

async fn crossings(name: &str, program: &str, arguments: &[&str]) {
    let many = match std::env::var_os("HOPSPAN_TEST_LONG") {
        Some(_) => 10_000,
        None => 300,
    };
    let cases = Arc::new(cases(many));
    let server = Server::start(program, arguments).await;
    let directly = all(server.address, &cases, false).await;
    let seen_directly = server.saw(0, "done-directly").await;
    let hopspan = sidecar::to(server.address)
        .set("timeouts.body_idle", json!("500ms"))
        .set("timeouts.header", json!("500ms"))
        .run()
        .await;
    let through = all(hopspan.inbound, &cases, true).await;
    let seen = server.saw(seen_directly.len(), "done-through").await;
    // The last one is ours, and came directly.
    let mut contexts = HashSet::new();
    for (context, asked) in &seen[..seen.len() - 1] {
        let fields: Vec<_> = context.split('-').map(str::len).collect();
        assert_eq!(
            fields,
            [2, 32, 16, 2],
            "{name} served what hopspan did not send: {asked}"
        );
        assert!(
            contexts.insert(context),
            "{name} got a context twice: {asked}"
        );
    }
    assert!(contexts.len() > cases.len(), "{}", contexts.len());
    let seen_directly = counted(&seen_directly, cases.len());
    let seen = counted(&seen, cases.len());
    let mut differing = BTreeMap::<_, Vec<usize>>::new();
    for number in 0..cases.len() {
        let verdict = |seen: &[usize], statuses: &[Option<u16>]| Verdict {
            seen: seen[number],
            status: statuses[number],
        };
        let (with, without) = (verdict(&seen, &through), verdict(&seen_directly, &directly));
        if with.seen != without.seen {
            differing.entry((without, with)).or_default().push(number);
        }
    }
    println!(
        "{name}: {} cases, {} requests served, each one that hopspan sent; verdicts that differ:",
        cases.len(),
        contexts.len()
    );
    for ((without, with), numbers) in &differing {
        println!(
            "  {:5}  {} seen, {:?} without; {} seen, {:?} with hopspan; such as {:?}",
            numbers.len(),
            without.seen,
            without.status,
            with.seen,
            with.status,
            super::strict::latin(&cases[numbers[0]])
                .chars()
                .take(200)
                .collect::<String>()
        );
    }
}

#[tokio::test]
async fn gunicorn_s_sync_workers_serve_only_what_hopspan_sent() {
    let arguments = ["--bind", "127.0.0.1:0", "--workers", "4", "told:wsgi"];
    crossings("gunicorn, sync", "gunicorn", &arguments).await;
}

#[tokio::test]
async fn gunicorn_s_threads_serve_only_what_hopspan_sent() {
    let arguments = ["--bind", "127.0.0.1:0", "--threads", "16", "told:wsgi"];
    crossings("gunicorn, threads", "gunicorn", &arguments).await;
}

#[tokio::test]
async fn uvicorn_serves_only_what_hopspan_sent() {
    let arguments = ["--port", "0", "--no-access-log", "told:asgi"];
    crossings("uvicorn", "uvicorn", &arguments).await;
}

//! What kind of server the app is, by the processes that listen at its address: for `/correlation` and `doctor`.
//!
//! No proof and never used for one: it says which rung an operator may hope for. It looks once and keeps nothing.

mod look;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::kernel::Pid;
use super::live::Live;
pub(super) use look::UnixSockets;

/// How the app serves several requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerKind {
    /// One request per process at a time: gunicorn sync, uWSGI prefork.
    Sync,
    /// Several threads per process: gunicorn gthread, uWSGI with threads.
    Threads,
    /// One thread, many requests: uvicorn and other asyncio servers.
    EventLoop,
    /// gevent, eventlet.
    Greenlets,
    /// The process that takes connections hands requests on to the app's.
    Router,
    /// Not seen, or not known.
    #[default]
    Unknown,
}

impl ServerKind {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            ServerKind::Sync => "one request per process",
            ServerKind::Threads => "threads",
            ServerKind::EventLoop => "an event loop",
            ServerKind::Greenlets => "greenlets",
            ServerKind::Router => "a router process in front",
            ServerKind::Unknown => "not known",
        }
    }
}

/// A process of the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerProcess {
    /// Its number, in hopspan's PID namespace.
    pub pid: u32,
    /// As the kernel knows it (at most 15 bytes).
    pub name: String,
    /// Its threads.
    pub threads: u32,
    /// Whether it holds the listening socket.
    pub listens: bool,
    /// Whether its `HTTP_PROXY` or `http_proxy` is set, and to what; absent where its environment cannot be read.
    pub proxy: Option<String>,
}

/// The app's server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// How it serves.
    pub kind: ServerKind,
    /// What it was told by.
    pub why: String,
    /// Its processes, the first 32 of them.
    pub processes: Vec<ServerProcess>,
}

/// Where an app listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// An address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Descriptors that an epoll instance waits for, as far as they tell servers apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Epoll {
    /// The app's listening socket.
    listener: bool,
    /// A unix socket or an eventfd: how an event loop wakes itself up.
    wake: bool,
    /// A pipe: how uWSGI's master signals its workers.
    pipe: bool,
}

/// Libraries that a process has loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Loaded {
    python: bool,
    uwsgi: bool,
    gevent: bool,
    /// uvloop, granian: event loops that do not look like asyncio's.
    event_loop: bool,
}

/// What was seen of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    pid: Pid,
    parent: Pid,
    name: String,
    command: Vec<String>,
    threads: u32,
    listens: bool,
    proxy: Option<String>,
    epolls: Vec<Epoll>,
    loaded: Loaded,
}

/// Looks at the processes that listen at `apps`, and their descendants. Takes some milliseconds.
pub(super) fn describe(live: &mut Live, apps: &[Place]) -> Server {
    let seen = look::processes(live, apps);
    let (kind, why) = judge(&seen);
    let processes = seen.into_iter().map(|seen| ServerProcess {
        pid: seen.pid,
        name: seen.name,
        threads: seen.threads,
        listens: seen.listens,
        proxy: seen.proxy,
    });
    Server {
        kind,
        why: why.to_owned(),
        processes: processes.collect(),
    }
}

/// Programs that hand requests on.
const ROUTERS: [&str; 9] = [
    "nginx", "haproxy", "envoy", "caddy", "traefik", "lighttpd", "h2o", "varnishd", "hopspan",
];
/// Words of a command line that mean a thread for each request.
const THREADED: [&str; 6] = [
    "runserver",
    "waitress",
    "cheroot",
    "http.server",
    "werkzeug",
    "flask",
];

fn judge(seen: &[Seen]) -> (ServerKind, &'static str) {
    // A master listens for its workers and serves nothing itself.
    let is_master = |one: &Seen| {
        seen.iter()
            .any(|other| other.listens && other.parent == one.pid)
    };
    let workers: Vec<&Seen> = seen
        .iter()
        .filter(|one| one.listens && !is_master(one))
        .collect();
    let any = |test: &dyn Fn(&Seen) -> bool| workers.iter().any(|worker| test(worker));
    if workers.is_empty() {
        return (
            ServerKind::Unknown,
            "no process that listens there is visible",
        );
    }
    if any(&|worker| ROUTERS.contains(&&*worker.name)) {
        return (ServerKind::Router, "a proxy takes the connections");
    }
    if any(&|worker| worker.loaded.gevent) {
        return (ServerKind::Greenlets, "gevent is loaded");
    }
    if any(&|worker| worker.loaded.uwsgi) {
        return uwsgi(seen, &workers);
    }
    if any(&|worker| worker.loaded.event_loop) {
        return (ServerKind::EventLoop, "uvloop or granian is loaded");
    }
    let waits = |worker: &Seen| worker.epolls.iter().any(|epoll| epoll.listener);
    if any(&|worker| {
        worker
            .epolls
            .iter()
            .any(|epoll| epoll.listener && epoll.wake)
    }) {
        return (ServerKind::EventLoop, "an event loop waits for connections");
    }
    if any(&waits) {
        return match any(&|worker| worker.loaded.python) {
            true => (
                ServerKind::Threads,
                "a thread waits for connections of others",
            ),
            false => (
                ServerKind::Unknown,
                "its program is not one that is known here",
            ),
        };
    }
    if any(&|worker| worker.says(&THREADED)) {
        return (ServerKind::Threads, "by its command line");
    }
    if any(&|worker| worker.threads > 1 && !worker.says(&["gunicorn"])) {
        return (ServerKind::Threads, "its processes have several threads");
    }
    (
        ServerKind::Sync,
        "its processes wait for one connection each",
    )
}

/// uWSGI waits by epoll in every mode, and each of its threads has an instance of its own.
fn uwsgi(seen: &[Seen], workers: &[&Seen]) -> (ServerKind, &'static str) {
    let gateway = |one: &&&Seen| !one.epolls.iter().any(|epoll| epoll.pipe);
    let beside = |one: &Seen| {
        let other = |other: &&Seen| !other.listens && other.parent == one.parent;
        seen.iter()
            .any(|process| other(&process) && !process.epolls.is_empty())
    };
    if workers.iter().filter(gateway).any(|one| beside(one)) {
        return (
            ServerKind::Router,
            "uWSGI's http router takes the connections",
        );
    }
    match workers.iter().any(|worker| worker.threads > 1) {
        true => (ServerKind::Threads, "uWSGI with threads"),
        false => (ServerKind::Sync, "uWSGI with one thread per process"),
    }
}

impl Seen {
    /// Whether a word of its command line is, or is a path that ends in, or a module of, one of these.
    fn says(&self, words: &[&str]) -> bool {
        self.command.iter().any(|argument| {
            let last = argument.rsplit('/').next().unwrap_or_default();
            words.iter().any(|word| {
                let rest = last.strip_prefix(word);
                rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
            })
        })
    }
}

#[cfg(test)]
mod tests;

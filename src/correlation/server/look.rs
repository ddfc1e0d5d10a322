//! What `/proc` shows of the processes that listen somewhere, and of their descendants.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::super::kernel::{Inode, Kernel, Pid};
use super::super::live::Live;
use super::{Epoll, Loaded, Place, Seen};

/// Processes that are looked at.
const MOST: usize = 32;
/// Bytes of a file in `/proc` that are read.
const LONGEST: usize = 1 << 20;

/// Everything known of the app's processes, masters first.
pub(super) fn processes(live: &mut Live, apps: &[Place]) -> Vec<Seen> {
    let unix = UnixSockets::read();
    let mut listening: HashSet<Inode> = HashSet::new();
    for app in apps {
        match app {
            Place::Tcp(_) => {
                listening.extend(live.listeners(app).unwrap_or_default().inodes);
            }
            Place::Unix(path) => listening.extend(unix.listening(path)),
        }
    }
    let mut seen: Vec<Seen> = Vec::new();
    for pid in family(live, &listening) {
        seen.extend(look(pid, &listening, &unix));
    }
    seen
}

/// The processes that hold one of these sockets, and what descends from them.
fn family(live: &mut Live, listening: &HashSet<Inode>) -> Vec<Pid> {
    if listening.is_empty() {
        return Vec::new();
    }
    let mut pids = live.pids();
    pids.sort_unstable();
    let mut found = Vec::new();
    let mut more = Vec::new();
    for pid in pids {
        let Ok((handle, _)) = live.open(pid) else {
            continue;
        };
        let open = live.open_files(&handle).unwrap_or_default();
        if open.has_socket(|inode| listening.contains(inode)) {
            found.push(pid);
            more.extend(live.children(&handle).unwrap_or_default());
        }
    }
    while let Some(pid) = more.pop().filter(|_| found.len() < MOST) {
        if found.contains(&pid) {
            continue;
        }
        found.push(pid);
        if let Ok((handle, _)) = live.open(pid) {
            more.extend(live.children(&handle).unwrap_or_default());
        }
    }
    found.truncate(MOST);
    found
}

fn look(pid: Pid, listening: &HashSet<Inode>, unix: &UnixSockets) -> Option<Seen> {
    let status = read(pid, "status")?;
    let line = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim()))
    };
    let mut seen = Seen {
        pid,
        parent: line("PPid:")?.parse().ok()?,
        name: line("Name:")?.to_owned(),
        threads: line("Threads:")?.parse().ok()?,
        command: words(&read(pid, "cmdline").unwrap_or_default()),
        proxy: read(pid, "environ").map(|text| proxy(&text)),
        loaded: loaded(&read(pid, "maps").unwrap_or_default()),
        ..Seen::default()
    };
    seen.loaded.uwsgi |= seen.name.contains("uwsgi");
    seen.loaded.python |= seen.name.starts_with("python");
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let Ok(link) = fs::read_link(entry.path()) else {
            continue;
        };
        let link = link.to_string_lossy();
        if socket(&link).is_some_and(|inode| listening.contains(&inode)) {
            seen.listens = true;
        }
        if link == "anon_inode:[eventpoll]" {
            let fd = entry.file_name().to_string_lossy().into_owned();
            seen.epolls.extend(epoll(pid, &fd, listening, unix));
        }
    }
    Some(seen)
}

/// What an epoll instance waits for: `tfd:` lines of its fdinfo (`man 5 proc_pid_fdinfo`).
fn epoll(pid: Pid, fd: &str, listening: &HashSet<Inode>, unix: &UnixSockets) -> Option<Epoll> {
    let info = read(pid, &format!("fdinfo/{fd}"))?;
    let mut epoll = Epoll::default();
    for line in info.lines() {
        let target = line.strip_prefix("tfd:").map(str::trim_start);
        let Some(target) = target.and_then(|rest| rest.split(' ').next()) else {
            continue;
        };
        let Ok(link) = fs::read_link(format!("/proc/{pid}/fd/{target}")) else {
            continue;
        };
        let link = link.to_string_lossy();
        match socket(&link) {
            Some(inode) if listening.contains(&inode) => epoll.listener = true,
            Some(inode) => epoll.wake |= unix.contains(inode),
            None => {
                epoll.pipe |= link.starts_with("pipe:");
                epoll.wake |= link == "anon_inode:[eventfd]";
            }
        }
    }
    Some(epoll)
}

fn loaded(maps: &str) -> Loaded {
    let any = |parts: &[&str]| parts.iter().any(|part| maps.contains(part));
    Loaded {
        python: any(&["libpython", "/python3", "/lib-dynload/"]),
        uwsgi: any(&["uwsgi"]),
        gevent: any(&["/gevent/"]),
        event_loop: any(&["/uvloop/", "/_granian", "/granian/"]),
    }
}

fn words(command: &str) -> Vec<String> {
    let words = command.split('\0').filter(|word| !word.is_empty());
    words.map(str::to_owned).take(64).collect()
}

/// The proxy of an environment; empty where none is set. Credentials are left out.
fn proxy(environment: &str) -> String {
    let of = |name: &str| {
        let mut variables = environment.split('\0');
        variables.find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
    };
    let value = of("http_proxy").or_else(|| of("HTTP_PROXY"));
    let value = value.unwrap_or_default();
    crate::trace::redact::userinfo(value).into_owned()
}

fn socket(link: &str) -> Option<Inode> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// The start of a file in `/proc`, as text.
fn read(pid: Pid, name: &str) -> Option<String> {
    use std::io::Read;
    let file = fs::File::open(format!("/proc/{pid}/{name}")).ok()?;
    let mut bytes = Vec::new();
    file.take(LONGEST as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The unix sockets of this network namespace: `/proc/net/unix`.
pub(in crate::correlation) struct UnixSockets(Vec<(Inode, Option<String>)>);

impl UnixSockets {
    pub(in crate::correlation) fn read() -> UnixSockets {
        let text = read(std::process::id(), "net/unix").unwrap_or_default();
        let sockets = text.lines().skip(1).filter_map(|line| {
            // Num, RefCount, Protocol, Flags, Type, St, Inode, and perhaps Path; 00010000 is a listener's flag.
            let mut fields = line.split_ascii_whitespace();
            let flags = fields.nth(3)?;
            let inode = fields.nth(2)?.parse().ok()?;
            let path = fields.next().filter(|_| flags == "00010000");
            Some((inode, path.map(str::to_owned)))
        });
        UnixSockets(sockets.collect())
    }

    fn contains(&self, inode: Inode) -> bool {
        self.0.iter().any(|(known, _)| *known == inode)
    }

    /// Those that listen at a path.
    pub(in crate::correlation) fn listening(&self, path: &Path) -> impl Iterator<Item = Inode> {
        let path = path.to_string_lossy();
        let at = self
            .0
            .iter()
            .filter(move |(_, at)| at.as_deref() == Some(&*path));
        at.map(|(inode, _)| *inode)
    }
}

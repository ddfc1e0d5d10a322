//! Socket activation: listening sockets that systemd made and passes on (sd_listen_fds(3)), so that a restart refuses no
//! connection: they wait in the socket, which outlives hopspan.
//!
//! `LISTEN_PID` must be this process, `LISTEN_FDS` is their number, from descriptor 3 on, `LISTEN_FDNAMES` says what each is
//! for: `inbound`, `outbound`, `status` or `admin`. A single one by any other name is inbound.
//!
//! The one place of this floor with `unsafe`: a descriptor that another program opened has to be taken on its word.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::proxy::listener::Listener;

/// SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;
const DOORS: [&str; 4] = ["inbound", "outbound", "status", "admin"];

/// The variables, which are of no use to another process.
pub const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The sockets that were passed, by what they are for.
#[derive(Debug, Default)]
pub struct Activated(Vec<(&'static str, OwnedFd)>);

impl Activated {
    /// Takes what was passed to this process: once, later there is nothing.
    ///
    /// # Errors
    /// Names that are not known or come twice, or fewer sockets than promised.
    pub fn take() -> Result<Activated, String> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Activated::default());
        }
        let names = doors(std::process::id(), |name| std::env::var(name).ok())?;
        let sockets = (FIRST..).zip(names).map(|(fd, door)| {
            // SAFETY: asks only whether the descriptor is open.
            if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
                return Err(format!("LISTEN_FDS: descriptor {fd} is not open"));
            }
            // SAFETY: it is open, and whoever started this process says that it is ours: nothing else here has it, since
            // this is done once.
            Ok((door, unsafe { OwnedFd::from_raw_fd(fd) }))
        });
        sockets.collect::<Result<_, _>>().map(Activated)
    }

    /// The listener for one door, if it was passed.
    pub(super) fn listener(&mut self, door: &str) -> Option<std::io::Result<Listener>> {
        let at = self.0.iter().position(|(name, _)| *name == door)?;
        Some(Listener::inherited(self.0.swap_remove(at).1))
    }
}

/// What the sockets are for, in order; none where they are not for the process `own`.
fn doors(own: u32, env: impl Fn(&str) -> Option<String>) -> Result<Vec<&'static str>, String> {
    if env("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(own) {
        return Ok(Vec::new());
    }
    let count = env("LISTEN_FDS").unwrap_or_default();
    let count: usize = match count.parse() {
        Ok(count) if count <= DOORS.len() => count,
        Ok(count) => {
            return Err(format!(
                "LISTEN_FDS: {count} sockets, there is use for four"
            ));
        }
        Err(_) => return Err(format!("LISTEN_FDS: `{count}` is no number")),
    };
    let names = env("LISTEN_FDNAMES").unwrap_or_default();
    let mut found = Vec::new();
    for name in names.split(':').chain(std::iter::repeat("")).take(count) {
        let door = match DOORS.iter().find(|door| **door == name) {
            Some(door) => *door,
            None if count == 1 => "inbound",
            None => {
                return Err(format!(
                    "LISTEN_FDNAMES: `{name}` is not known: write FileDescriptorName= with inbound, outbound, status or admin \
                     in each .socket unit"
                ));
            }
        };
        if found.contains(&door) {
            return Err(format!(
                "LISTEN_FDNAMES: {door} is there twice: write one ListenStream=, [::]:PORT is for IPv4, too"
            ));
        }
        found.push(door);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pid: &str, fds: &str, names: &str) -> Result<Vec<&'static str>, String> {
        doors(7, |name| {
            let text = match name {
                "LISTEN_PID" => pid,
                "LISTEN_FDS" => fds,
                _ => names,
            };
            (!text.is_empty()).then(|| text.to_owned())
        })
    }

    #[test]
    fn sockets_are_told_apart_by_their_names() {
        for (pid, fds, names, wanted) in [
            ("", "", "", vec![]),
            ("8", "1", "inbound", vec![]),
            ("x", "1", "inbound", vec![]),
            ("7", "0", "", vec![]),
            ("7", "1", "inbound", vec!["inbound"]),
            ("7", "1", "", vec!["inbound"]),
            ("7", "1", "hopspan.socket", vec!["inbound"]),
            ("7", "1", "admin", vec!["admin"]),
            ("7", "2", "outbound:inbound", vec!["outbound", "inbound"]),
        ] {
            assert_eq!(told(pid, fds, names), Ok(wanted), "{pid} {fds} {names}");
        }
        for (fds, names, why) in [
            ("two", "", "`two` is no number"),
            ("", "", "`` is no number"),
            ("5", "", "use for four"),
            ("2", "inbound", "`` is not known"),
            ("2", "inbound:web", "`web` is not known"),
            ("2", "inbound:inbound", "twice"),
        ] {
            let error = told("7", fds, names).unwrap_err();
            assert!(error.contains(why), "{fds} {names}: {error}");
        }
    }
}

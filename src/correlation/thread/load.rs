//! Brings the programs of `thread.bpf.c` into the kernel and names what hinders it.
//!
//! `thread.bpf.o` is built from it by `tests/real/bpf --write`; the offsets of the running kernel's structures are put in
//! here, from its BTF. Programs and maps live as long as [`Kernel`].

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use aya::maps::{Array, HashMap, MapData, MapError};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf, BtfError, Ebpf, EbpfError, EbpfLoader};

use super::privileges;
use super::record::{Key, Record, Words};
use crate::correlation::availability::Obstacle;

static OBJECT: &[u8] = aya::include_bytes_aligned!("../thread.bpf.o");

/// Program, and the tracepoint that it is for.
const PROGRAMS: [(&str, &str); 3] = [
    ("on_receive", "sock_recv_length"),
    ("on_send", "sock_send_length"),
    ("on_fork", "sched_process_fork"),
];

/// How often a program is loaded, at most. Nobody sends signals for that long.
const TRIES: usize = 8;

/// What a port is for, as in `thread.bpf.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The app listens there.
    App = 1,
    /// Calls arrive there.
    Calls = 2,
}

/// The programs, attached. Dropped: detached and gone.
pub(super) struct Kernel {
    _programs: Ebpf,
    calls: HashMap<MapData, Key, Words>,
    ports: Mutex<HashMap<MapData, u32, u32>>,
    peers: Mutex<HashMap<MapData, u64, u32>>,
    lost: Array<MapData, u64>,
}

impl Kernel {
    /// Loads and attaches. Takes some tens of milliseconds and needs CAP_BPF and CAP_PERFMON; nothing later does.
    pub(super) fn load() -> Result<Kernel, Obstacle> {
        Kernel::load_for(types)
    }

    /// For a kernel with these types.
    fn load_for(types: impl FnOnce() -> Result<Btf, Obstacle>) -> Result<Kernel, Obstacle> {
        let (bpf, perfmon) = privileges::missing().map_err(failed)?;
        if bpf || perfmon {
            return Err(Obstacle::Capability { bpf, perfmon });
        }
        let mut loader = EbpfLoader::new();
        // It reads the kernel's types by itself, and large as they are, they need not be here twice.
        loader.btf(None);
        let btf = types()?;
        let network = std::fs::metadata("/proc/self/ns/net")
            .map_err(failed)?
            .ino() as u32;
        let pids = std::fs::metadata("/proc/self/ns/pid").map_err(failed)?;
        // The kernel has the number as it is, and user space sees it encoded.
        let device = u64::from(libc::major(pids.dev())) << 20 | u64::from(libc::minor(pids.dev()));
        let mut programs = loader
            .btf(Some(&btf))
            .allow_unsupported_maps() // task storage: only the programs use it
            .override_global("NETNS", &network, true)
            .override_global("PIDNS_DEV", &device, true)
            .override_global("PIDNS_INO", &pids.ino(), true)
            .load(OBJECT)
            .map_err(obstacle)?;
        for (name, tracepoint) in PROGRAMS {
            let program = programs.program_mut(name).ok_or_else(|| absent(name))?;
            let program: &mut BtfTracePoint = program.try_into().map_err(refused)?;
            persist(|| program.load(tracepoint, &btf), interrupted).map_err(refused)?;
            program.attach().map_err(refused)?;
        }
        let mut map = |name| programs.take_map(name).ok_or_else(|| absent(name));
        Ok(Kernel {
            calls: HashMap::try_from(map("calls")?).map_err(unmapped)?,
            ports: Mutex::new(HashMap::try_from(map("ports")?).map_err(unmapped)?),
            peers: Mutex::new(HashMap::try_from(map("peers")?).map_err(unmapped)?),
            lost: Array::try_from(map("lost")?).map_err(unmapped)?,
            _programs: programs,
        })
    }

    /// What is known of the newest call on a connection.
    pub(super) fn call(&self, key: &Key) -> Option<Record> {
        let words = self.calls.get(key, 0).ok()?;
        Some(Record::read(&words))
    }

    /// Has the programs look at a port. `false`: there are too many.
    pub(super) fn watch(&self, port: u16, role: Role) -> bool {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.insert(u32::from(port), role as u32, 0).is_ok()
    }

    /// Has them look at it no more.
    pub(super) fn forget(&self, port: u16) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        // Not there: as wished.
        let _ = ports.remove(&u32::from(port));
    }

    /// Has the programs look at the app's end of a unix connection, by the cookie of hopspan's. `false`: too many.
    pub(super) fn watch_peer(&self, cookie: u64) -> bool {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.insert(cookie, Role::App as u32, 0).is_ok()
    }

    /// Has them look at it no more.
    pub(super) fn forget_peer(&self, cookie: u64) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // Not there: as wished.
        let _ = peers.remove(&cookie);
    }

    /// What the programs could not note for lack of memory, so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.get(&0, 0).unwrap_or(0)
    }
}

/// The running kernel's types.
fn types() -> Result<Btf, Obstacle> {
    Btf::from_sys_fs().map_err(|error| match error {
        BtfError::FileError { .. } => Obstacle::NoBtf,
        other => failed(other),
    })
}

fn failed(error: impl std::fmt::Display) -> Obstacle {
    Obstacle::Failed(error.to_string())
}

fn absent(name: &str) -> Obstacle {
    Obstacle::Failed(format!("{name} is not in the object"))
}

fn unmapped(error: MapError) -> Obstacle {
    match error {
        MapError::CreateError { io_error, .. } => denied(&io_error, ""),
        other => failed(other),
    }
}

fn obstacle(error: EbpfError) -> Obstacle {
    match error {
        EbpfError::MapError(error) => unmapped(error),
        EbpfError::BtfError(BtfError::LoadError { io_error, .. }) => denied(&io_error, ""),
        other => failed(chain(&other)),
    }
}

/// Whether a signal that waits for this thread ended the verifier's work: that is no verdict.
fn interrupted(error: &ProgramError) -> bool {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.raw_os_error() == Some(libc::EAGAIN),
        _ => false,
    }
}

/// Tries up to [`TRIES`] times, while the outcome is none.
fn persist<E>(mut load: impl FnMut() -> Result<(), E>, none: fn(&E) -> bool) -> Result<(), E> {
    for _ in 1..TRIES {
        match load() {
            Err(error) if none(&error) => {}
            outcome => return outcome,
        }
    }
    load()
}

fn refused(error: ProgramError) -> Obstacle {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => denied(&io_error, &verifier_log.to_string()),
        ProgramError::SyscallError(error) => denied(&error.io_error, ""),
        ProgramError::Btf(BtfError::UnknownBtfTypeName { .. }) => {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
            let kernel = release.map_or_else(|_| "?".to_owned(), |text| text.trim().to_owned());
            Obstacle::NoTracepoint { kernel }
        }
        other => failed(chain(&other)),
    }
}

/// What an error of bpf(2) means, given what the verifier said.
fn denied(error: &io::Error, log: &str) -> Obstacle {
    match error.raw_os_error() {
        _ if locked_down() => Obstacle::Lockdown,
        Some(libc::EPERM) if log.trim().is_empty() => Obstacle::Forbidden,
        Some(libc::ENOSYS) => Obstacle::Forbidden,
        Some(libc::ENOMEM) => Obstacle::Memory,
        _ => match verdict(log) {
            Some(line) => Obstacle::Verifier(line),
            None => failed(error),
        },
    }
}

/// The line in which the verifier says what it does not like: the last one that is no statistics.
fn verdict(log: &str) -> Option<String> {
    let said = |line: &&str| {
        !line.trim().is_empty()
            && !line.starts_with("processed ")
            && !line.starts_with("verification time")
            && !line.starts_with("stack depth")
    };
    log.lines().rev().find(said).map(str::to_owned)
}

fn locked_down() -> bool {
    let mode = std::fs::read_to_string("/sys/kernel/security/lockdown");
    mode.is_ok_and(|mode| mode.contains("[confidentiality]"))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The running kernel's types, but for one tracepoint: as before Linux 6.3.
    fn without(tracepoint: &str) -> Result<Btf, Obstacle> {
        let mut types = std::fs::read("/sys/kernel/btf/vmlinux").map_err(|_| Obstacle::NoBtf)?;
        let name = format!("\0btf_trace_{tracepoint}\0");
        let at = types.windows(name.len()).position(|w| w == name.as_bytes());
        let last = at.expect("its type is named once") + name.len() - 2;
        types[last] = b'_';
        Btf::parse(&types, aya::Endianness::default()).map_err(failed)
    }

    #[test]
    fn an_outcome_that_is_none_is_asked_for_again() {
        for (nones, last, calls, outcome) in [
            (0, Ok(()), 1, Ok(())),
            (3, Ok(()), 4, Ok(())),
            (3, Err("no"), 4, Err("no")),
            (TRIES, Ok(()), TRIES, Err("interrupted")),
        ] {
            let mut called = 0;
            let load = || {
                called += 1;
                if called <= nones {
                    Err("interrupted")
                } else {
                    last
                }
            };
            let seen = persist(load, |error| *error == "interrupted");
            assert_eq!((seen, called), (outcome, calls));
        }
    }

    #[test]
    fn a_kernel_without_the_tracepoints_is_refused_for_that() {
        let mut rows = 0;
        for (_, tracepoint) in PROGRAMS {
            let refused = Kernel::load_for(|| without(tracepoint)).err();
            match refused.expect("it cannot work") {
                Obstacle::NoTracepoint { kernel } => assert!(!kernel.is_empty()),
                why @ (Obstacle::Capability { .. } | Obstacle::NoBtf | Obstacle::Forbidden) => {
                    let required = std::env::var_os("HOPSPAN_TEST_THREAD_RUNG").is_some();
                    assert!(!required, "this machine allows it: {}", why.why());
                    println!("SKIPPED: {}", why.why());
                }
                other => panic!("{tracepoint}: {other:?}"),
            }
            rows += 1;
        }
        assert_eq!(rows, 3);
    }
}

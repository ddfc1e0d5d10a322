//! Wrap mode: the app as hopspan's child (`hopspan run --app ... -- gunicorn shop.wsgi`).
//!
//! The child gets its own process group, the proxy variables that send its calls through the outbound listener
//! ([`environment`]), and the terminal if hopspan has it. Signals go to the child itself, as with `tini`, not to its
//! group: servers pass them on to their workers in their own order. Orphans of the child are adopted and reaped
//! (`PR_SET_CHILD_SUBREAPER`), and the child gets TERM if hopspan is killed (`PR_SET_PDEATHSIG`; TERM rather than
//! KILL, so that it can stop its own workers). What the child returns is passed on as a shell would: its code,
//! 128+n for a signal, 127 not found, 126 not executable.
//!
//! Being an ancestor also lets the join read the app's `/proc` entries where Yama restricts ptrace.
//!
//! It does not decide when to stop: the sidecar does, and calls [`Child::terminate`].

pub mod descriptors;
pub mod environment;
mod reaper;
pub mod shim;
mod signals;
mod sys;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use environment::{Environment, ProxyConflict};
use reaper::{State, Watched};
pub use signals::{Signal, Signals};

/// How a command is wrapped.
#[derive(Clone, Debug)]
pub struct WrapOptions {
    /// Where the outbound listener is; an unspecified address becomes the loopback one.
    pub proxy: SocketAddr,
    /// Also set `HTTPS_PROXY`: calls over TLS become CONNECT tunnels through hopspan, each with a span but no header.
    pub https_proxy: bool,
    /// Leave proxy variables that are already set as they are, instead of refusing to start.
    pub keep_proxy: bool,
    /// Adopt and reap the orphans of the child. Every child of this process is reaped then: leave it off in a process
    /// that has children of its own.
    pub reap_orphans: bool,
    /// Variables set for the child besides the proxy's.
    pub extra_env: Vec<(OsString, OsString)>,
    /// Variables of ours that the child does not get.
    pub unset: &'static [&'static str],
    /// The soft limit of descriptors that the child gets; `None`: ours. See [`descriptors::take`].
    pub descriptors: Option<u64>,
}

impl WrapOptions {
    /// The defaults of `hopspan run -- COMMAND` with the outbound listener at `proxy`.
    pub fn new(proxy: SocketAddr) -> WrapOptions {
        WrapOptions {
            proxy,
            https_proxy: false,
            keep_proxy: false,
            reap_orphans: true,
            extra_env: Vec::new(),
            unset: &[],
            descriptors: None,
        }
    }
}

/// Why a command could not be started, in words a user can act on.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No command was given.
    #[error("no command to run: write it after `--`, as in `hopspan run -- gunicorn shop.wsgi`")]
    Empty,
    /// A proxy variable is set already.
    #[error(transparent)]
    Proxy(#[from] ProxyConflict),
    /// There is no such program (a shell's 127).
    #[error("`{0}` was not found: {1}")]
    NotFound(String, &'static str),
    /// There is such a file, and it cannot be executed (a shell's 126).
    #[error("`{0}` cannot be executed: {1}")]
    NotExecutable(String, &'static str),
    /// The system refused for another reason.
    #[error("`{0}` could not be started: {1}")]
    System(String, #[source] io::Error),
}

impl SpawnError {
    /// The exit code a shell would give: 127 not found, 126 not executable, 2 for a mistake in the call, else 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            SpawnError::NotFound(..) => ExitCode(127),
            SpawnError::NotExecutable(..) => ExitCode(126),
            SpawnError::Empty | SpawnError::Proxy(_) => ExitCode(2),
            SpawnError::System(..) => ExitCode(1),
        }
    }

    fn from_io(program: &std::ffi::OsStr, error: io::Error) -> SpawnError {
        let name = program.to_string_lossy().into_owned();
        let is_path = name.contains('/');
        match error.kind() {
            io::ErrorKind::NotFound if is_path && std::path::Path::new(program).exists() => {
                SpawnError::NotExecutable(name, "the interpreter in its first line does not exist")
            }
            io::ErrorKind::NotFound if is_path => SpawnError::NotFound(name, "no such file"),
            io::ErrorKind::NotFound => SpawnError::NotFound(name, "it is in no directory of PATH"),
            io::ErrorKind::PermissionDenied if std::path::Path::new(program).is_dir() => {
                SpawnError::NotExecutable(name, "it is a directory")
            }
            io::ErrorKind::PermissionDenied => {
                SpawnError::NotExecutable(name, "permission denied; `chmod +x` may be missing")
            }
            _ => SpawnError::System(name, error),
        }
    }
}

/// What the child returned, as a shell reports it: its code, or 128 plus the signal that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(pub u8);

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code.0)
    }
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A running command. When dropped, what remains of its process group is killed, itself included.
pub struct Child {
    watched: Arc<Watched>,
    state: watch::Receiver<State>,
    notes: Vec<String>,
    reaps_orphans: bool,
}

impl Child {
    /// Starts `command` as the leader of its own process group. Waits until it was executed or refused.
    ///
    /// Create [`Signals`] before, so that no signal falls between.
    pub fn spawn(command: &[OsString], options: &WrapOptions) -> Result<Child, SpawnError> {
        let program = command.first().ok_or(SpawnError::Empty)?;
        let environment = Environment::prepare(options, |name| std::env::var_os(name))?;
        let mut prepared = std::process::Command::new(program);
        for passed_to_us in options.unset {
            prepared.env_remove(passed_to_us);
        }
        prepared
            .args(command.iter().skip(1))
            .envs(environment.set)
            .envs(options.extra_env.iter().map(|(name, value)| (name, value)));
        if let Some(soft) = options.descriptors {
            sys::give_descriptors(&mut prepared, soft);
        }
        let (watched, state) = reaper::start(prepared, options.reap_orphans)
            .map_err(|error| SpawnError::from_io(program, error))?;
        Ok(Child {
            watched,
            state,
            notes: environment.notes,
            reaps_orphans: options.reap_orphans,
        })
    }

    /// The process ID, which is also its process group's.
    pub fn pid(&self) -> u32 {
        self.watched.pid()
    }

    /// What a user should know about the environment the child got (say, that its calls bypass hopspan).
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Waits until the child is gone. May be called again, and dropped while it waits.
    pub async fn wait(&self) -> ExitCode {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.code.is_some()).await {
            Ok(state) => state.code.unwrap_or(ExitCode(1)),
            // The reaper ended without a code: somebody else took it.
            Err(_) => ExitCode(1),
        }
    }

    /// Sends a signal to the child itself. False if it is gone already.
    pub fn signal(&self, signal: Signal) -> bool {
        self.watched.signal(signal.number())
    }

    /// Sends TERM and waits; after `grace` the whole group is killed. What a child leaves in its group when it ends
    /// is told to stop too, and killed at the end of `grace`. Returns the child's code.
    pub async fn terminate(&self, grace: Duration) -> ExitCode {
        let deadline = Instant::now() + grace;
        self.signal(Signal::Terminate);
        let code = match timeout_at(deadline, self.wait()).await {
            Ok(code) => code,
            Err(_) => {
                self.kill();
                self.wait().await
            }
        };
        self.sweep(deadline).await;
        code
    }

    /// Kills the child and its group at once.
    pub fn kill(&self) {
        self.watched.signal_group(libc::SIGKILL, self.reaps_orphans);
    }

    /// TERM, then KILL at the deadline, to what is left of the group of a child that is gone.
    async fn sweep(&self, deadline: Instant) {
        let mut state = self.state.clone();
        if !self.watched.signal_group(libc::SIGTERM, self.reaps_orphans) {
            return;
        }
        let emptied = async {
            // Every reaped orphan is a change; the reaper ends with the last of them.
            while self.watched.group_remains() && state.changed().await.is_ok() {}
        };
        if timeout_at(deadline, emptied).await.is_err() {
            self.kill();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether this process is an ancestor of `pid`: what Yama's `ptrace_scope` 1 asks for. False where /proc is missing.
pub fn is_ancestor(pid: u32) -> bool {
    let own = std::process::id();
    let mut current = pid;
    // Bounded, since parents change while we walk.
    for _ in 0..64 {
        match parent_of(current) {
            Some(parent) if parent == own => return true,
            Some(parent) if parent > 1 => current = parent,
            _ => return false,
        }
    }
    false
}

/// The parent of a process, by the fourth field of /proc/PID/stat (the second may hold spaces and brackets).
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

//! Another program: its own process group, its output as lines, its end as a code; killed with its group on drop.

#![allow(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::watch;

use super::journal::Journal;
use super::within;

/// How long the output of a program that has ended is read on. Its end comes with its last byte, but where something that
/// it left behind holds its pipes.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A line that a program wrote.
#[derive(Clone, Debug)]
struct Line {
    text: String,
    is_error: bool,
}

/// A running program.
pub(crate) struct Process {
    pid: u32,
    lines: Journal<Line>,
    exit: watch::Receiver<Option<i32>>,
    stdin: Option<std::process::ChildStdin>,
    what: String,
}

impl Process {
    /// Starts it, in a group of its own. Its proxy variables are ours to set, so those of this shell are removed.
    pub(crate) fn start(mut command: Command) -> Process {
        take_descriptors();
        for name in [
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "NO_PROXY",
            "ALL_PROXY",
        ] {
            if command.get_envs().all(|(known, _)| known != name) {
                command.env_remove(name);
            }
        }
        let what = format!("{command:?}");
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: prctl is async-signal-safe and takes no pointers here.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
                Ok(())
            });
        }
        let lines = Journal::default();
        let (tell_exit, exit) = watch::channel(None);
        let (tell, started) = mpsc::channel();
        let output = lines.clone();
        // The thread that forks lives until the end: PDEATHSIG is tied to it.
        std::thread::spawn(move || {
            let mut child = command.spawn().unwrap();
            let readers = [
                read(child.stdout.take().unwrap(), output.clone(), false),
                read(child.stderr.take().unwrap(), output, true),
            ];
            tell.send((child.id(), child.stdin.take())).unwrap();
            // wait() would close stdin; it is not ours any more, so it does not.
            let status = child.wait().unwrap();
            // Its last words come before its end; but what it left behind may hold the pipes for ever.
            let (tell_read, all_read) = mpsc::channel::<()>();
            std::thread::spawn(move || {
                for reader in readers {
                    reader.join().unwrap();
                }
                drop(tell_read);
            });
            let _ = all_read.recv_timeout(LAST_WORDS);
            let code = status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap());
            let _ = tell_exit.send(Some(code));
        });
        let (pid, stdin) = started
            .recv()
            .unwrap_or_else(|_| panic!("{what} did not start"));
        Process {
            pid,
            lines,
            exit,
            stdin,
            what,
        }
    }

    /// The process ID, which is its group's too.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for a line of stdout or stderr that contains `text`, and returns it.
    pub(crate) async fn line(&self, text: &str) -> String {
        let what = format!("a line with `{text}` from {}", self.what);
        let find = |lines: &[Line]| lines.iter().find(|line| line.text.contains(text)).cloned();
        let mut exit = self.exit.clone();
        let line = tokio::select! {
            biased;
            line = self.lines.until(&what, find) => Some(line),
            _ = exit.wait_for(Option::is_some) => find(&self.lines.all()),
        };
        let line = line.unwrap_or_else(|| {
            let code = exit.borrow().unwrap();
            panic!(
                "{} ended with {code} before `{text}`:\n{}",
                self.what,
                self.output()
            )
        });
        line.text
    }

    /// Waits for so many lines of stdout or stderr that contain `text`.
    pub(crate) async fn lines(&self, text: &str, count: usize) {
        let what = format!("{count} lines with `{text}` from {}", self.what);
        let find = |lines: &[Line]| {
            let found = lines.iter().filter(|line| line.text.contains(text));
            (found.count() >= count).then_some(())
        };
        self.lines.until(&what, find).await;
    }

    /// What it wrote so far, both streams.
    pub(crate) fn output(&self) -> String {
        self.text(|_| true)
    }

    /// What it wrote to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        self.text(|line| !line.is_error)
    }

    /// What it wrote to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.text(|line| line.is_error)
    }

    fn text(&self, wanted: impl Fn(&Line) -> bool) -> String {
        let lines = self.lines.all().into_iter().filter(|line| wanted(line));
        lines.map(|line| line.text + "\n").collect()
    }

    /// Waits for its end: the code, or 128 plus the signal.
    pub(crate) async fn exit(&self) -> i32 {
        let mut exit = self.exit.clone();
        let ended = async { exit.wait_for(Option::is_some).await.unwrap().unwrap() };
        within(&format!("the end of {}", self.what), ended).await
    }

    /// Writes to its stdin.
    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Sends a signal to it alone.
    pub(crate) fn signal(&self, signal: i32) {
        if self.exit.borrow().is_none() {
            signal_process(self.pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also after its own end: what it left in its group goes with it.
        if let Ok(group) = i32::try_from(self.pid) {
            // SAFETY: killpg takes no pointers.
            unsafe { libc::killpg(group, libc::SIGKILL) };
        }
    }
}

/// Makes a command inherit these sockets, as descriptors 3 and on.
pub(crate) fn pass(command: &mut Command, sockets: &[&OwnedFd]) {
    // Out of the way of the numbers they get. They live as long as the command, which is until it has started.
    let copies: Vec<OwnedFd> = sockets
        .iter()
        // SAFETY: the descriptor is open, and the copy is nobody else's.
        .map(|fd| unsafe {
            OwnedFd::from_raw_fd(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100))
        })
        .collect();
    // SAFETY: dup2 is async-signal-safe; nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            for (at, copy) in (3..).zip(&copies) {
                if libc::dup2(copy.as_raw_fd(), at) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

/// Takes all the descriptors that this process may have: a shell often gives 1024, which a thousand clients are too many
/// for, and its hard limit is far above. What is started from then on has as many.
pub(crate) fn take_descriptors() {
    static TAKEN: std::sync::Once = std::sync::Once::new();
    TAKEN.call_once(|| {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `limit` is live for both calls.
        unsafe {
            if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            }
        }
    });
}

/// Sends a signal to any process.
pub(crate) fn signal_process(pid: u32, signal: i32) {
    // SAFETY: kill takes no pointers.
    unsafe { libc::kill(i32::try_from(pid).unwrap(), signal) };
}

/// The state letter of a process in /proc (`R`, `S`, `Z`, ...), its parent and its process group; None if it is gone.
pub(crate) fn stat(pid: u32) -> Option<(char, u32, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    Some((
        fields.next()?.chars().next()?,
        fields.next()?.parse().ok()?,
        fields.next()?.parse().ok()?,
    ))
}

fn read(
    stream: impl Read + Send + 'static,
    lines: Journal<Line>,
    is_error: bool,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).into_owned();
            lines.push(Line { text, is_error });
        }
    })
}

/// CPU time of the calling thread, in nanoseconds.
pub(crate) fn thread_cpu() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live timespec that the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

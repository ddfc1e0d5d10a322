//! Whether the thread rung works here, and if not, exactly why: for the start line, `/correlation` and `doctor`.
//!
//! It only names things: [`super::thread`] finds them out.

/// Whether the thread rung works here. Prints as `thread: ready` or `thread: off: <why> — <what to do>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Its programs are in the kernel and see the app.
    Ready,
    /// They are being loaded: takes a fraction of a second, once.
    Starting,
    /// No call is joined by it.
    Off(Obstacle),
}

/// Why the thread rung does not work. [`Obstacle::code`] is stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// `correlation.thread: false`.
    Disabled,
    /// hopspan's process lacks what bpf(2) asks for.
    Capability {
        /// CAP_BPF is missing.
        bpf: bool,
        /// CAP_PERFMON is missing.
        perfmon: bool,
    },
    /// The kernel does not describe its types: `/sys/kernel/btf/vmlinux` is not there or cannot be read.
    NoBtf,
    /// The kernel has no tracepoints `sock_recv_length` and `sock_send_length`: it is older than 6.3.
    NoTracepoint {
        /// Its release, as `uname -r` says it.
        kernel: String,
    },
    /// The kernel is locked down to `confidentiality`: no program may read its memory.
    Lockdown,
    /// No memory for maps and programs: RLIMIT_MEMLOCK (before 5.11) or the memory limit of the control group.
    Memory,
    /// Refused although the capabilities are there: seccomp, a security module, or the user namespace.
    Forbidden,
    /// The kernel's verifier refused a program: it is not built as those that this was tested with.
    Verifier(String),
    /// Another error of the kernel, or of reading its types.
    Failed(String),
    /// It once gave another parent than a stronger rung, so it is not believed any more.
    Disagreed,
}

impl Availability {
    /// What hinders it, if something does.
    pub fn obstacle(&self) -> Option<&Obstacle> {
        match self {
            Availability::Off(obstacle) => Some(obstacle),
            _ => None,
        }
    }
}

impl Obstacle {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Obstacle::Disabled => "disabled",
            Obstacle::Capability { .. } => "capability",
            Obstacle::NoBtf => "no_btf",
            Obstacle::NoTracepoint { .. } => "no_tracepoint",
            Obstacle::Lockdown => "lockdown",
            Obstacle::Memory => "memory",
            Obstacle::Forbidden => "forbidden",
            Obstacle::Verifier(_) => "verifier",
            Obstacle::Failed(_) => "failed",
            Obstacle::Disagreed => "disagreed",
        }
    }

    /// What is missing, in a few words.
    pub fn why(&self) -> String {
        match self {
            Obstacle::Disabled => "correlation.thread is false".to_owned(),
            Obstacle::Capability { bpf, perfmon } => match (bpf, perfmon) {
                (true, false) => "CAP_BPF is missing".to_owned(),
                (false, true) => "CAP_PERFMON is missing".to_owned(),
                _ => "CAP_BPF and CAP_PERFMON are missing".to_owned(),
            },
            Obstacle::NoBtf => "/sys/kernel/btf/vmlinux cannot be read".to_owned(),
            Obstacle::NoTracepoint { kernel } => {
                format!("kernel {kernel} has no tracepoints sock_recv_length and sock_send_length")
            }
            Obstacle::Lockdown => "the kernel is locked down (confidentiality)".to_owned(),
            Obstacle::Memory => "the kernel gives no memory for it".to_owned(),
            Obstacle::Forbidden => "bpf(2) is forbidden here".to_owned(),
            Obstacle::Verifier(last) => format!("the kernel's verifier refused it: {last}"),
            Obstacle::Failed(error) => error.clone(),
            Obstacle::Disagreed => "it disagreed with a stronger proof".to_owned(),
        }
    }

    /// What would change it.
    pub fn fix(&self) -> &'static str {
        match self {
            Obstacle::Disabled => "set correlation.thread: true and restart",
            Obstacle::Capability { .. } => {
                "give hopspan CAP_BPF and CAP_PERFMON (it drops both once it has loaded)"
            }
            Obstacle::NoBtf => "use a kernel with CONFIG_DEBUG_INFO_BTF, and mount /sys",
            Obstacle::NoTracepoint { .. } => {
                "use Linux 6.3 or later; there is no variant for older kernels"
            }
            Obstacle::Lockdown => "boot with lockdown=integrity or none",
            Obstacle::Memory => "raise the memory limit of hopspan's container by some MiB",
            Obstacle::Forbidden => "allow bpf(2) in the seccomp profile and the security module",
            Obstacle::Verifier(_) | Obstacle::Failed(_) => "report it with the output of uname -r",
            Obstacle::Disagreed => "report it; restart hopspan to try again",
        }
    }
}

impl std::fmt::Display for Availability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Availability::Ready => f.write_str("thread: ready"),
            Availability::Starting => f.write_str("thread: starting"),
            Availability::Off(obstacle) => {
                write!(f, "thread: off: {} — {}", obstacle.why(), obstacle.fix())
            }
        }
    }
}

//! What a process costs: CPU time and memory of hopspan, CPU time of one thread of ours, by `/proc`.

use std::path::Path;
use std::time::Duration;

/// CPU time that the threads of a process have used; of those that ended, none.
pub(crate) fn cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| on_cpu(&task.unwrap().path())).sum()
}

/// CPU time that this thread has used.
pub(crate) fn own_cpu() -> Duration {
    on_cpu(Path::new("/proc/thread-self"))
}

/// The first number of `schedstat`: nanoseconds on a CPU. A thread that has just ended counts nothing.
fn on_cpu(task: &Path) -> Duration {
    let text = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// A field of `/proc/PID/status` in KiB: `VmRSS` now, `VmHWM` at most.
pub(crate) fn memory(pid: u32, field: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Open descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

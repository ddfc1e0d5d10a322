//! This host as the process that looks sees it: kernel, BTF, Yama, user, capabilities. Reads `/proc` and `/sys` only.

use std::fs;
use std::path::Path;

use super::facts::Host;

/// The capabilities that rungs need, by their bit (`linux/capability.h`).
const CAPABILITIES: [(u32, &str); 5] = [
    (2, "CAP_DAC_READ_SEARCH"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

/// What `root` (`/`, or a folder that looks like it) shows.
pub(super) fn look(root: &Path) -> Host {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let status = read("proc/self/status");
    let field = |name: &str, at: usize| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_ascii_whitespace().nth(at))
    };
    let effective = field("CapEff:", 0).and_then(|bits| u64::from_str_radix(bits, 16).ok());
    let has = |bit: u32| effective.unwrap_or(0) & (1 << bit) != 0;
    Host {
        kernel: read("proc/sys/kernel/osrelease").trim().to_owned(),
        machine: std::env::consts::ARCH.to_owned(),
        btf: root.join("sys/kernel/btf/vmlinux").exists(),
        yama: read("proc/sys/kernel/yama/ptrace_scope")
            .trim()
            .parse()
            .ok(),
        user: field("Uid:", 1)
            .and_then(|user| user.parse().ok())
            .unwrap_or_default(),
        capabilities: CAPABILITIES
            .iter()
            .filter(|(bit, _)| has(*bit))
            .map(|(_, name)| *name)
            .collect(),
    }
}

/// Whether a file is mounted by Kubernetes' subPath: then it is a mount point of its own, of such a source.
pub(super) fn is_sub_path(root: &Path, file: &Path) -> bool {
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    mounts.lines().any(|line| {
        // Number, parent, device, root within the file system, mount point.
        let mut fields = line.split(' ').skip(3);
        let source = fields.next().unwrap_or_default();
        let at = fields.next().unwrap_or_default();
        source.contains("volume-subpaths") && Path::new(at) == file
    })
}

#[cfg(test)]
mod tests;

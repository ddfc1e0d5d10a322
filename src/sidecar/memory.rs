//! Memory: what hopspan has, what it may have, and what it does when the two come near each other.
//!
//! The limit is the control group's (v1 and v2), unless the config has its own. From 85 % of it on, what can be given back
//! is: idle upstream connections, and three quarters of the span queue. From 95 % on, nothing new is taken
//! ([`Pressure`]), and clients' connections that have been idle for longest are closed. Counted is what is resident, what
//! the kernel has for connections, and what requests in hand may still come to. Only hopspan's own memory is looked at: what
//! the app takes of a limit they share is not for hopspan to give back.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::MemoryLimit;
use crate::export::Queue;
use crate::proxy::pool::Pool;
use crate::proxy::pressure::{Level, Pressure};
use crate::routing::Table;
use crate::telemetry::{Code, Metrics};

/// Between two looks; and where memory is [`NEAR`], since a flood may take a tenth of it in a second.
const LOOK: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(50);
/// Percentage of the limit.
const NEAR: u64 = 60;
/// Between two looks at the control group: its limit seldom changes.
const GROUP: Duration = Duration::from_secs(30);
/// Large heads that are not whole may take this part of the limit: who has no such head is served.
const HEADS: u64 = 8;
/// Where control groups are.
const MOUNTED: &str = "/sys/fs/cgroup";

/// Percentages of the limit at which a level begins; and ends, so that it does not come and go all the time.
const LEVELS: [(Level, u64, u64); 2] = [(Level::Out, 95, 90), (Level::Tight, 85, 80)];

/// Who gives memory back, and who is told.
pub(super) struct Memory {
    pub(super) pressure: Arc<Pressure>,
    pub(super) pools: [Arc<Pool>; 2],
    pub(super) queue: Arc<Queue>,
    pub(super) table: Arc<Table>,
    pub(super) metrics: Arc<Metrics>,
}

impl Memory {
    /// Looks every second or more often, when the config changes and when there is no room, until `stop`.
    pub(super) async fn watch(self, stop: CancellationToken) {
        let mut generations = self.table.generations();
        let (mut level, mut asked) = (Level::Ease, None::<Instant>);
        let looker = Arc::new(self.looker());
        let looking = Arc::downgrade(&looker);
        self.pressure.on_full(move || {
            if let Some(looker) = looking.upgrade() {
                looker.look();
            }
        });
        loop {
            if asked.is_none_or(|asked| asked.elapsed() >= GROUP) {
                let group = group_limit(Path::new(MOUNTED), &own_groups());
                looker.group.store(group.unwrap_or(0), Ordering::Relaxed);
                asked = Some(Instant::now());
            }
            let near = self.act(&mut level, &looker.look());
            tokio::select! {
                () = tokio::time::sleep(if near { SOON } else { LOOK }) => {}
                // An error: it changes no more. The sleep of the next round is what is left then.
                Ok(()) = generations.changed() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn looker(&self) -> Looker {
        Looker {
            pressure: self.pressure.clone(),
            table: self.table.clone(),
            metrics: self.metrics.clone(),
            group: AtomicU64::new(0),
        }
    }

    /// Gives back what can be; whether the limit is near.
    fn act(&self, before: &mut Level, seen: &Seen) -> bool {
        let (level, limit) = (seen.level, seen.limit.unwrap_or(0));
        if level > *before {
            let (code, used, counted) = (Code::MemoryShort, seen.used, seen.counted);
            tracing::warn!(code = %code, used, counted, limit, "near limits.memory: gives back what it can");
        }
        *before = level;
        if level > Level::Ease {
            self.pools.iter().for_each(|pool| pool.close_idle());
        }
        if level == Level::Out {
            self.pressure.tell_out();
        }
        self.queue.tighten(level > Level::Ease);
        seen.limit
            .is_some_and(|limit| reaches(seen.counted, limit, NEAR))
    }
}

/// What looks at memory.
struct Looker {
    pressure: Arc<Pressure>,
    table: Arc<Table>,
    metrics: Arc<Metrics>,
    /// The control group's limit; 0: none.
    group: AtomicU64,
}

/// What was seen.
struct Seen {
    level: Level,
    used: u64,
    counted: u64,
    limit: Option<u64>,
}

impl Looker {
    /// Sets the level, and what may be let in until the next look.
    fn look(&self) -> Seen {
        let group = Some(self.group.load(Ordering::Relaxed)).filter(|group| *group > 0);
        let limit = match self.table.load().limits.memory {
            MemoryLimit::Auto => group,
            MemoryLimit::Off => None,
            MemoryLimit::Bytes(bytes) => u64::try_from(bytes).ok(),
        };
        let used = resident().unwrap_or(0);
        let upstream = usize::try_from(self.metrics.upstream_connections_open.get()).unwrap_or(0);
        let counted = used.saturating_add(self.pressure.beside(upstream));
        let before = self.pressure.level();
        let level = limit.map_or(Level::Ease, |limit| after(before, counted, limit));
        let [(_, out, _), _] = LEVELS;
        // Half is for those who come, half for what those who are here read.
        let half = limit.map(|limit| (limit / 100 * out).saturating_sub(counted) / 2);
        self.pressure.set(level, half.map_or(i64::MAX, show));
        let heads = limit.and_then(|limit| usize::try_from(limit / HEADS).ok());
        self.pressure.heads_up_to(heads.unwrap_or(usize::MAX));
        let share = half.map_or(0, |half| self.pressure.share(half).max(1));
        self.metrics.content_read_bytes.set(show(share));
        self.metrics.memory_bytes.set(show(used));
        self.metrics
            .memory_limit_bytes
            .set(show(limit.unwrap_or(0)));
        self.metrics.memory_pressure.set(level as i64);
        Seen {
            level,
            used,
            counted,
            limit,
        }
    }
}

fn show(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The level at so many bytes of `limit`, after one at another.
fn after(before: Level, used: u64, limit: u64) -> Level {
    let level = LEVELS.into_iter().find(|(level, begin, end)| {
        let stays = before >= *level;
        reaches(used, limit, if stays { *end } else { *begin })
    });
    level.map_or(Level::Ease, |(level, ..)| level)
}

fn reaches(used: u64, limit: u64, percent: u64) -> bool {
    u128::from(used) * 100 >= u128::from(limit) * u128::from(percent)
}

/// Bytes of this process in memory, its own and those of files.
fn resident() -> Option<u64> {
    // In a buffer of our own: this is read all the time.
    let mut text = [0; 4096];
    let mut file = File::open("/proc/self/status").ok()?;
    let length = file.read(&mut text).ok()?;
    kilobytes(text.get(..length)?).map(|kilobytes| kilobytes * 1024)
}

fn kilobytes(status: &[u8]) -> Option<u64> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(b"VmRSS:"))?;
    let value = std::str::from_utf8(value).ok()?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn own_groups() -> String {
    std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// The smallest limit of the control groups that `own` (as `/proc/self/cgroup` has it) names, and of those above them.
/// A group that a container does not see is passed over, up to the one that it sees as the root.
fn group_limit(mounted: &Path, own: &str) -> Option<u64> {
    let groups = own.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        match controllers {
            "" => Some((mounted.to_owned(), "memory.max", group)),
            _ if controllers.split(',').any(|one| one == "memory") => {
                Some((mounted.join("memory"), "memory.limit_in_bytes", group))
            }
            _ => None,
        }
    });
    let limits = groups.flat_map(|(root, file, group)| {
        let path = root.join(group.trim_start_matches('/'));
        let above = path.ancestors().take_while(|path| path.starts_with(&root));
        let limits = above.filter_map(|path| std::fs::read_to_string(path.join(file)).ok());
        limits.collect::<Vec<_>>()
    });
    // `max`, and with v1 a number that no machine has, are none.
    let bytes = limits.filter_map(|text| text.trim().parse::<u64>().ok());
    bytes.filter(|bytes| *bytes < 1 << 60).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_smallest_limit_of_those_above_it() {
        type Files = &'static [(&'static str, &'static str)];
        let rows: [(&str, Files, Option<u64>); 8] = [
            // In a container that has its own view of groups, v2.
            (
                "0::/\n",
                &[("memory.max", "134217728\n")],
                Some(134_217_728),
            ),
            ("0::/\n", &[("memory.max", "max\n")], None),
            // On a host: the pod's is below the container's.
            (
                "0::/kubepods/pod1/app\n",
                &[
                    ("memory.max", "max\n"),
                    ("kubepods/memory.max", "900\n"),
                    ("kubepods/pod1/memory.max", "300\n"),
                    ("kubepods/pod1/app/memory.max", "400\n"),
                ],
                Some(300),
            ),
            // v1, and a group that the container does not see.
            (
                "12:cpu,cpuacct:/docker/1\n7:memory:/docker/1\n",
                &[("memory/memory.limit_in_bytes", "64000\n")],
                Some(64_000),
            ),
            (
                "7:memory:/\n",
                &[("memory/memory.limit_in_bytes", "9223372036854771712\n")],
                None,
            ),
            // Both: memory is with v1.
            (
                "7:memory:/a\n0::/a\n",
                &[("memory/a/memory.limit_in_bytes", "5000\n")],
                Some(5000),
            ),
            ("nonsense\n0::\n", &[], None),
            ("", &[("memory.max", "1\n")], None),
        ];
        for (own, files, expected) in rows {
            let mounted = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = mounted.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            assert_eq!(group_limit(mounted.path(), own), expected, "{own:?}");
        }
    }

    #[test]
    fn a_level_begins_and_ends_at_its_share() {
        use Level::{Ease, Out, Tight};
        let rows = [
            (Ease, 84, Ease),
            (Ease, 85, Tight),
            (Ease, 95, Out),
            (Ease, 1000, Out),
            (Tight, 94, Tight),
            (Tight, 95, Out),
            (Tight, 80, Tight),
            (Tight, 79, Ease),
            (Out, 90, Out),
            (Out, 89, Tight),
            (Out, 79, Ease),
        ];
        for (before, used, expected) in rows {
            assert_eq!(after(before, used, 100), expected, "{before:?} {used}");
        }
        assert_eq!(after(Ease, 0, 0), Out, "nothing is more than it may have");
    }

    #[test]
    fn what_is_resident_is_read() {
        let status = b"Name:\thopspan\nVmRSS:\t    9876 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(kilobytes(status), Some(9876));
        assert_eq!(kilobytes(b"Name:\thopspan\n"), None);
        assert!(resident().unwrap() > 1 << 20);
    }
}

//! Reading a file that somebody may be writing.

use std::path::Path;
use std::time::Duration;

/// A file that is being written is not taken: its content must be the same after this long.
const SETTLED: Duration = Duration::from_millis(20);
/// Looks at a file that keeps changing, before the next round.
const UNSETTLED_LOOKS: usize = 5;
/// The content once two reads agree; `None` for an empty file (a writer has truncated it) and one that keeps changing.
pub(super) fn settled(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut before = std::fs::read(path)?;
    for _ in 0..UNSETTLED_LOOKS {
        std::thread::sleep(SETTLED);
        let now = std::fs::read(path)?;
        if now == before {
            return Ok((!now.is_empty()).then_some(now));
        }
        before = now;
    }
    Ok(None)
}

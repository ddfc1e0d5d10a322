//! How many descriptors hopspan may have: all that the hard limit allows, since a shell's or a container's soft limit is
//! often 1024. What it starts gets the soft limit that hopspan was started with: a program that counts on it (select(2))
//! must not meet another because hopspan is there.

use super::sys;

/// Raises the soft limit of this process to the hard one. What the soft limit was; `None` where nothing was changed.
pub fn take() -> Option<u64> {
    let raised = sys::descriptor_limits().and_then(|(soft, hard)| {
        if soft >= hard {
            return Ok(None);
        }
        sys::limit_descriptors(hard)?;
        Ok(Some(soft))
    });
    raised.unwrap_or_else(|error| {
        tracing::warn!(%error, "the descriptor limit stays as it is (ulimit -n)");
        None
    })
}
